import json
import tarfile
import weakref
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from submission_trees import SIZE, draw_dataset, draw_maps
from tinydefects.data.pairing import MapsError
from tinydefects.errors import DatasetError, ScoreError, TinyDefectsError
from tinydefects.submission.layout import N_PRIVATE_IMAGES, describe_maps, find_maps, object_names
from tinydefects.submission.scale import Float16Census, Scale, mean_plus_3_std, upper_quantile
from tinydefects.submission.writing import describe_submission, prepare, write_submission

CAN = ["can"]


@pytest.fixture
def two_images(monkeypatch):
    for name in N_PRIVATE_IMAGES:
        monkeypatch.setitem(N_PRIVATE_IMAGES, name, 2)


@pytest.fixture
def can(two_images, tmp_path):
    """Dataset and maps of one object."""
    draw_dataset(tmp_path / "data", CAN)
    draw_maps(tmp_path / "maps", CAN)
    return tmp_path


def found(folder, objects=("can",), **options):
    return find_maps(folder / "maps", folder / "data", objects, **{"with_validation": True} | options)


def unpack(path, folder):
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.slow
def test_the_archive_holds_the_servers_names_types_and_sizes(two_images, tmp_path):
    objects = list(N_PRIVATE_IMAGES)
    draw_dataset(tmp_path / "data")
    draw_maps(tmp_path / "maps")
    write_submission(prepare(found(tmp_path, objects)), tmp_path / "ours.tar.gz")
    unpack(tmp_path / "ours.tar.gz", tmp_path / "unpacked")
    names = {str(path.relative_to(tmp_path / "unpacked")) for path in (tmp_path / "unpacked").rglob("*.*")}
    assert names == {
        f"ours/{kind}/{name}/{split}/00{number}_{lighting}{suffix}"
        for name in objects
        for split, lighting in (("test_private", "regular"), ("test_private_mixed", "mixed"))
        for number in (0, 1)
        for kind, suffix in (("anomaly_images", ".tiff"), ("anomaly_images_thresholded", ".png"))
    }
    for path in (tmp_path / "unpacked").rglob("*.tiff"):
        stored = tifffile.imread(path)
        assert (stored.dtype, stored.shape) == (np.float16, SIZE)
    for path in (tmp_path / "unpacked").rglob("*.png"):
        marks = np.asarray(Image.open(path))
        assert (marks.dtype, marks.shape, set(np.unique(marks)) <= {0, 255}) == (np.uint8, SIZE, True)


def test_the_private_splits_have_the_benchmarks_counts():
    assert list(N_PRIVATE_IMAGES) == [
        "can",
        "fabric",
        "fruit_jelly",
        "rice",
        "sheet_metal",
        "vial",
        "wallplugs",
        "walnuts",
    ]
    assert list(N_PRIVATE_IMAGES.values()) == [321, 314, 255, 277, 142, 276, 232, 228]
    assert sum(N_PRIVATE_IMAGES.values()) == 2045


def test_scores_are_those_of_the_maps_and_marks_those_above_the_threshold(can):
    (written,) = write_submission(prepare(found(can)), can / "ours.tar.gz")
    folder = unpack(can / "ours.tar.gz", can) / "ours"
    for path in folder.rglob("*.tiff"):
        split, name = path.parent.name, path.name
        scores = tifffile.imread(can / "maps" / "can" / split / name).astype(np.float16)
        np.testing.assert_array_equal(tifffile.imread(path), scores)
        marks = np.asarray(Image.open(folder / "anomaly_images_thresholded/can" / split / f"{path.stem}.png"))
        np.testing.assert_array_equal(marks == 255, scores.astype(np.float32) > written.threshold.value)
    assert written.loss.n_pixels == 4 * SIZE[0] * SIZE[1]


def test_a_score_at_the_threshold_is_not_marked(can):
    scores = np.full(SIZE, 0.5, np.float32)
    scores[0, 0] = 0.75
    tifffile.imwrite(can / "maps/can/test_private/000_regular.tiff", scores)
    write_submission(prepare(found(can), threshold=0.5), can / "ours.tar.gz")
    folder = unpack(can / "ours.tar.gz", can) / "ours/anomaly_images_thresholded/can/test_private"
    assert np.argwhere(np.asarray(Image.open(folder / "000_regular.png"))).tolist() == [[0, 0]]


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.2])
def test_at_most_a_share_alpha_of_the_validation_pixels_exceeds_the_threshold_and_no_lower_score_does(can, alpha):
    (prepared,) = prepare(found(can), alpha=alpha)
    paths = sorted((can / "maps/can/validation/good").iterdir())
    scores = np.concatenate([tifffile.imread(path).ravel() for path in paths]).astype(np.float16).astype(np.float32)
    value = prepared.threshold.value
    assert (scores > value).mean() <= alpha
    assert (scores >= value).mean() > alpha
    assert (prepared.threshold.n_images, prepared.threshold.n_pixels) == (3, scores.size)


def test_mean_plus_three_standard_deviations_is_over_all_validation_pixels(can):
    (prepared,) = prepare(found(can), rule="validation_3_std")
    paths = sorted((can / "maps/can/validation/good").iterdir())
    scores = np.stack([tifffile.imread(path) for path in paths]).astype(np.float16).astype(np.float64)
    assert prepared.threshold.value == pytest.approx(scores.mean() + 3 * scores.std(), rel=1e-6)


def test_test_maps_have_no_say_in_threshold_or_scale(can):
    before = prepare(found(can), rescale=True)
    for path in (can / "maps/can").rglob("test_private*/*.tiff"):
        tifffile.imwrite(path, tifffile.imread(path) * 50 + 7)
    after = prepare(found(can), rescale=True)
    assert (before[0].threshold, before[0].scale) == (after[0].threshold, after[0].scale)


@pytest.mark.parametrize("trick", [{"label": "defect"}, {"label": "unknown"}, {"id": "test_public/good/000_regular"}])
def test_only_good_samples_of_the_validation_split_make_a_threshold(can, trick):
    (one,) = found(can)
    first, *others = one.validation.pairs
    tricked = replace(first, sample=replace(first.sample, **trick))
    validation = replace(one.validation, pairs=(*others, tricked))
    with pytest.raises(TinyDefectsError, match="defect-free validation images alone"):
        prepare([replace(one, validation=validation)])


def test_without_validation_maps_there_is_no_threshold_to_compute(can):
    with pytest.raises(TinyDefectsError, match="no maps of validation images"):
        prepare(found(can, with_validation=False))


def test_a_given_threshold_needs_no_validation_maps_and_is_scaled_like_the_scores(can):
    (prepared,) = prepare(found(can), threshold=0.25, rescale=True)
    assert prepared.threshold.rule == "given"
    assert prepared.threshold.value == pytest.approx((0.25 - prepared.scale.offset) * prepared.scale.factor)
    for path in (can / "maps/can/validation/good").iterdir():
        path.unlink()
    assert prepare(found(can, with_validation=False), threshold=0.25)[0].threshold.value == 0.25
    with pytest.raises(TinyDefectsError, match="finite"):
        prepare(found(can, with_validation=False), threshold=float("nan"))


def test_rescaling_keeps_the_order_and_rescues_scores_that_float16_would_merge(can):
    for path in (can / "maps/can").rglob("*.tiff"):
        tifffile.imwrite(path, tifffile.imread(path) + 1000)  # float16 moves in steps of 0.5 there
    (merged,) = write_submission(prepare(found(can)), can / "merged.tar.gz")
    (rescued,) = write_submission(prepare(found(can), rescale=True), can / "rescued.tar.gz")
    assert merged.loss.n_distinct < 10 < 300 < rescued.loss.n_distinct
    path = can / "maps/can/test_private/000_regular.tiff"
    original = tifffile.imread(path).ravel()
    submitted = tifffile.imread(
        unpack(can / "rescued.tar.gz", can) / "rescued/anomaly_images/can/test_private/000_regular.tiff"
    ).ravel()
    assert (np.diff(submitted[np.argsort(original)].astype(np.float32)) >= 0).all()


def test_scores_too_large_for_float16_are_refused_by_name_and_nothing_is_left_behind(can):
    path = can / "maps/can/test_private_mixed/001_mixed.tiff"
    tifffile.imwrite(path, tifffile.imread(path) + 70000)
    with pytest.raises(ScoreError, match=r"can/test_private_mixed/001_mixed: scores beyond 65504 .*--rescale"):
        write_submission(prepare(found(can)), can / "ours.tar.gz")
    assert not [path for path in can.iterdir() if "ours" in path.name]


def test_a_submission_records_how_it_was_made_and_repeats_byte_by_byte(can):
    for name in ("ours", "again/ours"):
        write_submission(prepare(found(can), rescale=True), can / f"{name}.tar.gz")
    assert (can / "ours.tar.gz").read_bytes() == (can / "again/ours.tar.gz").read_bytes()
    (record,) = json.loads((can / "ours.json").read_text())["objects"]
    assert (record["name"], record["n_images"], record["threshold"]["rule"]) == ("can", 4, "validation")
    assert record["scale"]["factor"] > 0


def test_missing_maps_and_wrong_sizes_are_named_before_anything_is_read(can):
    (can / "maps/can/test_private/001_regular.tiff").unlink()
    with pytest.raises(MapsError, match=r"1 missing \(test_private/001_regular"):
        found(can)
    tifffile.imwrite(can / "maps/can/test_private/001_regular.tiff", np.zeros((3, 4), np.float32))
    with pytest.raises(MapsError, match=r"1 wrong size \(test_private/001_regular"):
        found(can)


def test_a_dataset_with_an_image_too_few_is_not_taken_for_the_benchmark(can):
    (can / "data/mvtec_ad_2/can/test_private/001_regular.png").unlink()
    with pytest.raises(DatasetError, match=r"holds 1 images, the benchmark has 2 \(001_regular is missing\)"):
        found(can)


def test_maps_of_separate_detectors_may_lie_one_folder_deeper(can):
    (can / "maps/can").rename(can / "moved")
    (can / "maps/can").mkdir()
    (can / "moved").rename(can / "maps/can/can")
    assert len(found(can)[0].private["test_private"].pairs) == 2


def test_a_dry_run_lists_files_and_counts(can):
    text = describe_maps(found(can))
    assert "anomaly_images/can/test_private_mixed/000_mixed.tiff … 001_mixed.tiff" in text
    assert "8 files" in text


def test_an_archive_without_all_objects_is_announced_as_refused(can):
    text = describe_submission(write_submission(prepare(found(can)), can / "ours.tar.gz"))
    assert "refuses an archive without fabric, fruit_jelly" in text
    with pytest.raises(TinyDefectsError, match=r"let its name end in \.tar\.gz"):
        write_submission(prepare(found(can)), can / "ours.zip")


def test_objects_are_addressed_like_categories():
    assert object_names(["mvtec_ad2/vial", "mvtec_ad2/can"]) == ["can", "vial"]
    assert object_names([]) == object_names(["mvtec_ad2"]) == list(N_PRIVATE_IMAGES)
    with pytest.raises(DatasetError, match="did you mean mvtec_ad2/can"):
        object_names(["mvtec_ad2/cans"])


@pytest.mark.parametrize("n_above", [0, 1, 7, 49])
def test_the_upper_quantile_of_a_stream_is_that_of_all_scores_at_once(n_above):
    scores = np.random.default_rng(0).integers(0, 30, (10, 5)).astype(np.float32)  # with ties
    assert upper_quantile(list(scores), n_above) == np.sort(scores, axis=None)[::-1][n_above]
    assert (scores > upper_quantile(list(scores), n_above)).sum() <= n_above


def test_the_mean_of_scores_far_from_zero_is_not_lost():
    scores = np.float32(1000) + np.random.default_rng(0).random((4, 50, 50), dtype=np.float32)
    exact = scores.astype(np.float64)
    assert mean_plus_3_std(list(scores)) == pytest.approx(exact.mean() + 3 * exact.std(), rel=1e-9)


def test_a_census_counts_ties_and_what_became_zero():
    census = Float16Census()
    scores = np.array([[1e-9, 0.0, 1.0, 1.0 + 1e-5, 2.0, 3.0]], dtype=np.float32)
    census.add(scores, Scale().to_float16(scores))
    loss = census.loss(threshold=1.0)
    assert (loss.n_pixels, loss.n_underflow, loss.n_distinct) == (6, 1, 4)
    assert (loss.n_above, loss.n_distinct_above, loss.n_distinct_sampled) == (2, 2, (6, 4))
    assert "become 0" in loss.warning()


def test_a_census_keeps_no_map_in_memory():
    census = Float16Census()
    scores = np.ones((300, 300), np.float32)
    rounded = Scale().to_float16(scores)
    alive = [weakref.ref(scores), weakref.ref(rounded)]
    census.add(scores, rounded)
    del scores, rounded
    assert [reference() for reference in alive] == [None, None]
    assert census.loss(0.5).n_pixels == 90_000
