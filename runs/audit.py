"""Five methods under every rule of the audit, on drawn parts and on magnetic tiles: python runs/audit.py DATA [WORK]

DATA holds magnetic_tile/; WORK (default: audit) takes drawn parts, models and maps, so that the same command goes on
where it was stopped. Writes results/audit/<category>.json (numbers only) and docs/pictures/audit.png; then
`python runs/tables.py` writes the tables of docs/audit.md. A result of other images, with another teacher or with other
settings is made again.
"""

import hashlib
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinydefects.audit.audit import Audit, audit_maps, read_audit, write_audit
from tinydefects.audit.showing import describe_audit, plot_audit
from tinydefects.benchmark.data_digests import split_digest
from tinydefects.data.predictions import map_path, read_prediction, write_prediction
from tinydefects.data.sample import Category, Prediction, mean_of_highest
from tinydefects.datasets.catalog import load_category
from tinydefects.detector.detector import Detector
from tinydefects.detector.patch_grid import image_size
from tinydefects.detector.students import Combine
from tinydefects.detector.teacher import load_teacher
from tinydefects.methods.local_contrast import local_contrast as gray_against_surroundings
from tinydefects.progress import Progress

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PICTURE = ROOT / "results" / "audit", ROOT / "docs" / "pictures" / "audit.png"
FAMILIES = ("brushed_metal", "machined_part")
DRAWN = {"size": 384, "n_train": 16, "n_good": 24, "n_defect": 36, "min_area_px": 1, "seed": 0}
TILES = {"n_train": 60, "n_good": 60, "n_defect": 90, "seed": 0}
EPOCHS = 20
TEACHER = load_teacher("builtin")

METHODS = ("fbft", "forward_only", "backward_only", "fbft_half_size", "local_contrast")
COMBINED: dict[str, Combine] = {"fbft": "product", "forward_only": "forward", "backward_only": "backward"}

Predict = Callable[[NDArray[np.uint8]], dict[str, Prediction]]


def categories(data: Path, work: Path) -> dict[str, tuple[Category, int]]:
    """Each category with its long side in pixels, which is the resolution of the method."""
    drawn = {f"synthetic_{name}": (load_category(f"synthetic/{name}", root=work, **DRAWN), 384) for name in FAMILIES}
    return drawn | {"magnetic_tile_tiny": (some_tiles(data), 320)}


def some_tiles(data: Path) -> Category:
    """Blowholes, cracks and breaks: a random choice of test images, the same for the same seed."""
    tiles = load_category("magnetic_tile/tiny", root=data, n_train=TILES["n_train"], seed=TILES["seed"])
    chance = random.Random(TILES["seed"])
    good = chance.sample([sample for sample in tiles.test if sample.label == "good"], TILES["n_good"])
    defective = chance.sample([sample for sample in tiles.test if sample.label == "defect"], TILES["n_defect"])
    return replace(tiles, test=[*good, *defective])


def fitted(category: Category, folder: Path, resolution: int) -> Detector:
    """The detector in the folder, or a new one learnt and saved there."""
    if not (folder / "detector.json").exists():
        detector = Detector(teacher=TEACHER, resolution=resolution, epochs=EPOCHS)
        detector.fit(sample.image() for sample in category.train).save(folder)
    return Detector.load(folder, teacher=TEACHER)


def transfer(detector: Detector, suffix: str, shown: Sequence[str]) -> Predict:
    """FBFT and each of its two students alone, from one look of the teacher; `shown` says which of the three."""

    def predict(image: NDArray[np.uint8]) -> dict[str, Prediction]:
        grid = detector.grid(image_size(image))
        features = TEACHER.features(grid.to_patches(image, TEACHER.mean, TEACHER.std)[None])
        scores = {name: detector.patch_scores(*features, combine=COMBINED[name]) for name in shown}
        return {name + suffix: detector.prediction(grid, of_one[0]) for name, of_one in scores.items()}

    return predict


def local_contrast(image: NDArray[np.uint8]) -> dict[str, Prediction]:
    """Learns nothing, see `methods/local_contrast.py`."""
    contrast = gray_against_surroundings(image)
    return {"local_contrast": Prediction(contrast, mean_of_highest(contrast))}


def write_maps(category: Category, work: Path, resolution: int, progress: Progress) -> None:
    """The maps of all methods for every test image that lacks one of them."""
    predictors: list[Predict] = [local_contrast]
    for side, suffix, shown in ((resolution, "", METHODS[:3]), (resolution // 2, "_half_size", METHODS[:1])):
        folder = work / f"model_{side}"
        predictors.append(transfer(fitted(category, folder, side), suffix, shown))
    for sample in progress.track(category.test, f"{category.id}: maps", len(category.test)):
        if not all(map_path(work / method, category.id, sample).exists() for method in METHODS):
            for predict in predictors:
                for method, prediction in predict(sample.image()).items():
                    write_prediction(work / method, category.id, sample, prediction)


def made_of(category: Category, resolution: int) -> str:
    """Digest of all that the maps and so the audit depend on: images and masks, teacher, settings."""
    text = f"{split_digest(category)} {TEACHER.fingerprint} {resolution} {EPOCHS}"
    return hashlib.sha256(text.encode()).hexdigest()


def is_made(path: Path, digest: str) -> bool:
    """Whether the result is there, and of these images, this teacher and these settings."""
    return path.exists() and read_audit(path).provenance.settings.get("made_of") == digest


def run(name: str, category: Category, resolution: int, work: Path, digest: str) -> Audit:
    """Write the maps that are missing, then audit them; what is there already and made of the same is read."""
    path = RESULTS / f"{name}.json"
    if is_made(path, digest):
        return read_audit(path)
    made = DRAWN if name.startswith("synthetic") else TILES
    settings = {**made, "resolution": resolution, "epochs": EPOCHS, "teacher": TEACHER.fingerprint}
    settings["made_of"] = digest
    with Progress() as progress:
        write_maps(category, work, resolution, progress)
        folders = [work / method for method in METHODS]
        audit = audit_maps(folders, category, track=progress.track, settings=settings)
    write_audit(audit, path)
    return audit


def rescale(category: Category, work: Path, digest: str) -> None:
    """FBFT beside itself with every score to the fourth power: no threshold, so no exact number, tells them apart."""
    path = RESULTS / "rescaled" / f"{work.name}.json"
    if is_made(path, digest):
        return
    for sample in category.test:
        fbft = read_prediction(map_path(work / METHODS[0], category.id, sample))
        steep = Prediction(fbft.anomaly_map**4, fbft.score**4)
        write_prediction(work / "fbft_to_the_4th", category.id, sample, steep)
    with Progress() as progress:
        folders = [work / METHODS[0], work / "fbft_to_the_4th"]
        audit = audit_maps(
            folders, category, track=progress.track, settings={"teacher": TEACHER.fingerprint, "made_of": digest}
        )
    write_audit(audit, path)


def main(data: Path, work: Path) -> None:
    """Run what has no result yet, then draw the picture."""
    audits = {}
    for name, (category, resolution) in categories(data, work / "drawn").items():
        digest = made_of(category, resolution)
        made_here = work / digest[:12] / name
        audits[name] = run(name, category, resolution, made_here, digest)
        print(describe_audit(audits[name]), flush=True)
        if name == "synthetic_brushed_metal":
            rescale(category, made_here, digest)
    plot_audit([audits["synthetic_brushed_metal"], audits["magnetic_tile_tiny"]], PICTURE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "audit"))
