"""The whole road in one call: draw parts with defects of known size, learn, find, score by size, show.

Needs no download: synthetic images, the built-in teacher.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tinydefects.data.sample import Category, Prediction, Sample
from tinydefects.datasets.catalog import load_category
from tinydefects.detector.detector import Detector
from tinydefects.detector.devices import require_device
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.scores import Evaluation
from tinydefects.progress import Report
from tinydefects.report.page import write_report
from tinydefects.results.result import Result, describe_run, write_result


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What `tinydefects demo` runs: small enough for three minutes on two processor cores."""

    families: tuple[str, ...] = ("brushed_metal", "woven_fabric", "machined_part")
    size: int = 384
    n_train: int = 16
    n_good: int = 12
    n_defect: int = 24
    seed: int = 0


def run_demo(folder: Path, settings: DemoSettings, *, device: str | None, progress: Report) -> list[Result]:
    """Run every family and write `results/` and `report.html` into the folder; returns the results."""
    require_device(device)
    provenance = describe_run({"command": "demo", **{name: getattr(settings, name) for name in settings.__slots__}})
    results = []
    for family in settings.families:
        evaluation = _run_family(folder, family, settings, device, progress)
        results.append(Result(evaluation=evaluation, provenance=provenance))
        write_result(results[-1], folder / "results" / f"{evaluation.category}.json")
    write_report(results, folder / "report.html")
    return results


def _run_family(folder: Path, family: str, settings: DemoSettings, device: str | None, progress: Report) -> Evaluation:
    category = load_category(
        f"synthetic/{family}",
        root=folder / "data",
        seed=settings.seed,
        size=settings.size,
        n_train=settings.n_train,
        n_good=settings.n_good,
        n_defect=settings.n_defect,
        progress=lambda done, total: progress(f"{family}: draw", done, total),
    )
    detector = Detector(teacher="builtin", resolution=settings.size, seed=settings.seed, device=device)
    detector.fit(category.train, progress=lambda stage, done, total: progress(f"{family}: {stage}", done, total))
    return evaluate(_predict(detector, category, family, progress), category=category.id)


def _predict(
    detector: Detector, category: Category, family: str, progress: Report
) -> Iterator[tuple[Sample, Prediction]]:
    for done, sample in enumerate(category.test, start=1):
        yield sample, detector.predict(sample)
        progress(f"{family}: predict", done, len(category.test))
