"""What is written of predicted photographs: maps, overlays, decisions; and what a second run makes of it."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from command_line import run
from tinydefects.data.map_files import PNG_STEP, origin_in, read_header, read_map, write_map_png
from tinydefects.data.pixels import read_image
from tinydefects.data.predictions import read_prediction
from tinydefects.data.sample import Prediction
from tinydefects.datasets.catalog import load_category
from tinydefects.datasets.photographs import find_images, find_photographs
from tinydefects.decisions.calibrating import GoodPhotograph, calibrate
from tinydefects.decisions.calibration import CalibrationSettings
from tinydefects.detector.outputs import OutputSettings
from tinydefects.detector.predict_folder import predict_to_disk
from tinydefects.detector.settings import DetectorSettings
from tinydefects.errors import NotFittedError, SettingsError
from tinydefects.results.result import read_result

SIZE = (40, 50)
WISHES = CalibrationSettings(false_alarms=0.2, confidence=0.8, false_regions=0.2)


class GrayDetector:
    """A map of gray values in [0, 4], thresholds from noise; counts the images it has seen."""

    fingerprint = "gray"
    colour_scale = (1.0, 3.0)
    settings = DetectorSettings()

    def __init__(self, wishes=WISHES, highest=4.0):
        self.highest, self.seen = highest, 0
        self.calibration = wishes and calibrate(
            (GoodPhotograph(id=str(seed), prediction=self.predict(noise(seed))) for seed in range(20)),
            wishes,
            fingerprint=self.fingerprint,
            obtained="fresh",
        )

    def predict(self, image):
        anomaly_map = image.mean(axis=2, dtype=np.float32) * np.float32(self.highest / 255)
        return Prediction(anomaly_map, float(np.sort(anomaly_map, axis=None)[-20:].mean()))

    def predict_many(self, images, *, batch_size=1):
        for image in images:
            self.seen += 1
            yield self.predict(image)


def noise(seed, *, with_defect=False):
    gray = np.random.default_rng(seed).integers(60, 100, SIZE).astype(np.uint8)
    if with_defect:
        gray[10:20, 30:36] = 255
        gray[30:33, 5:9] = 90 + seed % 20
    return np.repeat(gray[..., None], 3, axis=2)


@pytest.fixture
def photographs(tmp_path):
    (tmp_path / "in").mkdir()
    for seed in range(5):
        Image.fromarray(noise(100 + seed, with_defect=seed > 2)).save(tmp_path / f"in/{seed}.png")
    return tmp_path / "in"


@pytest.fixture
def predict(tmp_path, photographs):
    def predicted(detector=None, **wanted):
        detector = detector or GrayDetector()
        seen, outputs = detector.seen, OutputSettings(**wanted)
        made = predict_to_disk(
            detector, "in", find_images(photographs), tmp_path / "out", progress=lambda *step: None, outputs=outputs
        )
        return made, detector.seen - seen

    return predicted


def files(folder, pattern="*"):
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern) if path.is_file()}


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_verdicts_and_regions_are_those_that_follow_from_each_map(predict, photographs, tmp_path):
    detector = GrayDetector()
    made, _ = predict(detector)
    expected = {
        f"images/{path.stem}": detector.calibration.decide(detector.predict(read_image(path)))
        for path in photographs.iterdir()
    }
    assert {row["image"]: row["verdict"] for row in table(tmp_path / "out/decisions.csv")} == {
        name: one.verdict for name, one in expected.items()
    }
    assert [expected[f"images/{seed}"].verdict for seed in range(5)].count("defect") == 2
    areas = [int(row["area_px"]) for row in table(tmp_path / "out/regions.csv")]
    assert areas == [one.area_px for name in sorted(expected) for one in expected[name].regions]
    lines = [json.loads(line) for line in (tmp_path / "out/decisions.jsonl").read_text().splitlines()]
    assert lines == [{"image": name, **expected[name].record()} for name in sorted(expected)]
    assert str(made) == "3 good, 2 defect; 5 maps, overlays, decisions (csv, jsonl) and scores.csv"


def test_other_wishes_decide_anew_from_the_maps_that_are_there_and_draw_overlays_again(predict, tmp_path):
    predict()
    before = (tmp_path / "out/overlays/in/images/4.png").read_bytes()
    n_regions = len(table(tmp_path / "out/regions.csv"))
    few = GrayDetector(WISHES.with_changes(image_threshold=4.5, region_threshold=4.5))
    made, n_seen = predict(few)
    assert n_seen == 0
    assert {one.verdict for one in made.decisions.values()} == {"good"}
    assert (n_regions > 0, table(tmp_path / "out/regions.csv")) == (True, [])
    assert (tmp_path / "out/overlays/in/images/4.png").read_bytes() != before
    predict()
    assert (tmp_path / "out/overlays/in/images/4.png").read_bytes() == before


def test_overlays_of_alarms_alone_or_of_none(predict, tmp_path):
    predict()
    assert len(files(tmp_path / "out/overlays", "*.png")) == 5
    made, n_seen = predict(overlays="alarms")
    assert files(tmp_path / "out/overlays", "*.png") == {"in/images/3.png", "in/images/4.png"}
    assert (n_seen, "overlays of alarms" in str(made)) == (0, True)
    made, _ = predict(overlays="none")
    assert (files(tmp_path / "out/overlays", "*.png"), "overlay" in str(made)) == (set(), False)


def test_without_maps_nothing_is_left_to_go_on_from(predict, tmp_path):
    made, _ = predict(maps="none", overlays="none")
    assert files(tmp_path / "out") == {
        *("decisions.csv", "regions.csv", "decisions.jsonl", "scores.csv", "made_by.json"),
    }
    assert "maps" not in str(made)
    _, n_seen = predict(maps="none", overlays="none")
    assert n_seen == 5


def test_every_format_of_decisions_says_the_same(predict, tmp_path):
    made, _ = predict(decisions=("csv", "coco", "masks", "labelme"))
    out = tmp_path / "out"
    assert not (out / "decisions.jsonl").exists()
    coco = json.loads((out / "coco.json").read_text())
    shown = {image["id"]: image["file_name"] for image in coco["images"]}
    assert all((out / name).is_file() for name in shown.values())
    for name, decision in made.decisions.items():
        areas = [one.area_px for one in decision.regions]
        image = next(number for number, path in shown.items() if path.endswith(name.removeprefix("images/") + ".png"))
        assert [one["area"] for one in coco["annotations"] if one["image_id"] == image] == areas
        assert int((np.asarray(Image.open(out / f"masks/{name}.png")) > 0).sum()) == sum(areas)
        drawn = json.loads((out / f"labelme/{name}.json").read_text())
        assert len(drawn["shapes"]) == len(areas)
        assert (out / f"labelme/{name}.json").parent.joinpath(drawn["imagePath"]).is_file()
    made, _ = predict()
    assert not (out / "coco.json").exists()
    assert made.remarks == ["masks, labelme: of an earlier run, left as they are"]


@pytest.mark.parametrize("wanted", [{"overlays": "alarms"}, {"decisions": ("csv",)}])
def test_what_needs_thresholds_is_refused_without_them(predict, wanted, tmp_path):
    with pytest.raises(NotFittedError, match="has no thresholds"):
        predict(GrayDetector(wishes=None), **wanted)
    assert not (tmp_path / "out").exists()
    made, _ = predict(GrayDetector(wishes=None), decisions=())
    assert (len(made.scores), made.decisions) == (5, {})


@given(arrays(np.float32, (3, 4), elements=st.floats(0, 4, width=32)))
def test_a_map_in_16_bits_is_at_most_half_a_step_off(tmp_path_factory, anomaly_map):
    path = tmp_path_factory.mktemp("maps") / "map.png"
    write_map_png(path, anomaly_map, description='{"score": 1.5}')
    stored = read_map(path)
    assert np.abs(stored - np.minimum(anomaly_map, 65_535 * PNG_STEP)).max() <= PNG_STEP / 2
    assert stored.dtype == np.float32
    assert read_prediction(path).score == 1.5
    write_map_png(path, stored)
    assert np.array_equal(read_map(path), stored)


@pytest.mark.parametrize("value", [-0.001, 4.01])
def test_a_map_that_does_not_fit_into_16_bits_is_refused_and_leaves_nothing(predict, tmp_path, value):
    with pytest.raises(SettingsError, match="--maps tiff"):
        write_map_png(tmp_path / "map.png", np.full((2, 2), value, np.float32))
    assert not (tmp_path / "map.png").exists()
    with pytest.raises(SettingsError, match="--maps tiff"):
        predict(GrayDetector(highest=5.0), maps="png16")


def test_maps_in_16_bits_say_what_tiffs_say_and_are_gone_on_from(predict, tmp_path):
    first, _ = predict()
    told = {stem: read_header(tmp_path / f"out/in/images/{stem}.tiff").description for stem in range(5)}
    made, n_seen = predict(maps="png16")  # of the maps that are there
    assert (n_seen, files(tmp_path / "out/in")) == (0, {f"images/{stem}.png" for stem in range(5)})
    assert made.scores == first.scores
    for stem, description in told.items():
        header = read_header(tmp_path / f"out/in/images/{stem}.png")
        assert origin_in(header.description) == origin_in(description)
        assert (header.dtype, header.size) == ("uint16", SIZE)
    again, n_seen = predict(maps="png16")
    assert (n_seen, again.remarks) == (0, [])
    assert [one.record() for one in again.decisions.values()] == [one.record() for one in made.decisions.values()]
    exact, n_seen = predict()
    assert (n_seen, exact.remarks) == (5, ["5 maps, 5 of them made again: of 16 bits"])
    assert files(tmp_path / "out/in") == {f"images/{stem}.tiff" for stem in range(5)}
    predict(maps="png16")
    _, n_seen = predict(maps="none")
    assert n_seen == 0


def test_a_photograph_beside_maps_is_never_taken_for_one(tmp_path, photographs):
    """Another program's PNG under the name of a map stays, whatever is written beside it."""
    place = tmp_path / "out/in/images"
    place.mkdir(parents=True)
    Image.fromarray(noise(1)).save(place / "0.png")
    before = (place / "0.png").read_bytes()
    predict_to_disk(GrayDetector(), "in", find_images(photographs), tmp_path / "out", progress=lambda *step: None)
    assert (place / "0.png").read_bytes() == before
    assert (place / "0.tiff").exists()


def test_own_pictures_are_no_photographs(predict, tmp_path, photographs):
    for maps in ("tiff", "png16"):
        predict(maps=maps, overlays="none", decisions=("masks",))
        (tmp_path / "out").rename(photographs / "out")
        (tmp_path / "all").mkdir(exist_ok=True)
        found = find_photographs([str(photographs / "*.png"), str(photographs / "out/**/*.*")])
        assert [sample.image_path.name for sample in found.samples] == [f"{stem}.png" for stem in range(5)]
        (photographs / "out").rename(tmp_path / "out")


def test_scores_of_maps_in_16_bits_are_those_of_floats(monkeypatch, capsys, tmp_path):
    """AUPRO within 1e-3: a step is 1/16384, and what ties within one counts as equal."""
    for seed in range(6):
        label = "scratch" if seed > 2 else "good"
        for folder in ("test", "train") if label == "good" else ("test",):
            path = tmp_path / f"parts/{folder}/{label}/{seed}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise(seed, with_defect=seed > 2)).save(path)
        if seed > 2:
            mask = np.zeros(SIZE, np.uint8)
            mask[10:20, 30:36] = mask[30:33, 5:9] = 255
            (tmp_path / "parts/ground_truth/scratch").mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(tmp_path / f"parts/ground_truth/scratch/{seed}.png")
    samples = load_category("folder/parts", root=tmp_path).test
    scores = {}
    for maps in ("tiff", "png16"):
        out = tmp_path / maps
        outputs = OutputSettings(maps=maps, overlays="none")
        predict_to_disk(GrayDetector(), "parts", samples, out, progress=lambda *step: None, outputs=outputs)
        words = ("evaluate", out, "folder/parts", "--root", tmp_path, "--out", tmp_path / f"of {maps}")
        code, _, err = run(monkeypatch, capsys, *words)
        assert code == 0, err
        scores[maps] = read_result(tmp_path / f"of {maps}/folder/parts.json").evaluation
    (first, *_) = scores["tiff"].overall.aupro
    assert 0.1 < first < 1
    assert scores["png16"].overall.aupro == pytest.approx(scores["tiff"].overall.aupro, abs=1e-3)
    assert scores["png16"].image_auroc == scores["tiff"].image_auroc  # scores are stored as they are
