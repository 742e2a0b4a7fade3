"""Work done a little ahead of the one who needs it, so that decoding a photograph and the teacher overlap."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")
Value = TypeVar("Value")
THREADS = min(4, os.cpu_count() or 1)  # as many photographs wait in memory


def read_ahead(
    function: Callable[[Argument], Value], arguments: Iterable[Argument], *, threads: int = THREADS
) -> Iterator[Value]:
    """The function of every argument, in order, at most `threads` values in front of the caller, each in a thread.

    Arguments are drawn in the caller's thread, so that two of these in a row read ahead of a step and write behind it.
    What the function or the arguments raise is raised here, after all values before it.
    """
    waiting: deque[Future[Value]] = deque()
    failures: list[Exception] = []
    with ThreadPoolExecutor(max_workers=threads) as pool:  # whatever ends this, what was begun is finished
        for argument in until_failure(arguments, failures):
            waiting.append(pool.submit(function, argument))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    if failures:
        raise failures[0]


def until_failure(values: Iterable[Value], failures: list[Exception]) -> Iterator[Value]:
    """The values up to the first that cannot be had; what stood in the way is put into `failures`."""
    try:
        yield from values
    except Exception as error:
        failures.append(error)
