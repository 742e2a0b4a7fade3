"""Batches give what passes one by one give, in the same order, and hold a bounded number of images."""

import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from command_line import run
from tiny_teachers import TINY_VIT, counting_teacher, tiny_vit
from tinydefects.data.pixels import write_png
from tinydefects.data.predictions import map_path, read_prediction
from tinydefects.datasets.photographs import find_images
from tinydefects.detector.detector import Detector
from tinydefects.detector.passes import score_in_batches
from tinydefects.detector.patch_grid import image_size
from tinydefects.detector.predict_folder import predict_to_disk
from tinydefects.detector.teacher import freeze_teacher
from tinydefects.errors import ImageReadError, NotFittedError, TinyDefectsError
from tinydefects.export.exported import ExportedDetector

LYING, UPRIGHT, SQUARE = (48, 64), (64, 48), (40, 40)
A, B, C, D = 1, 2, 3, 4  # widths of inputs, which make shapes


class Collected:
    """In place of a mosaic: keeps the scores as they came, and whose they are."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.scores: dict[int, np.ndarray] = {}

    def add(self, number: int, scores: np.ndarray) -> None:
        assert number not in self.scores
        self.scores[number] = scores

    @property
    def parts(self) -> list[tuple[int, float]]:
        """Of every pass the width and the number that it was filled with."""
        return [(self.scores[place].shape[-1], float(self.scores[place][0, 0])) for place in range(len(self.scores))]


class Stream:
    """Images made of inputs of the given widths, each filled with a number of its own; remembers what was done."""

    def __init__(self, *images: list[int]) -> None:
        self.images = images
        self.drawn = 0
        self.begun = 0
        self.scored: list[list[int]] = []  # of every batch the widths
        self.most_waiting = 0

    def __iter__(self):
        for number, widths in enumerate(self.images):
            self.begun += 1
            yield Collected(number), self.inputs(number, widths)

    def inputs(self, number: int, widths: list[int]):
        for place, width in enumerate(widths):
            self.drawn += 1
            yield np.full((1, width, 3), 100.0 * number + place)

    def score(self, batch: np.ndarray) -> np.ndarray:
        self.most_waiting = max(self.most_waiting, self.drawn - sum(map(len, self.scored)))
        self.scored.append([batch.shape[2]] * len(batch))
        return batch[..., 0]

    def results(self, batch_size: int) -> list[tuple[int, list[tuple[int, float]]]]:
        """Of every image its number, and of every pass the width and the number that it was filled with."""
        scored = score_in_batches(self, self.score, batch_size=batch_size)
        return [(found.number, found.parts) for found in scored]

    @property
    def expected(self) -> list[tuple[int, list[tuple[int, float]]]]:
        return [
            (number, [(width, 100.0 * number + place) for place, width in enumerate(widths)])
            for number, widths in enumerate(self.images)
        ]


def test_sizes_that_take_turns_wait_for_their_like():
    stream = Stream([A], [B], [A], [B], [A])
    assert stream.results(2) == stream.expected
    assert stream.scored == [[A, A], [B, B], [A]]


def test_tiles_of_neighbouring_images_share_a_batch():
    stream = Stream([A, A, A], [A, A, A])
    assert stream.results(4) == stream.expected
    assert stream.scored == [[A] * 4, [A] * 2]


def test_one_by_one_an_image_is_returned_before_the_next_is_drawn():
    stream = Stream([A, B, A], [B], [A])
    scored = score_in_batches(stream, stream.score, batch_size=1)
    for n_begun, n_drawn in ((1, 3), (2, 4), (3, 5)):
        next(scored)
        assert (stream.begun, stream.drawn) == (n_begun, n_drawn)
    assert stream.most_waiting == 1


def test_images_are_drawn_no_further_than_a_batch_needs():
    stream = Stream(*[[A]] * 100)
    next(score_in_batches(stream, stream.score, batch_size=4))
    assert stream.begun == 4


def test_an_image_of_a_rare_size_is_not_waited_for_longer_than_four_batches_of_images():
    stream = Stream([B], *[[A]] * 100)
    assert next(score_in_batches(stream, stream.score, batch_size=2)).number == 0
    assert stream.begun == 8
    assert stream.scored == [[A, A], [A, A], [A, A], [B]]


def test_the_image_that_reaches_the_bound_may_be_the_one_that_all_others_waited_for():
    stream = Stream([B], *[[A]] * 6, [B], [A])
    assert stream.results(2) == stream.expected
    assert stream.scored == [[A, A], [A, A], [A, A], [B, B], [A]]


def test_of_an_image_of_two_thousand_tiles_only_a_batch_is_held():
    stream = Stream([A] * 2000)
    assert stream.results(8) == stream.expected
    assert stream.most_waiting == 8


@settings(max_examples=80)
@given(
    images=st.lists(st.lists(st.sampled_from([A, B, C, D, 5, 6]), min_size=1, max_size=12), max_size=30),
    batch_size=st.integers(1, 5),
)
def test_order_and_pairing_hold_and_so_do_the_bounds(images, batch_size):
    stream, n_returned, most_begun = Stream(*images), 0, 0
    for found in score_in_batches(stream, stream.score, batch_size=batch_size):
        assert (found.number, found.parts) == stream.expected[n_returned]
        most_begun = max(most_begun, stream.begun - n_returned)
        n_returned += 1
    assert n_returned == len(images)
    assert most_begun <= 4 * batch_size
    assert stream.most_waiting <= 4 * batch_size
    assert max(map(len, stream.scored), default=0) <= batch_size
    assert all(len(set(batch)) == 1 for batch in stream.scored)


def test_what_stops_the_stream_is_raised_after_all_images_before_it():
    def images():
        yield from Stream([A], [B], [A, B, B])
        raise ImageReadError("the fourth is no image")

    scored = score_in_batches(images(), lambda batch: batch[..., 0], batch_size=3)
    assert [next(scored).number for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ImageReadError, match="the fourth is no image"):
        next(scored)


def test_scores_are_let_go_once_they_are_in_the_mosaic():
    class Forgetful(Collected):
        def add(self, number: int, scores: np.ndarray) -> None:
            seen.append(weakref.ref(scores))

    seen: list[weakref.ref] = []
    inputs = (np.zeros((1, A, 3)) for _ in range(5))
    list(score_in_batches([(Forgetful(0), inputs)], lambda batch: batch[..., 0].copy(), batch_size=1))
    assert [one() for one in seen] == [None] * 5


def no_memory(_: torch.Tensor) -> np.ndarray:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


@pytest.mark.parametrize(
    ("batch_size", "expected"),
    [
        (4, r"the GPU's memory does not hold .* 4 x 1 x 2 px at once: lower batch_size \(--batch-size\)$"),
        (1, "1 x 1 x 2 px at once: fit at a lower resolution or in tiles$"),
    ],
)
def test_a_batch_beyond_the_gpus_memory_says_what_to_lower(batch_size, expected):
    with pytest.raises(TinyDefectsError, match=expected):
        list(score_in_batches(Stream([B] * 4), no_memory, batch_size=batch_size))


def textures(*sizes: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(60, 190, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture(scope="module")
def detector() -> Detector:
    """A real ViT: there, what one patch sees depends on all others of its image, and on none of another image."""
    teacher = freeze_teacher(TINY_VIT, tiny_vit(), blocks=(2, 4), device="cpu")
    return Detector(teacher=teacher, resolution=64, epochs=2).fit(textures(LYING, LYING))


@pytest.fixture(scope="module")
def tiled() -> Detector:
    """3 x 4 tiles of 6 x 6 patches in an image of 83 x 121 px."""
    options = {"tile": 48, "overlap": 16, "epochs": 2}
    return Detector(teacher=counting_teacher(), **options).fit(textures((83, 121)))


def batches_of(detector: Detector, monkeypatch) -> list[int]:
    """Images or tiles in each call of the teacher from now on."""
    batches, look = [], detector.teacher.model.forward_intermediates

    def remember(batch: torch.Tensor, **options: object) -> object:
        batches.append(len(batch))
        return look(batch, **options)

    monkeypatch.setattr(detector.teacher.model, "forward_intermediates", remember)
    return batches


def one_by_one(detector: Detector, image: np.ndarray) -> np.ndarray:
    """The map, spelled out pass by pass."""
    plan, scores = detector.passes(image_size(image)), []
    for pixels, grid in plan.views(image):
        patches = grid.to_patches(pixels, detector.teacher.mean, detector.teacher.std)
        scores.append(detector.patch_scores(*detector.teacher.features(patches[None]))[0].numpy())
    return plan.grid.to_image(plan.merge(scores), stride=detector.settings.stride)


@pytest.mark.parametrize("name", ["detector", "tiled"])
def test_at_batch_1_maps_are_those_of_passes_one_by_one_bit_for_bit(name, request):
    made_by = request.getfixturevalue(name)
    images = textures((83, 121), LYING, UPRIGHT, (83, 121), seed=3)
    for image, prediction in zip(images, made_by.predict_many(iter(images)), strict=True):
        np.testing.assert_array_equal(prediction.anomaly_map, one_by_one(made_by, image))
        alone = made_by.predict(image)
        np.testing.assert_array_equal(alone.anomaly_map, prediction.anomaly_map)
        assert alone.score == prediction.score


def test_images_of_mixed_sizes_in_batches_keep_order_and_maps(detector, monkeypatch):
    images = textures(LYING, UPRIGHT, LYING, SQUARE, UPRIGHT, LYING, LYING, seed=4)
    expected = [detector.predict(image) for image in images]
    batches = batches_of(detector, monkeypatch)
    found = list(detector.predict_many(iter(images), batch_size=2))
    assert batches == [2, 2, 2, 1]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=1e-5)
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_the_tiles_of_one_image_are_batched(tiled, monkeypatch):
    (image,) = textures((83, 121), seed=5)
    expected = tiled.predict(image)
    batches = batches_of(tiled, monkeypatch)
    found = tiled.predict(image, batch_size=5)
    assert batches == [5, 5, 2]
    np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=1e-5)


def test_many_images_are_refused_at_once_where_nothing_was_learnt_or_the_batch_is_empty(detector):
    with pytest.raises(NotFittedError, match="fit it to defect-free images"):
        Detector(teacher=counting_teacher()).predict_many([])
    with pytest.raises(TinyDefectsError, match="batch_size 0: give 1 or more"):
        detector.predict_many([], batch_size=0)
    with pytest.raises(ImageReadError, match=r"image 0 of those given, .* this array is \(8, 8, 5\)"):
        list(detector.predict_many([np.zeros((8, 8, 5), np.uint8)], batch_size=2))


def write_parts(folder: Path, *sizes: tuple[int, int]) -> list[np.ndarray]:
    images = textures(*sizes, seed=6)
    for name, image in zip("abcdefgh", images, strict=False):
        write_png(folder / f"{name}.png", image)
    return images


def test_a_folder_in_batches_goes_on_where_it_was_stopped(detector, tmp_path, monkeypatch):
    images = write_parts(tmp_path / "parts", LYING, UPRIGHT, LYING, UPRIGHT, UPRIGHT, SQUARE, LYING)
    samples, told = find_images(tmp_path / "parts"), []
    expected = [detector.predict(image) for image in images]

    def predict() -> list[float]:
        told.clear()
        made = predict_to_disk(
            detector, "parts", samples, tmp_path / "maps", progress=lambda *step: told.append(step), batch_size=2
        )
        assert (made.problems, made.remarks) == ((), [])
        return list(made.scores.values())

    assert predict() == pytest.approx([prediction.score for prediction in expected], abs=1e-5)
    written = [map_path(tmp_path / "maps", "parts", sample) for sample in samples]
    before = [path.read_bytes() for path in written]
    for place in (1, 3, 4, 6):
        written[place].unlink()
    batches = batches_of(detector, monkeypatch)
    assert predict() == pytest.approx([prediction.score for prediction in expected], abs=1e-5)
    assert told[:7] == [("predict", done, 7) for done in range(1, 8)]
    assert batches == [2, 1, 1]  # two upright ones, then what is left of each shape
    assert all(written[place].read_bytes() == before[place] for place in (0, 2, 5))
    for path, prediction in zip(written, expected, strict=True):
        np.testing.assert_allclose(read_prediction(path).anomaly_map, prediction.anomaly_map, atol=1e-5)


def test_an_unreadable_photograph_in_a_batch_is_listed_and_the_others_are_predicted(detector, tmp_path):
    images = write_parts(tmp_path / "parts", LYING, UPRIGHT, LYING, LYING)
    (tmp_path / "parts/b.png").write_bytes(b"no picture")
    samples = find_images(tmp_path / "parts")
    made = predict_to_disk(detector, "parts", samples, tmp_path / "maps", progress=lambda *_: None, batch_size=8)
    expected = {f"images/{name}": detector.predict(images[n]).score for n, name in ((0, "a"), (2, "c"), (3, "d"))}
    assert made.scores == pytest.approx(expected, abs=1e-5)
    assert [(problem.kind, problem.name) for problem in made.problems] == [("unreadable", "images/b")]
    assert {path.stem for path in (tmp_path / "maps").rglob("*.tiff")} == {"a", "c", "d"}


DRAWN = [f"--option={option}" for option in ("size=64", "n_train=2", "n_good=2", "n_defect=3")]
PART = ["synthetic/brushed_metal", *DRAWN, "--device", "cpu"]


@pytest.mark.slow
def test_the_command_predicts_in_batches(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, capsys, "fit", *PART, "--teacher", "builtin", "--epochs", "1", "--resolution", "64")[0] == 0
    code, out, _ = run(monkeypatch, capsys, "predict", "model", *PART, "--json")
    alone = json.loads(out)
    code, out, _ = run(monkeypatch, capsys, "predict", "model", *PART, "--json", "--batch-size", 3, "--out", "batched")
    assert code == 0
    assert list(json.loads(out)) == list(alone)
    assert list(json.loads(out).values()) == pytest.approx(list(alone.values()), abs=1e-5)
    for path in Path("maps/brushed_metal").rglob("*.tiff"):
        batched = tifffile.imread(Path("batched") / path.relative_to("maps"))
        np.testing.assert_allclose(batched, tifffile.imread(path), atol=1e-5)
    monkeypatch.setattr(Detector, "patch_scores", lambda self, earlier, later: no_memory(earlier))
    code, _, err = run(monkeypatch, capsys, "predict", "model", *PART, "--batch-size", 3, "--out", "new")
    assert code == 2
    (complaint,) = [line for line in err.splitlines() if line.startswith("tinydefects: ")]
    assert complaint.endswith("3 x 64 x 64 px at once: lower batch_size (--batch-size)")


def test_an_exported_model_refuses_batches_in_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported/export.json").write_text("{}")
    write_parts(tmp_path / "parts", LYING)
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, "predict", "exported", "parts", "--batch-size", 2)
    assert code == 2
    assert "one image at a time: leave out" in err
    assert err.endswith("--batch-size\n")
    with pytest.raises(TinyDefectsError, match="batch_size 2: an exported model takes one image or tile at a time"):
        ExportedDetector.predict_many(object(), [], batch_size=2)
