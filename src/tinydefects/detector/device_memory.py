"""How much memory work has taken at most, and how much is left: of the process, or of the GPU where it runs on one."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

STATUS, MEMORY, RESET = Path("/proc/self/status"), Path("/proc/meminfo"), Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceMemory:
    """Questions to one device, answered in bytes.

    Attributes:
        reset_peak: the peak becomes what is held now; without effect where the system cannot (not Linux).
        peak_bytes: the most that was held since then, or in the process's whole life.
        free_bytes: still to be had; a very large number where the system does not say.
    """

    reset_peak: Callable[[], None]
    peak_bytes: Callable[[], int]
    free_bytes: Callable[[], int]


def memory_of(device: str) -> DeviceMemory:
    """Of a device by torch's name of it; torch is imported for GPUs alone."""
    if not device.startswith("cuda"):
        return DeviceMemory(reset_peak=_reset_peak, peak_bytes=_peak_bytes, free_bytes=_free_bytes)
    import torch

    return DeviceMemory(
        reset_peak=lambda: torch.cuda.reset_peak_memory_stats(device),
        peak_bytes=lambda: torch.cuda.max_memory_reserved(device),
        free_bytes=lambda: torch.cuda.mem_get_info(device)[0],
    )


def _reset_peak() -> None:
    try:
        RESET.write_text("5")  # man proc_pid_clear_refs
    except OSError:
        return


def _peak_bytes() -> int:
    held = _kilobytes(STATUS, "VmHWM")
    if held is not None:
        return 1024 * held
    import resource  # Windows has neither

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _free_bytes() -> int:
    free = _kilobytes(MEMORY, "MemAvailable")
    return sys.maxsize if free is None else 1024 * free


def _kilobytes(table: Path, name: str) -> int | None:
    try:
        rows = [line.partition(":") for line in table.read_text().splitlines()]
    except OSError:
        return None
    return next((int(value.split()[0]) for key, _, value in rows if key == name), None)
