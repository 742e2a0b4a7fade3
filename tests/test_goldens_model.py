"""The published method's own numbers: preprocessing, teacher, students, maps, and all of it end to end.

A small part lies beside the tests; the whole set is read from ../shared/goldens where it is at hand.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinydefects.detector.detector import Detector
from tinydefects.detector.features import FeatureCache
from tinydefects.detector.model_file import SavedDetector, SavedTeacher, write_detector
from tinydefects.detector.networks import load_timm
from tinydefects.detector.patch_grid import IMAGENET_MEAN, IMAGENET_STD, PatchGrid
from tinydefects.detector.settings import image_score
from tinydefects.detector.students import Student, StudentPair, disagreement, train_students
from tinydefects.detector.teacher import Teacher, load_teacher
from tinydefects.errors import ScoreError

GOLDENS = Path(__file__).resolve().parents[2] / "shared" / "goldens"
SMALL = np.load(Path(__file__).parent / "goldens" / "fbft_small.npz")
needs_all_goldens = pytest.mark.skipif(not GOLDENS.is_dir(), reason="../shared/goldens is absent")
PUBLISHED_NAMES = {"to_earlier": "backward", "to_later": "forward"}
PICTURES = ("landscape", "portrait", "square", "odd_diff3", "tiny_upsampled", "large_down", "exact_size")
PICTURES += ("gray_L", "rgba")


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / name) as stored:
        return dict(stored)


def small(prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(f"{prefix}."): SMALL[key] for key in SMALL.files if key.startswith(f"{prefix}.")}


def student_state(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    return {
        key: torch.from_numpy(arrays[f"{prefix}.{PUBLISHED_NAMES[key.split('.')[0]]}.{key.split('.', 1)[1]}"])
        for key in StudentPair(1).state_dict()
    }


def check_training(arrays: dict[str, np.ndarray]) -> None:
    count = sum(key.startswith("earlier_") for key in arrays)
    batches = [
        tuple(torch.from_numpy(arrays[f"{block}_{index}"]).flatten(0, 1) for block in ("earlier", "later"))
        for index in range(count)
    ]
    students = StudentPair(32)
    students.load_state_dict(student_state(arrays, "init"))
    epochs = train_students(students, [batches] * int(arrays["epochs"]), learning_rate=float(arrays["lr"]))
    np.testing.assert_allclose(np.concatenate(list(epochs)), arrays["batch_losses"], atol=1e-5, rtol=0)
    for key, expected in student_state(arrays, "final").items():
        np.testing.assert_allclose(students.state_dict()[key], expected, atol=1e-5, rtol=0)


def test_an_image_reaches_the_teacher_as_published():
    arrays = small("preprocess")
    for name in ("odd_diff3", "tiny_upsampled"):
        image = arrays[f"{name}.rgb"]
        patches = PatchGrid.published(image.shape[:2], patch=14, resolution=56).to_patches(image)
        np.testing.assert_allclose(patches, arrays[f"{name}.out56"], atol=1e-6, rtol=0)


def test_students_train_as_published_also_on_features_of_no_length():
    check_training(small("t03"))


def test_seed_115_gives_the_published_initial_students():
    students = StudentPair(32, seed=115)
    for key, expected in student_state(small("t03"), "init").items():  # below 0.2; a processor may round the last bit
        torch.testing.assert_close(students.state_dict()[key], expected, rtol=0, atol=3e-8)


def test_patch_scores_become_the_published_map():
    straight, shifted = small("p08"), small("p01")
    grid = PatchGrid.published((96, 128), patch=14, resolution=168, canvas_px=int(straight["max_hw"]))
    drawn = grid.to_image(torch.from_numpy(straight["lowres_0"]))
    np.testing.assert_allclose(drawn, straight["map_0"], atol=1e-5, rtol=0)
    grid = PatchGrid.published((129, 200), patch=14, resolution=168)  # 200 - 129 = 71, 71 % 4 == 3
    drawn = grid.to_image(torch.from_numpy(shifted["lowres_0"]))
    np.testing.assert_allclose(drawn[:, ::8], shifted["map_4_every_8th_column"], atol=1e-5, rtol=0)


@needs_all_goldens
@pytest.mark.parametrize("name", PICTURES)
def test_every_golden_image_reaches_the_teacher_as_published(name):
    arrays = golden("preprocess/preprocess.npz")
    image = arrays[f"{name}.rgb"]
    for resolution in (56, 112):
        patches = PatchGrid.published(image.shape[:2], patch=14, resolution=resolution).to_patches(image)
        np.testing.assert_allclose(patches, arrays[f"{name}.out{resolution}"], atol=1e-6, rtol=0)


@needs_all_goldens
@pytest.mark.parametrize(("name", "in_dim"), [("s01_mlp_32_32", 32), ("s03_mlp_33_32_oddsum", 33)])
def test_a_student_computes_as_published(name, in_dim):
    arrays = golden(f"students/{name}.npz")
    student = Student(in_dim, 32)
    student.load_state_dict({key: torch.from_numpy(arrays[f"net.{key}"]) for key in student.state_dict()})
    predicted = student(torch.from_numpy(arrays["x"])).detach()
    np.testing.assert_allclose(predicted, arrays["y"], atol=1e-5, rtol=0)


@needs_all_goldens
def test_students_train_as_published():
    check_training(golden("students/t01_train_dim32.npz"))


@needs_all_goldens
@pytest.mark.parametrize("path", sorted((GOLDENS / "postprocess").glob("p*.npz")), ids=lambda path: path.stem[:3])
def test_features_become_the_published_map_and_score(path):
    arrays = golden(f"postprocess/{path.name}")
    side = int(arrays["grid"])
    for index, size in enumerate(arrays["target_hw"].tolist()):
        source = index if f"middle_{index}" in arrays else 0
        features = [
            torch.from_numpy(arrays[f"{name}_{source}"]).reshape(side, side, -1)
            for name in ("middle", "last", "pred_middle", "pred_last")
        ]
        patch_scores = disagreement(*features)
        np.testing.assert_allclose(patch_scores, arrays[f"lowres_{source}"], atol=1e-5, rtol=0)
        grid = PatchGrid.published(tuple(size), patch=14, resolution=14 * side, canvas_px=int(arrays["max_hw"]))
        anomaly_map = grid.to_image(patch_scores)
        np.testing.assert_allclose(anomaly_map, arrays[f"map_{index}"], atol=1e-5, rtol=0)
        published = arrays["image_scores"][index]
        if np.isnan(published):
            with pytest.raises(ScoreError, match="below 1,000 pixels"):
                image_score(anomaly_map, preset="published")
        else:
            score = image_score(anomaly_map, preset="published")
            np.testing.assert_allclose(score, published, atol=1e-5, rtol=0)


@pytest.fixture
def tiny_dinov2(tmp_path):
    """The golden ViT: its arrays, its name in timm for the length of a test, its weights as the authors store them."""
    timm = load_timm()
    arrays = golden("teacher/tiny_dinov2_reg.npz")
    name = "vit_golden_patch14_reg4_dinov2"

    def build(pretrained: bool = False, **settings: object) -> nn.Module:
        settings |= {"img_size": 70, "embed_dim": 24, "num_heads": 3, "depth": 12}
        return timm.create_model("vit_base_patch14_reg4_dinov2", pretrained=pretrained, **settings)

    build.__name__, build.__module__ = name, "timm.models.vision_transformer"
    timm.models.register_model(build)
    weights = {key.removeprefix("w."): torch.from_numpy(arrays[key]) for key in arrays if key.startswith("w.")}
    torch.save(weights, tmp_path / "authors.pth")
    return arrays, name, tmp_path / "authors.pth"


@needs_all_goldens
def test_a_checkpoint_of_the_dinov2_authors_gives_their_features_at_any_size(tiny_dinov2):
    arrays, name, weights = tiny_dinov2
    teacher = load_teacher(name, weights=weights, device="cpu")
    assert (teacher.patch_size, teacher.dim, teacher.blocks) == (14, 24, (7, 11))
    for key in [key for key in arrays if key.startswith("x_")]:
        height, width = map(int, key[2:].split("x"))
        features = teacher.features(torch.from_numpy(arrays[key]))
        for block, tokens in zip((7, 11), features, strict=True):
            assert tokens.shape == (2, height // 14, width // 14, 24)
            expected = arrays[f"b{block}_{height}x{width}"].reshape(tokens.shape)
            np.testing.assert_allclose(tokens, expected, atol=2e-5, rtol=0)


class StandIn(nn.Module):
    """The stand-in teacher of the end-to-end goldens: two tanh layers whose second also sees the whole image."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.filters, self.mix, self.overview = (torch.from_numpy(arrays[name]) for name in ("W1", "W2", "Wm"))

    def forward_intermediates(self, batch: Tensor, **_: object) -> tuple[Tensor, Tensor]:
        earlier = torch.tanh(2.0 * F.conv2d(batch, self.filters, stride=14)).flatten(2).transpose(1, 2)
        return earlier, torch.tanh(earlier @ self.mix + earlier.mean(1, keepdim=True) @ self.overview)


@pytest.mark.slow
@needs_all_goldens
def test_the_published_preset_repeats_the_published_run_from_images_to_scores(tmp_path):
    arrays = golden("e2e/e2e.npz")
    shape = {"name": "stand-in", "fingerprint": "stand-in", "patch_size": 14, "dim": 32, "blocks": (7, 11)}
    teacher = Teacher(model=StandIn(arrays), mean=IMAGENET_MEAN, std=IMAGENET_STD, device="cpu", **shape)
    blank = Detector(teacher=teacher, resolution=168, epochs=100, seed=115, preset="published")

    cache = FeatureCache(tmp_path / "cache", teacher, feature_format="float32", limit_bytes=10**8)
    for image in arrays["train_images"]:
        cache.add(image, blank.grid(image.shape[:2]))
    orders = [row[row >= 0].tolist() for row in arrays["train_batch_indices"]]
    batches = [next(cache.batches(order, images=4)) for order in orders]
    students = StudentPair(32, seed=115)
    losses = [loss for epoch in train_students(students, [batches], learning_rate=1e-4) for loss in epoch]
    np.testing.assert_allclose(losses, arrays["batch_losses"], atol=1e-5, rtol=0)

    saved = SavedDetector(
        format=1,
        settings=blank.settings,
        teacher=SavedTeacher(**shape),
        resolution_px=168,
        n_images=10,
        losses=(),
        device="cpu",
        versions={},
    )
    write_detector(tmp_path / "model", saved, students.state_dict())
    detector = Detector.load(tmp_path / "model", teacher=teacher)
    for image, anomaly_map, score in zip(arrays["test_images"], arrays["maps"], arrays["image_scores"], strict=True):
        prediction = detector.predict(image)
        np.testing.assert_allclose(prediction.anomaly_map, anomaly_map, atol=1e-5, rtol=0)
        assert prediction.score == pytest.approx(score, abs=1e-5)
