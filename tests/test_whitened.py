"""FBFT with whitened residuals against a plain re-statement in NumPy and scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf

from method_samples import samples_of
from tinydefects.detector.cross_fit import deal
from tinydefects.detector.detector import Detector
from tinydefects.detector.teacher import Teacher, load_teacher
from tinydefects.errors import TinyDefectsError
from tinydefects.methods.catalog import parse_method
from tinydefects.methods.method import MethodInputs
from tinydefects.methods.whitened import Residuals, WhitenedFbftMethod, Whitening

pytestmark = pytest.mark.slow  # students of several folds

SIZES = [(96, 96)] * 5
RESOLUTION, STEPS = 96, 8


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("builtin", device="cpu")


def fitted(text: str, teacher: Teacher, folder: Path, samples: list) -> WhitenedFbftMethod:
    kind, options = parse_method(f"{text}:steps={STEPS}")
    features = folder / "features"
    inputs = MethodInputs(
        teacher=lambda: teacher, resolution=RESOLUTION, seed=3, features_folder=features, options=options
    )
    method = kind.make(inputs)
    assert isinstance(method, WhitenedFbftMethod)
    method.fit(samples)
    return method


def features_of(image: np.ndarray, detector: Detector) -> list[np.ndarray]:
    """Those of both blocks, (h w, C)."""
    grid = detector.grid(image.shape[:2])
    blocks = detector.teacher.features(detector.teacher.normalise(grid.to_pixels(image)[None]))
    return [block.flatten(0, -2).numpy() for block in blocks]


def residuals_of(detector: Detector, blocks: list[np.ndarray]) -> list[np.ndarray]:
    """Expected direction minus actual one in both blocks, (h w, C) float64."""
    with torch.inference_mode():
        expected = detector.students(*map(torch.from_numpy, blocks))
    return [
        (one / np.linalg.norm(one, axis=1, keepdims=True) - two / np.linalg.norm(two, axis=1, keepdims=True))
        for one, two in zip((tensor.double().numpy() for tensor in expected), blocks, strict=True)
    ]


def mahalanobis(rows: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Of rows, by the covariance of good ones; 1 is usual."""
    inverse = np.linalg.inv(ledoit_wolf(good)[0])
    centred = rows - good.mean(axis=0)
    return np.sqrt((centred @ inverse * centred).sum(axis=1) / rows.shape[1])


def restated(samples: list, asked: np.ndarray, teacher: Teacher, *, combine: str, n_folds: int) -> np.ndarray:
    """Patch scores (h w,) of an image, every pair of students by a detector of its own."""

    def trained(images: list[np.ndarray]) -> Detector:
        return Detector(teacher=teacher, resolution=RESOLUTION, steps=STEPS, seed=3).fit(images, progress=False)

    images = [sample.image() for sample in samples]
    names, digests = [(str(place), None) for place in range(len(images))], [str(place) for place in range(len(images))]
    fold_of = deal(names, digests, unseen="folds", seed=3, n_folds=n_folds).fold_of
    good: list[list[np.ndarray]] = []
    for fold in range(n_folds):
        judge = trained([image for image, own in zip(images, fold_of, strict=True) if own != fold])
        for image, own in zip(images, fold_of, strict=True):
            if own == fold:
                stored = [block.astype(np.float16).astype(np.float32) for block in features_of(image, judge)]
                good.append(residuals_of(judge, stored))
    detector = trained(images)
    found = residuals_of(detector, features_of(asked, detector))
    earlier, later = (np.concatenate([pair[block] for pair in good]) for block in (0, 1))
    if combine == "joint":
        return mahalanobis(np.hstack(found), np.hstack([earlier, later]))
    lengths = mahalanobis(found[0], earlier), mahalanobis(found[1], later)
    return lengths[0] * lengths[1] if combine == "product" else lengths[0] + lengths[1]


@pytest.mark.parametrize(("combine", "n_folds"), [("product", 5), ("sum", 2), ("joint", 3)])
def test_scores_are_those_of_a_plain_re_statement(combine, n_folds, teacher, tmp_path):
    samples = samples_of(tmp_path, *SIZES)
    image = samples_of(tmp_path, SIZES[0], seed=9)[0].image()
    image[30:50, 30:50] = (200, 30, 30)
    method = fitted(f"fbft_whitened:combine={combine}:folds={n_folds}", teacher, tmp_path, samples)
    detector = Detector(teacher=teacher, resolution=RESOLUTION)
    blocks = teacher.features(teacher.normalise(detector.grid(image.shape[:2]).to_pixels(image)[None]))
    scores = method.patch_scores(*blocks).flatten().numpy()
    np.testing.assert_allclose(
        scores, restated(samples, image, teacher, combine=combine, n_folds=n_folds), rtol=2e-3, atol=0
    )
    assert method.settings["combine"] == combine
    own = 2 * (192**2 + 192) * 4 if combine != "joint" else (384**2 + 384) * 4
    assert method.size_bytes == 2 * 3 * (192**2 + 192) * 4 + own


def test_the_default_is_the_product_and_five_folds(teacher, tmp_path):
    samples, asked = samples_of(tmp_path, *SIZES), samples_of(tmp_path, SIZES[0], seed=9)
    plain, told, other = (
        fitted(text, teacher, tmp_path, samples).predict(asked)[0].anomaly_map
        for text in ("fbft_whitened", "fbft_whitened:combine=product:folds=5", "fbft_whitened:folds=2")
    )
    np.testing.assert_array_equal(plain, told)
    assert not np.allclose(plain, other, rtol=1e-3)


def test_images_of_one_part_are_measured_by_the_students_own_residuals(teacher, tmp_path):
    same = samples_of(tmp_path, SIZES[0])[0]
    method = fitted("fbft_whitened", teacher, tmp_path, [same, same])
    detector = Detector(teacher=teacher, resolution=RESOLUTION, steps=STEPS, seed=3).fit([same.image()] * 2)
    blocks = features_of(same.image(), detector)
    good = residuals_of(detector, [block.astype(np.float16).astype(np.float32) for block in blocks])
    found = residuals_of(detector, blocks)
    expected = np.prod([mahalanobis(one, np.concatenate([two, two])) for one, two in zip(found, good, strict=True)], 0)
    scores = method.patch_scores(*(torch.from_numpy(block) for block in blocks)).numpy()
    np.testing.assert_allclose(scores, expected, rtol=2e-3, atol=0)


@pytest.mark.parametrize(("n", "dim", "scale"), [(2000, 12, 1.0), (9, 12, 1e-3), (40, 12, 30.0)])
def test_mean_and_shrunk_covariance_from_sums_are_scikit_learn_s(n, dim, scale):
    generator = np.random.default_rng(n)
    rows = scale * (generator.standard_normal((n, dim)) @ generator.standard_normal((dim, dim)) + 2.0)
    sums = Residuals(dim)
    for some in np.array_split(rows, 3):
        sums.add(some)
    expected, share = ledoit_wolf(rows)
    assert n > 1000 or share > 0.01  # something is shrunk
    np.testing.assert_allclose(sums.mean, rows.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(sums.covariance, expected, rtol=1e-7, atol=1e-9 * scale**2)


def test_white_residuals_have_the_length_1_on_average_and_equal_ones_their_own():
    rows = np.random.default_rng(0).standard_normal((5000, 6)) * [1, 2, 3, 4, 5, 2]
    sums, equal = Residuals(6), Residuals(6)
    sums.add(rows)
    equal.add(np.tile(rows[:1], (7, 1)))
    lengths = Whitening.of(sums, "cpu").length(torch.from_numpy(rows).float())
    assert lengths.square().mean().item() == pytest.approx(1.0, rel=0.01)
    other = Whitening.of(equal, "cpu").length(torch.from_numpy(rows[:1] + 3 * np.eye(1, 6)).float())
    assert other.item() == pytest.approx(3 / 6**0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fbft_whitened:combine=mean", "fbft_whitened:combine=mean: option combine: .*'product', 'sum' or 'joint'"),
        ("fbft_whitened:folds=1", "option folds: Input should be greater than or equal to 2 .*'1'"),
        ("fbft_whitened:fold=3", "fold: no such option; did you mean folds"),
        ("fbft_whitened:steps=9:epochs=3", "9 steps and 3 epochs are two ends of one training"),
    ],
)
def test_impossible_options_are_refused_in_one_line(text, told):
    with pytest.raises(TinyDefectsError, match=told) as refused:
        parse_method(text)
    assert "\n" not in str(refused.value)
