"""Work done a little ahead of the one who needs it, so that decoding a photograph and the teacher overlap."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

Argument = TypeVar("Argument")
Value = TypeVar("Value")
THREADS = min(4, os.cpu_count() or 1)  # as many photographs wait in memory
BYTES_AHEAD = 1 << 29  # that wait in memory: of everyday photographs `THREADS`, of line scans none


def read_ahead(
    function: Callable[[Argument], Value],
    arguments: Iterable[Argument],
    *,
    threads: int = THREADS,
) -> Iterator[Value]:
    """The function of every argument, in order, at most `threads` values in front of the caller, each in a thread.

    Arguments are drawn in the caller's thread, so that two of these in a row read ahead of a step and write behind it.
    Beyond `BYTES_AHEAD` of memory that its arguments take, see `memory_bytes`, nothing is done ahead.
    What the function or the arguments raise is raised here, after all values before it.
    """
    waiting: deque[tuple[Future[Value], int]] = deque()
    failures: list[Exception] = []
    held = 0
    with ThreadPoolExecutor(max_workers=threads) as pool:  # whatever ends this, what was begun is finished
        for argument in until_failure(arguments, failures):
            waiting.append((pool.submit(function, argument), memory_bytes(argument)))
            held += waiting[-1][1]
            del argument  # large ones would lie in memory until the next is drawn
            while len(waiting) > threads or held > BYTES_AHEAD:
                held -= waiting[0][1]
                yield waiting.popleft()[0].result()
        while waiting:
            yield waiting.popleft()[0].result()
    if failures:
        raise failures[0]


def memory_bytes(argument: object) -> int:
    """Of arrays, of what says it itself (a photograph that is to be read), of pairs and more of those; else 0."""
    if isinstance(argument, tuple):
        return sum(memory_bytes(part) for part in argument)
    if isinstance(argument, np.ndarray):
        return argument.nbytes
    return argument.memory_bytes() if isinstance(argument, TakesMemory) else 0


@runtime_checkable
class TakesMemory(Protocol):
    """What knows how much memory it takes, or will take once it is read."""

    def memory_bytes(self) -> int: ...


def until_failure(values: Iterable[Value], failures: list[Exception]) -> Iterator[Value]:
    """The values up to the first that cannot be had; what stood in the way is put into `failures`."""
    try:
        yield from values
    except Exception as error:
        failures.append(error)
