"""Pure functions of scores and masks; never files, and torch in `torch_metric.py` alone.

Masks and maps in memory are scored by the names below, which load on first use.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinydefects.metrics.functional import aupimo as aupimo
    from tinydefects.metrics.functional import aupro as aupro
    from tinydefects.metrics.functional import auroc as auroc
    from tinydefects.metrics.functional import average_precision as average_precision
    from tinydefects.metrics.functional import evaluate_arrays as evaluate_arrays
    from tinydefects.metrics.functional import pod as pod

__all__ = ["aupimo", "aupro", "auroc", "average_precision", "evaluate_arrays", "pod"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'tinydefects.metrics' has no attribute {name!r}")
    return getattr(importlib.import_module("tinydefects.metrics.functional"), name)


def __dir__() -> list[str]:
    return __all__
