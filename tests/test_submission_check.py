import shutil
import tarfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from submission_trees import SIZE, draw_dataset, draw_maps
from tinydefects.errors import ResultError
from tinydefects.submission.check import check_submission
from tinydefects.submission.layout import N_PRIVATE_IMAGES, find_maps
from tinydefects.submission.writing import prepare, write_submission

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """data/, and ours.tar.gz of all eight objects with two images a split."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        for name in N_PRIVATE_IMAGES:
            patch.setitem(N_PRIVATE_IMAGES, name, 2)
        draw_dataset(folder / "data")
        draw_maps(folder / "maps")
        found = find_maps(folder / "maps", folder / "data", list(N_PRIVATE_IMAGES), with_validation=True)
        write_submission(prepare(found, rescale=True, alpha=0.5), folder / "ours.tar.gz")
    return folder


@pytest.fixture
def ours(sound, tmp_path, monkeypatch):
    """The same, unpacked to a folder of its own: ours/."""
    for name in N_PRIVATE_IMAGES:
        monkeypatch.setitem(N_PRIVATE_IMAGES, name, 2)
    shutil.copytree(sound / "data", tmp_path / "data")
    with tarfile.open(sound / "ours.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "ours"


def check(path, **options):
    return check_submission(path, **{"root": path.parent / "data"} | options)


def test_what_we_write_passes_as_folder_and_as_archive(ours, sound):
    for path in (ours, sound / "ours.tar.gz"):
        found = check(path)
        assert (found.n_maps, found.n_marks, found.faults, found.warnings) == (32, 32, [], [])


def map_of(ours):
    return ours / "anomaly_images/rice/test_private/001_regular.tiff"


def marks_of(ours):
    return ours / "anomaly_images_thresholded/rice/test_private/001_regular.png"


def remove_a_map(ours):
    map_of(ours).unlink()


def rename_a_map(ours):
    map_of(ours).rename(map_of(ours).with_suffix(".tif"))


def leave_a_hidden_file(ours):
    (ours / "anomaly_images/rice/test_private/.DS_Store").write_text("")


def leave_a_note(ours):
    (ours / "notes.txt").write_text("")


def remove_an_object(ours):
    shutil.rmtree(ours / "anomaly_images/rice")


def remove_a_split(ours):
    shutil.rmtree(ours / "anomaly_images_thresholded/rice/test_private_mixed")


def store_float32(ours):
    tifffile.imwrite(map_of(ours), np.zeros(SIZE, np.float32))


def store_three_channels(ours):
    tifffile.imwrite(map_of(ours), np.zeros((*SIZE, 3), np.float16), photometric="rgb")


def store_infinity(ours):
    tifffile.imwrite(map_of(ours), np.full(SIZE, np.inf, np.float16))


def damage_a_map(ours):
    map_of(ours).write_bytes(map_of(ours).read_bytes()[:100])


def store_gray_marks(ours):
    Image.fromarray(np.full(SIZE, 128, np.uint8)).save(marks_of(ours))


def store_coloured_marks(ours):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(marks_of(ours))


def shrink_the_marks(ours):
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(marks_of(ours))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (remove_a_map, "1 missing (001_regular.tiff)"),
        (rename_a_map, "1 extra (001_regular.tif)"),
        (leave_a_hidden_file, "1 extra (.DS_Store)"),
        (leave_a_note, "1 extra (notes.txt)"),
        (remove_an_object, "1 missing (rice)"),
        (remove_a_split, "1 missing (test_private_mixed)"),
        (store_float32, "is float32 (12, 16); a map is (height, width) float16"),
        (store_three_channels, "is float16 (12, 16, 3)"),
        (store_infinity, "001_regular.tiff: holds nan or infinity"),
        (damage_a_map, "001_regular.tiff: cannot be read"),
        (store_gray_marks, "001_regular.png: is uint8 (12, 16); a thresholded image is (height, width) of 0 and 255"),
        (store_coloured_marks, "001_regular.png: is uint8 (12, 16, 3)"),
        (shrink_the_marks, "the map is (12, 16), the thresholded image (3, 4)"),
    ],
)
def test_a_fault_is_found_and_named(ours, spoil, told):
    spoil(ours)
    faults = check(ours).faults
    assert any(told in fault for fault in faults), faults
    assert len(faults) <= 2  # a renamed file is one missing and one extra


def test_marks_that_no_single_threshold_explains_are_warned_of(ours):
    marks = np.asarray(Image.open(marks_of(ours)))
    Image.fromarray(255 - marks).save(marks_of(ours))
    (warning,) = check(ours).warnings
    assert warning.startswith("rice: no single threshold")
    assert check(ours).faults == []


def test_a_map_of_another_size_than_its_image_is_warned_of(ours):
    tifffile.imwrite(map_of(ours), np.arange(12, dtype=np.float16).reshape(3, 4))
    shrink_the_marks(ours)
    warnings = check(ours).warnings
    assert any("is (3, 4), its image (12, 16)" in warning for warning in warnings)


def test_ties_of_coarse_scores_are_warned_of(ours):
    for path in (ours / "anomaly_images/rice").rglob("*.tiff"):
        tifffile.imwrite(path, np.round(tifffile.imread(path)))
    assert any("rice: " in warning and "distinct scores" in warning for warning in check(ours).warnings)


def test_without_dataset_or_thresholded_images_it_says_what_was_not_checked(ours):
    shutil.rmtree(ours / "anomaly_images_thresholded")
    found = check(ours, root=ours / "nowhere")
    assert found.faults == []
    assert any("SegF1" in warning for warning in found.warnings)
    assert any("sizes not compared" in warning for warning in found.warnings)


def test_an_archive_must_hold_one_folder_of_its_own_name(ours, sound, tmp_path):
    shutil.copy(sound / "ours.tar.gz", tmp_path / "theirs.tar.gz")
    (fault,) = check(tmp_path / "theirs.tar.gz").faults
    assert "holds ours; it should hold one folder called theirs" in fault


def test_a_file_that_is_no_archive_or_half_of_one_is_refused_by_name(sound, tmp_path):
    half = tmp_path / "half.tar.gz"
    half.write_bytes((sound / "ours.tar.gz").read_bytes()[:2000])
    (tmp_path / "text.tar.gz").write_text("no archive")
    for path in (half, tmp_path / "text.tar.gz"):
        with pytest.raises(ResultError, match=rf"{path.name}: cannot be unpacked"):
            check(path)
    with pytest.raises(ResultError, match="no such folder or archive"):
        check(tmp_path / "absent")
