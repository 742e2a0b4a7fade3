"""How far regions should reach, by the outlines of defects: python runs/region_extent.py DATA MAPS

Rules were chosen on the drawn families and on half A of the magnetic tiles; the others were looked at once, afterwards:
the families drawn anew, half B, and printed circuit boards. DATA holds `magnetic_tile` and `deeppcb` (in MVTec's
layout); MAPS keeps drawn parts and the maps, so that the command goes on where it was stopped. Writes
results/region_extent.json, then `python runs/tables.py` prints it. Half an hour on two cores.

The built-in teacher learns from some good parts of a scene; others set the thresholds. The halves are those of
results/teacher_probe.json, but for the loader's rule on jumps of the number.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinydefects.data.defects import EIGHT_CONNECTED, find_defects
from tinydefects.data.json_files import write_json
from tinydefects.data.sample import Prediction, Sample
from tinydefects.datasets.catalog import list_categories, load_category
from tinydefects.datasets.magnetic_tile import load_magnetic_tile
from tinydefects.decisions.calibrating import GoodPhotograph, calibrate
from tinydefects.decisions.calibration import Calibration, CalibrationSettings
from tinydefects.decisions.outcome import region_mask
from tinydefects.detector.detector import Detector
from tinydefects.detector.settings import DetectorSettings
from tinydefects.metrics.curves import f1
from tinydefects.metrics.groups import disjoint_quartiles
from tinydefects.results.result import describe_run

RESULT = Path(__file__).resolve().parents[1] / "results" / "region_extent.json"
DRAWN = {"size": 256, "n_train": 60, "n_good": 30, "n_defect": 40}
LEARNT: dict[str, Any] = {"teacher": "builtin", "seed": 0}
PATCH = 8  # of that teacher
SEED_TO_CHOOSE, SEED_TO_REPORT = 3, 0
N_DRAWN, N_TILES, N_BOARDS = 40, (120, 60, 90), 90  # to learn from; of tiles also to calibrate with and to test on
RULES = {  # quantile of the lowest level, and whether the extent ends at half of the highest value within a patch, too
    "level of 99.9 % of good pixels": (0.999, False),
    "of 99.99 %": (0.9999, False),
    "of 99.9 %, and half of the highest within a patch": (0.999, True),
}
Shown = dict[str, Any]


class Scene:
    """Good parts to learn from, others to set thresholds with, photographs to test on; what the detector is told."""

    def __init__(self, learn: list[Sample], calibrate: list[Sample], test: list[Sample], **told: int) -> None:
        self.learn, self.calibrate, self.test, self.told = learn, calibrate, test, told


def drawn(family: str, maps: Path, seed: int) -> Scene:
    """One family of drawn parts."""
    category = load_category(family, root=maps / "drawn", seed=seed, **DRAWN)
    good = list(category.train)
    return Scene(good[:N_DRAWN], good[N_DRAWN:], list(category.test), resolution=DRAWN["size"], epochs=40)


def tiles(half: str, data: Path) -> Scene:
    """One half of the magnetic tiles: whole tiles for each purpose, none that shows a defect among the good ones."""
    category = load_magnetic_tile("tiny", root=data, n_train=600)
    every = [one for one in [*category.train, *category.test] if is_in(half, one)]
    spoiled = {one.group for one in every if one.label == "defect"}
    free = [one for one in every if one.label == "good" and one.group not in spoiled]
    left = sorted(free, key=lambda one: (digest(f"x{one.group}"), one.id))
    parts = []
    for count in N_TILES:
        parts.append(left[:count])
        left = [one for one in left[count:] if one.group != parts[-1][-1].group]
    defects = [one for one in every if one.label == "defect"]
    return Scene(parts[0], parts[1], [*parts[2], *defects], resolution=320, epochs=10)


def is_in(half: str, sample: Sample) -> bool:
    return (digest(sample.group or "")[-1] % 2 == 0) == (half == "A")


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def boards(data: Path) -> Scene:
    """Printed circuit boards."""
    category = load_category("folder/deeppcb", root=data)
    good = list(category.train)
    return Scene(good[:N_BOARDS], good[N_BOARDS:], list(category.test), resolution=320, epochs=10)


def write_maps(path: Path, scene: Scene) -> None:
    """Learn, and keep every map with its mask: KIND/NUMBER/map, mask, score, label, part."""
    detector = Detector(**(LEARNT | scene.told)).fit(scene.learn, progress=False)
    arrays: dict[str, Any] = {}
    for kind, samples in (("calibrate", scene.calibrate), ("test", scene.test)):
        for number, sample in enumerate(samples):
            prediction, name = detector.predict(sample), f"{kind}/{number}"
            arrays[f"{name}/map"] = prediction.anomaly_map
            arrays[f"{name}/score"] = np.array(prediction.score)
            arrays[f"{name}/label"] = np.array(sample.label)
            arrays[f"{name}/part"] = np.array(sample.group or sample.id)
            if kind == "test":
                arrays[f"{name}/mask"] = sample.mask()
    unfinished = path.with_suffix(".part.npz")
    np.savez(unfinished, **arrays)
    unfinished.rename(path)


def calibrated(stored: Mapping[str, NDArray[Any]], resolution: int, rule: tuple[float, bool]) -> Calibration:
    """What the good parts give under a rule."""
    quantile, is_half = rule
    grids = DetectorSettings(resolution=resolution)
    good: list[GoodPhotograph] = []
    while f"calibrate/{len(good)}/map" in stored:
        name = f"calibrate/{len(good)}"
        anomaly_map, score = stored[f"{name}/map"], float(stored[f"{name}/score"])
        height, width = anomaly_map.shape
        patch_px = grids.grid((height, width), patch=PATCH).patch_px if is_half else 0.0
        one = Prediction(anomaly_map, score)
        good.append(GoodPhotograph(id=name, part=str(stored[f"{name}/part"]), prediction=one, patch_px=patch_px))
    return calibrate(good, CalibrationSettings(extent_quantile=quantile), fingerprint="maps", obtained="fresh")


def measure(stored: Mapping[str, NDArray[Any]], calibration: Calibration) -> Shown:
    """SegF1; and of the defects that regions overlap, how large those are beside them."""
    counts, n_alarms, n_good, number = np.zeros(4, dtype=int), 0, 0, 0
    areas, shown_areas, overlaps = [], [], []
    while f"test/{number}/map" in stored:
        anomaly_map, mask, label = (stored[f"test/{number}/{name}"] for name in ("map", "mask", "label"))
        number += 1
        shown, n_regions = region_mask(anomaly_map, extent=calibration.extent, seed=calibration.seed, min_area_px=1)
        if label == "good":
            n_good, n_alarms = n_good + 1, n_alarms + bool(n_regions)
        counts += [(shown & mask).sum(), (shown & ~mask).sum(), mask.sum(), (~mask).sum()]
        labels, _ = ndimage.label(shown, EIGHT_CONNECTED)
        sizes = np.bincount(labels.ravel())
        for defect in find_defects(mask, number) if mask.any() else ():
            under = labels[defect.box][defect.pixels]
            areas.append(defect.area_px)
            overlaps.append(np.count_nonzero(under))
            shown_areas.append(int(sizes[np.unique(under[under > 0])].sum()))
    area, shown_area, overlap = (np.array(one, dtype=float) for one in (areas, shown_areas, overlaps))
    is_hit = overlap > 0
    iou = overlap / (area + shown_area - overlap)
    smallest = disjoint_quartiles(area)[0]
    n_found, n_false, n_defect, n_normal = counts.tolist()
    return {
        "seg_f1": f1(n_found=n_found, n_false=n_false, n_defect=n_defect, n_normal=n_normal),
        "n_defects": area.size,
        "n_hit": int(is_hit.sum()),
        "n_hit_of_smallest_quarter": int(is_hit[smallest].sum()),
        "median_area_ratio": float(np.median((shown_area / area)[is_hit])),
        "mean_iou": float(iou[is_hit].mean()),
        "n_good": n_good,
        "n_good_with_regions": n_alarms,
    }


def main(data: Path, maps: Path) -> None:
    """Make the maps that are missing, then measure all."""
    scenes: dict[str, tuple[str, int, Callable[[], Scene]]] = {}
    for purpose, seed in (("choose", SEED_TO_CHOOSE), ("report", SEED_TO_REPORT)):
        for family in list_categories("synthetic"):
            name = f"{purpose}_{family.split('/')[1]}"
            scenes[name] = (purpose, DRAWN["size"], partial(drawn, family, maps, seed))
        half = "A" if purpose == "choose" else "B"
        scenes[f"{purpose}_tiles_{half}"] = (purpose, 320, partial(tiles, half, data))
    scenes["report_boards"] = ("report", 320, partial(boards, data))
    rows = []
    for name, (purpose, resolution, make) in scenes.items():
        path = maps / f"{name}.npz"
        if not path.exists():
            write_maps(path, make())
        with np.load(path) as file:
            stored = dict(file)
        found = {rule: measure(stored, calibrated(stored, resolution, how)) for rule, how in RULES.items()}
        rows.append({"scene": name.removeprefix(f"{purpose}_"), "purpose": purpose, "rules": found})
        print(rows[-1], flush=True)
    settings = {"command": "runs/region_extent.py", **LEARNT, **{f"drawn_{key}": value for key, value in DRAWN.items()}}
    write_json(RESULT, {"provenance": asdict(describe_run(settings)), "rows": rows})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
