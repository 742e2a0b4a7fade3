"""Work done a little ahead of the one who needs it, so that decoding a photograph and the teacher overlap."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")
Value = TypeVar("Value")


def read_ahead(
    function: Callable[[Argument], Value], arguments: Iterable[Argument], *, threads: int = 2
) -> Iterator[Value]:
    """The function of every argument, in order, at most `threads` values in front of the caller, each in a thread.

    Arguments are drawn in the caller's thread, so that two of these in a row read ahead of a step and write behind it.
    What the function raises is raised here, after all values before it.
    """
    waiting: deque[Future[Value]] = deque()
    with ThreadPoolExecutor(max_workers=threads) as pool:  # whatever ends this, what was begun is finished
        for argument in arguments:
            waiting.append(pool.submit(function, argument))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
