"""The devices of this machine: which there are, how work on one is made repeatable, what time and memory it takes.

A device is checked where it is named, before any work begins. torch is imported by what needs it alone.
"""

import os
import random
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tinydefects.errors import MissingExtraError, TinyDefectsError

CPU = "cpu"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
STATUS, MEMORY, RESET = Path("/proc/self/status"), Path("/proc/meminfo"), Path("/proc/self/clear_refs")


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

    is_built: bool = torch.backends.cuda.is_built()
    return "" if is_built else " (this torch is built without CUDA)"


@contextmanager
def limited_threads(n_threads: int) -> Iterator[None]:
    """Every numeric library, loaded already or inside the block, uses `n_threads` threads.

    Sums in another order give other last digits: results repeat only with equal threads (and equal processors).

    Raises:
        MissingExtraError: threadpoolctl is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtraError("limiting threads", "benchmark") from error
    import torch

    variables = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    of_torch = torch.get_num_threads()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
    torch.set_num_threads(n_threads)
    try:
        with threadpool_limits(limits=n_threads):
            yield
    finally:
        torch.set_num_threads(of_torch)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def seed_all(seed: int) -> None:
    """Seed the global generators, those of all devices, for libraries that draw from them; our own code does not."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def waiting_for(device: str) -> Callable[[], None]:
    """A function that returns once the device has done all that it was asked for; at once for a CPU."""
    import torch

    if device.startswith("cuda"):
        return partial(torch.cuda.synchronize, device)
    return torch.mps.synchronize if device.startswith("mps") else lambda: None


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
