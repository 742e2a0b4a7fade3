"""The training of the built-in teacher: drawn products, closed forms inside the loss, the optimiser, a short run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from draw import World
from materials import load_swatches
from muon import Muon, orthogonalised
from objective import SHRINKAGE, Fit, folds, neighbour_distance, odds_loss, student_error
from tinydefects.detector.teacher import load_teacher

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow  # worlds are drawn


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=5, size=64, pool_size=6)


def test_every_swatch_of_the_sheets_is_a_picture() -> None:
    swatches = load_swatches()
    assert len(swatches) > 1200
    assert {swatch.shape for swatch in swatches} == {(128, 128)}
    assert min(float(swatch.std()) for swatch in swatches) > 0


def test_crops_of_a_product_share_their_design_and_differ_by_shift_and_noise(world: World) -> None:
    def tones(crops: list) -> np.ndarray:
        return np.stack([crop.image.mean((0, 1)) for crop in crops])

    products = [tones(world.product(4)) for _ in range(8)]
    within = np.mean([product.std(0) for product in products])
    across = np.stack([product.mean(0) for product in products]).std(0).mean()
    assert within < across / 2
    first, second = world.product(2)
    assert not np.array_equal(first.image, second.image)


def test_truth_of_a_crop_has_its_shapes_and_agrees_with_itself(world: World) -> None:
    crops = [crop for _ in range(12) for crop in world.product(2)]
    assert {(c.image.shape, c.coverage.shape, c.kind.shape) for c in crops} == {((64, 64, 3), (32, 32), (8, 8))}
    strongest = [crop.coverage.reshape(8, 4, 8, 4).max((1, 3)) for crop in crops]
    marked = [crop.kind > 0 for crop in crops]
    assert any(m.any() for m in marked)
    assert not all(m.any() for m in marked)
    for cover, mark in zip(strongest, marked, strict=True):
        assert not (mark & (cover == 0)).any()  # a patch with a kind has a covered cell


def test_marks_leave_the_design_alone() -> None:
    """However many marks a crop carries, it takes as much from the generator of the design as any other."""
    ends, marked = [], []
    for views in range(1, 9):  # the first draw of all these worlds, hence the design, is the same
        world = World(seed=3, size=64, pool_size=4)
        crops = world.product(views)
        ends.append(world.rng.bit_generator.state)
        marked.append(bool(crops[-1].coverage.any()))
    assert set(marked) == {True, False}
    assert all(end == ends[0] for end in ends)


def test_both_halves_of_a_product_are_learnt_from_and_scored() -> None:
    patches = torch.arange(2 * 4 * 3).float().reshape(8, 3, 1)  # 2 products of 4 views of 3 patches
    learnt, scored = folds(patches, views=4)
    assert learnt.shape == scored.shape == (4, 6, 1)
    assert learnt[0].flatten().tolist() == scored[1].flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert learnt[1].flatten().tolist() == scored[0].flatten().tolist() == [6, 7, 8, 9, 10, 11]


@pytest.fixture
def patches() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit vectors to learn from and to score (2, 40, 5), and which of the first are usable (2, 40)."""
    torch.manual_seed(0)
    learnt, scored = (torch.nn.functional.normalize(torch.randn(2, 40, 5), dim=-1) for _ in range(2))
    return learnt, scored, (torch.arange(40) % 4 > 0).float().expand(2, 40)


def test_neighbour_distance_is_that_of_the_nearest_usable_patch(patches: tuple[torch.Tensor, ...]) -> None:
    learnt, scored, usable = patches
    nearest = (scored @ learnt[:, usable[0] > 0].mT).amax(-1)
    torch.testing.assert_close(
        neighbour_distance(learnt, scored, usable, temperature=1e-3), 1 - nearest, atol=5e-3, rtol=0
    )


def test_gaussian_and_students_equal_their_closed_forms(patches: tuple[torch.Tensor, ...]) -> None:
    learnt, scored, usable = patches
    source = learnt[1][usable[1] > 0].double().numpy()
    covariance = np.cov(source.T, bias=True)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * (np.trace(covariance) / 5 + 1e-5) * np.eye(5)
    centred = scored[1].double().numpy() - source.mean(0)
    expected = np.sqrt(np.einsum("ij,jk,ik->i", centred, np.linalg.inv(shrunk), centred))
    fit = Fit(learnt, usable)
    np.testing.assert_allclose(fit.mahalanobis(scored)[1].numpy(), expected, rtol=1e-3)

    target = scored  # whatever it is: the student predicts it from what was learnt
    inside = target[1][usable[1] > 0].double().numpy()
    cross = (source - source.mean(0)).T @ (inside - inside.mean(0)) / len(source)
    predicted = inside.mean(0) + centred @ np.linalg.inv(shrunk) @ cross
    predicted /= np.linalg.norm(predicted, axis=-1, keepdims=True)
    errors = np.linalg.norm(predicted - target[1].double().numpy(), axis=-1)
    found = student_error(fit, learnt, target, usable, scored, target)[1].numpy()
    np.testing.assert_allclose(found, errors, rtol=1e-3, atol=1e-4)


def test_odds_loss_falls_when_odd_patches_score_higher_and_ignores_what_is_neither() -> None:
    truth = torch.tensor([[0.0] * 30 + [1.0] * 4 + [0.1] * 4])
    base = torch.linspace(0, 1, 38)[None].clone()
    slope, threshold = torch.tensor(1.0), torch.tensor(3.0)
    low, high, between = base.clone(), base.clone(), base.clone()
    low[:, 30:34], high[:, 30:34] = 0.5, 5.0
    between[:, 34:] = 100.0
    assert odds_loss(high, truth, slope, threshold) < odds_loss(low, truth, slope, threshold)
    assert odds_loss(between, truth, slope, threshold) == odds_loss(base, truth, slope, threshold)


def test_muon_moves_a_matrix_as_far_in_every_direction_and_stacks_matrices_of_one_shape() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(3, 16, 24)))
    assert values.min() > 0.5
    assert values.max() < 1.3
    together = [torch.nn.Parameter(torch.randn(16, 16)) for _ in range(2)]
    alone = [torch.nn.Parameter(parameter.detach().clone()) for parameter in together]
    for parameter, other in zip(together, alone, strict=True):
        parameter.grad = torch.randn(16, 16)
        other.grad = parameter.grad.clone()
    Muon(list(together), lr=0.1).step()
    for parameter in alone:
        Muon([parameter], lr=0.1).step()
    for parameter, other in zip(together, alone, strict=True):
        torch.testing.assert_close(parameter, other, atol=1e-5, rtol=1e-4)


def test_training_writes_weights_that_load_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "training" / "train_teacher.py"), "--out", str(tmp_path / "a teacher")]
    sizes = {"products": 1, "views": 2, "crop-px": 64, "first": 1, "kept": 4, "drawers": 1}
    command += ["--device", "cpu", *(f"--{name}={value}" for name, value in sizes.items())]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    outputs = []
    for minutes in ("0.2", "0.3"):
        done = subprocess.run(
            [*command, "--minutes", minutes, "--cooldown-minutes", "0.1"],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "done:" in outputs[0]
    assert "resumed at step" in outputs[1]
    teacher = load_teacher("builtin", weights=tmp_path / "a teacher" / "builtin.safetensors", device="cpu")
    assert teacher.fingerprint != load_teacher("builtin", device="cpu").fingerprint
    odd = subprocess.run([*command, "--views", "3"], capture_output=True, text=True, env=environment, check=False)
    assert (odd.returncode, "--views 3" in odd.stderr) == (2, True)
    wrong = subprocess.run(
        [*command, "--weights", "mood=1"], capture_output=True, text=True, env=environment, check=False
    )
    assert (wrong.returncode, "--weights mood: no part of the objective" in wrong.stderr) == (2, True)
