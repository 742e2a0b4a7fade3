"""Many images to disk: anomaly maps, overlays and a table of scores; goes on where it was stopped."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinydefects.errors import DatasetError
from tinydefects.pixels import IMAGE_SUFFIXES, write_png, write_whole
from tinydefects.predictions import claim_folder, map_path, read_prediction, write_prediction
from tinydefects.read_ahead import read_ahead
from tinydefects.sample import Prediction, Sample

if TYPE_CHECKING:
    from tinydefects.detector import Detector
    from tinydefects.export.exported import ExportedDetector

ROWS_AT_ONCE = 256
HEAT_RGB = np.array([255, 40, 0], dtype=np.float32)


def find_images(folder: Path) -> list[Sample]:
    """Every image below a folder as an unlabelled Sample, in the order of their paths.

    Raises:
        DatasetError: the folder is missing or holds no image, or two images share a stem and so would share a map.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise DatasetError(
            f"{folder}: no images here ({', '.join(sorted(IMAGE_SUFFIXES))}); name a folder of photographs"
        )
    by_name: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in by_name:
            raise DatasetError(f"{path}: {by_name[name].name} has the same stem; stems must differ, rename one")
        by_name[name] = path
    return [Sample(id=f"images/{name}", image_path=path, label="unknown") for name, path in by_name.items()]


def predict_to_disk(
    detector: "Detector | ExportedDetector",
    category_id: str,
    samples: Sequence[Sample],
    folder: Path,
    *,
    progress: Callable[[str, int, int | None], None],
    batch_size: int = 1,
) -> list[float]:
    """Write map and overlay of every sample and one scores.csv; returns the image scores in order.

    Maps already there are kept if the same detector wrote them. For `batch_size` see `Detector.predict_many`.

    Raises:
        ImageReadError: the folder holds maps of another detector.
        TinyDefectsError: `batch_size` is too large for the detector or its GPU.
    """
    claim_folder(folder, {"detector": detector.fingerprint, **detector.settings.model_dump(mode="json")})
    scores, ceilings, floors = [], [], []
    predictions = _predict_each(detector, category_id, samples, folder, batch_size)
    for done, prediction in enumerate(predictions, start=1):
        scores.append(prediction.score)
        floors.append(float(np.median(prediction.anomaly_map)))
        ceilings.append(float(prediction.anomaly_map.max()))
        progress("predict", done, len(samples))
    scale = (float(np.median(floors)), max(ceilings))

    def write_overlay(sample: Sample) -> None:
        anomaly_map = read_prediction(map_path(folder, category_id, sample)).anomaly_map
        overlay_path = map_path(folder / "overlays", category_id, sample).with_suffix(".png")
        write_png(overlay_path, overlay(sample.image(), anomaly_map, scale))

    for done, _ in enumerate(read_ahead(write_overlay, samples), start=1):
        progress("overlay", done, len(samples))
    _write_scores(folder / "scores.csv", samples, scores)
    return scores


def overlay(
    image: NDArray[np.uint8], anomaly_map: NDArray[np.float32], scale: tuple[float, float]
) -> NDArray[np.uint8]:
    """The image tinted where the map is high: (H, W, 3); nothing at scale[0] and below, full tint at scale[1]."""
    low, high = scale
    tinted = np.empty_like(image)
    for start in range(0, len(image), ROWS_AT_ONCE):  # as floats a photograph takes four times its memory, and again
        rows = slice(start, start + ROWS_AT_ONCE)
        strength = np.clip((anomaly_map[rows] - low) / max(high - low, 1e-12), 0, 1)[..., None] * np.float32(0.7)
        tinted[rows] = np.rint(image[rows] * (1 - strength) + HEAT_RGB * strength)
    return tinted


def _predict_each(
    detector: "Detector | ExportedDetector",
    category_id: str,
    samples: Sequence[Sample],
    folder: Path,
    batch_size: int,
) -> Iterator[Prediction]:
    """The prediction of every sample, once it is on disk; the next images are read while the detector looks at one."""

    def is_on_disk(sample: Sample) -> bool:
        return map_path(folder, category_id, sample).exists()

    def predictions() -> Iterator[tuple[Sample, Prediction]]:
        for on_disk, run in groupby(samples, key=is_on_disk):
            row = list(run)
            if on_disk:
                known = read_ahead(lambda sample: read_prediction(map_path(folder, category_id, sample)), row)
                yield from zip(row, known, strict=True)
            else:
                images = read_ahead(Sample.image, row)
                yield from zip(row, detector.predict_many(images, batch_size=batch_size), strict=True)

    def keep(made: tuple[Sample, Prediction]) -> Prediction:
        if not is_on_disk(made[0]):
            write_prediction(folder, category_id, *made)
        return made[1]

    return read_ahead(keep, predictions())


def _write_scores(path: Path, samples: Sequence[Sample], scores: Sequence[float]) -> None:
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["image", "label", "score"])
    writer.writerows([sample.id, sample.label, score] for sample, score in zip(samples, scores, strict=True))
    write_whole(path, lambda file: file.write(table.getvalue().encode(errors="backslashreplace")))
