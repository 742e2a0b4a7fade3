"""Where torch can compute on this machine; a device is checked where it is named, before any work begins."""

import shlex
from importlib.util import find_spec

from tinydefects.errors import TinyDefectsError

CPU = "cpu"


def require_device(device: str | None) -> str | None:
    """The same device, if this machine has it; None, the best one present, always is.

    torch is imported for devices other than the CPU alone.

    Raises:
        TinyDefectsError: there is none of that name; the message says which there are.
    """
    if device is None or device == CPU:
        return device
    present = devices_here()
    if device not in present:
        there = f"{', '.join(present)}{_why_no_cuda(device)}"
        raise TinyDefectsError(f"--device {shlex.quote(str(device))}: no such device here; there is {there}")
    return device


def devices_here() -> list[str]:
    """The names of all devices of this machine, as torch calls them: `cpu`, maybe `cuda`, `cuda:0`, …, `mps`."""
    if find_spec("torch") is None:  # an exported detector runs without it
        return [CPU]
    import torch

    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda", *(f"cuda:{number}" for number in range(n_cuda))] if n_cuda else []
    return [CPU, *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def _why_no_cuda(device: object) -> str:
    if find_spec("torch") is None or not str(device).lower().startswith(("cuda", "gpu")):
        return ""
    import torch

    is_built: bool = torch.backends.cuda.is_built()  # type: ignore[no-untyped-call]
    return "" if is_built else " (this torch is built without CUDA)"
