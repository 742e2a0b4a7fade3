"""What makes a computation the same twice, and its time a true one: threads, seeds, and waiting for the device."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from tinydefects.errors import MissingExtraError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


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
    """Seed the global generators, for libraries that draw from them; our own code passes its seeds on."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def waiting_for(device: str) -> Callable[[], None]:
    """A function that returns once the device has done all that it was asked for; at once for a CPU."""
    if device.startswith("cuda"):
        return partial(torch.cuda.synchronize, device)
    return torch.mps.synchronize if device.startswith("mps") else lambda: None
