"""Find defects a few pixels wide, and measure honestly how small one can go.

Names load on first use, so that scoring never imports torch. Masks and maps in memory are scored by
`tinydefects.metrics`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinydefects.benchmark.benchmark import run_benchmark as run_benchmark
    from tinydefects.data.sample import Category as Category
    from tinydefects.data.sample import Prediction as Prediction
    from tinydefects.data.sample import Sample as Sample
    from tinydefects.datasets.catalog import load_category as load_category
    from tinydefects.datasets.folder import load_folder as load_folder
    from tinydefects.decisions.calibration import Calibration as Calibration
    from tinydefects.decisions.calibration import CalibrationSettings as CalibrationSettings
    from tinydefects.decisions.decision import Decision as Decision
    from tinydefects.detector.detector import Detector as Detector
    from tinydefects.detector.settings import DetectorSettings as DetectorSettings
    from tinydefects.errors import TinyDefectsError as TinyDefectsError
    from tinydefects.export.exported import ExportedDetector as ExportedDetector
    from tinydefects.metrics.evaluation import EvaluationSettings as EvaluationSettings
    from tinydefects.metrics.evaluation import evaluate as evaluate
    from tinydefects.metrics.scores import Evaluation as Evaluation
    from tinydefects.metrics.statistics.comparison import compare as compare
    from tinydefects.metrics.statistics.leaderboard import leaderboard as leaderboard
    from tinydefects.report.page import write_report as write_report
    from tinydefects.results.result import Result as Result
    from tinydefects.results.result import read_result as read_result

    __version__: str

_HOME = {
    "Calibration": "tinydefects.decisions.calibration",
    "CalibrationSettings": "tinydefects.decisions.calibration",
    "Category": "tinydefects.data.sample",
    "Decision": "tinydefects.decisions.decision",
    "Detector": "tinydefects.detector.detector",
    "DetectorSettings": "tinydefects.detector.settings",
    "Evaluation": "tinydefects.metrics.scores",
    "EvaluationSettings": "tinydefects.metrics.evaluation",
    "ExportedDetector": "tinydefects.export.exported",
    "Prediction": "tinydefects.data.sample",
    "Result": "tinydefects.results.result",
    "Sample": "tinydefects.data.sample",
    "TinyDefectsError": "tinydefects.errors",
    "compare": "tinydefects.metrics.statistics.comparison",
    "evaluate": "tinydefects.metrics.evaluation",
    "leaderboard": "tinydefects.metrics.statistics.leaderboard",
    "load_category": "tinydefects.datasets.catalog",
    "load_folder": "tinydefects.datasets.folder",
    "read_result": "tinydefects.results.result",
    "run_benchmark": "tinydefects.benchmark.benchmark",
    "write_report": "tinydefects.report.page",
}
__all__ = ["Calibration", "CalibrationSettings", "Category", "Decision", "Detector", "DetectorSettings", "Evaluation"]
__all__ += ["EvaluationSettings", "ExportedDetector", "Prediction", "Result", "Sample", "TinyDefectsError", "compare"]
__all__ += ["evaluate", "leaderboard", "load_category", "load_folder", "read_result", "run_benchmark", "write_report"]


def __getattr__(name: str) -> object:
    if name == "__version__":  # of pyproject.toml, as installed
        from importlib.metadata import version

        return version("tinydefects")
    if name not in _HOME:
        raise AttributeError(f"module 'tinydefects' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from tinydefects.errors import MissingExtraError

        raise MissingExtraError("Detector", "detector") from error


def __dir__() -> list[str]:
    return __all__
