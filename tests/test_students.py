import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinydefects.detector.students import Student, StudentPair, disagreement, pair_loss, train_students
from tinydefects.errors import TrainingError

EAST, NORTH, WEST, NOWHERE = (torch.tensor([vector]) for vector in ([2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, 0.0]))


def batches(n: int, *, dim: int = 6, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches whose later features follow from the earlier ones by one fixed rotation."""
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(dim, dim, generator=generator)).Q
    earlier = [torch.randn(20, dim, generator=generator) for _ in range(n)]
    return [(features, features @ rotation) for features in earlier]


def test_the_published_students_have_1_77_million_weights_each():
    assert sum(weights.numel() for weights in Student(768, 768).parameters()) == 3 * (768 * 768 + 768)


def test_the_hidden_width_is_half_the_sum_of_both_ends():
    student = Student(33, 32)
    assert student.input.out_features == student.output.in_features == 32
    assert student(torch.zeros(2, 5, 33)).shape == (2, 5, 32)


@pytest.mark.parametrize(
    ("expected", "distance"),
    [(EAST, 0.0), (NORTH, math.sqrt(2)), (WEST, 2.0), (NOWHERE, 1.0)],
)
def test_a_patch_scores_the_product_of_two_distances_between_directions(expected, distance):
    score = disagreement(EAST, EAST, expected, WEST)
    assert score.item() == pytest.approx(2.0 * distance)


def test_loss_is_zero_for_right_directions_and_one_more_for_each_right_angle():
    assert pair_loss(EAST, NORTH, 5 * EAST, NORTH / 7).item() == pytest.approx(0.0, abs=1e-6)
    assert pair_loss(EAST, NORTH, NORTH, NORTH).item() == pytest.approx(1.0)
    assert pair_loss(EAST, NORTH, WEST, EAST).item() == pytest.approx(3.0)


def test_loss_is_the_mean_over_all_patches_however_they_are_grouped_in_images():
    earlier, expected = torch.cat([EAST, EAST, EAST, EAST]), torch.cat([EAST, EAST, EAST, NORTH])
    assert pair_loss(earlier, earlier, expected, earlier).item() == pytest.approx(0.25)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-8, 1e-3, 1.0, 1e4]))
def test_disagreement_lies_between_0_and_4(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(4, 2, 3, 5, 6, generator=generator)
    scores = disagreement(*features)
    assert scores.shape == (2, 3, 5)
    assert scores.min() >= 0.0
    assert scores.max() <= 4.0 + 1e-5


def test_disagreement_of_the_pair_is_that_of_each_student_with_its_own_block():
    students = StudentPair(6)
    earlier, later = torch.randn(2, 1, 3, 5, 6, generator=torch.Generator().manual_seed(1))
    by_hand = disagreement(earlier, later, students.to_earlier(later), students.to_later(earlier))
    assert torch.equal(students.disagreement(earlier, later), by_hand)


def test_one_seed_gives_one_result_and_another_seed_another():
    def trained(seed: int) -> torch.Tensor:
        students = StudentPair(6, seed=seed)
        list(train_students(students, [batches(3)] * 2, learning_rate=1e-3))
        return torch.cat([weights.flatten() for weights in students.parameters()])

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


def test_new_students_leave_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    StudentPair(6, seed=5)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.slow
def test_training_learns_a_rotation_and_reports_every_step():
    losses = list(train_students(StudentPair(6), [batches(5)] * 20, learning_rate=3e-2))
    assert [len(epoch) for epoch in losses] == [5] * 20
    assert sum(losses[0]) / 5 > 1.5
    assert sum(losses[-1]) / 5 < 0.2


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_says_where_and_keeps_the_last_finished_epoch(poison):
    good = batches(3)
    ill = [good[0], (good[1][0] * poison, good[1][1]), good[2]]
    expected, students = StudentPair(6), StudentPair(6)
    list(train_students(expected, [good], learning_rate=1e-3))
    with pytest.raises(TrainingError, match=r"epoch 2, step 2: the loss is nan.*epoch 1 are kept: lower learning_rate"):
        list(train_students(students, [good, ill], learning_rate=1e-3))
    for kept, wanted in zip(students.parameters(), expected.parameters(), strict=True):
        assert torch.equal(kept, wanted)


def test_weights_that_explode_in_the_last_step_of_an_epoch_are_not_kept():
    students = StudentPair(6)
    with pytest.raises(TrainingError, match=r"epoch 1, step 1: .*no epoch was finished: lower learning_rate"):
        list(train_students(students, [batches(1)], learning_rate=math.inf))
    assert all(torch.isfinite(weights).all() for weights in students.parameters())


def test_a_loss_that_is_not_finite_counts_even_where_the_weights_stay_finite():
    students, nothing = StudentPair(6), (torch.empty(0, 6), torch.empty(0, 6))  # no patch: no loss, and no gradient
    before = copy.deepcopy(students.state_dict())
    with pytest.raises(TrainingError, match="epoch 1, step 2: the loss is nan"):
        list(train_students(students, [[*batches(1), nothing]], learning_rate=1e-3))
    assert all(torch.equal(weights, before[name]) for name, weights in students.state_dict().items())


@pytest.mark.parametrize(("steps", "taken"), [(2, [2]), (3, [3]), (7, [3, 3, 1]), (None, [3, 3, 3])])
def test_training_ends_after_so_many_steps_within_an_epoch_if_need_be(steps, taken):
    counted, by_hand = StudentPair(6), StudentPair(6)
    losses = list(train_students(counted, [batches(3)] * 3, learning_rate=1e-3, steps=steps))
    assert [len(epoch) for epoch in losses] == taken
    list(train_students(by_hand, [batches(3)[:number] for number in taken], learning_rate=1e-3))
    for weights, expected in zip(counted.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(weights, expected)
