"""The one door to timm: repairs a torchvision whose compiled operators do not fit the installed torch.

A CPU build of torch beside the torchvision of PyPI fails on ``import timm``, which needs none of those operators.
"""

import sys
from types import ModuleType

from tinydefects.privacy import silence_reports

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_keep_alive: list[object] = []  # torch forgets the declared operators when their library object dies


def load_timm() -> ModuleType:
    """The timm module, importable also beside a torchvision built for another torch."""
    silence_reports()  # it brings the client of the hub
    _repair_torchvision()
    import timm

    return timm


def _repair_torchvision() -> None:
    """Import torchvision; where its operators are missing, declare the two it asks for and import it again."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declare_operators()
        import torchvision  # noqa: F401


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(operator + _SCHEMA)  # type: ignore[no-untyped-call]
    _keep_alive.append(library)
