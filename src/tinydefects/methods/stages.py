"""Where the time of one prediction goes, stage by stage."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STAGES = ("decode", "resize", "transfer", "teacher", "peer", "map")


class StageClock:
    """Adds up the seconds of each stage while it runs; while it does not, it costs next to nothing.

    A running clock also tells shared parts to compute what they would otherwise look up: a feature that was read from
    disk says nothing about the teacher's speed.
    """

    def __init__(self) -> None:
        self.running = False
        self.synchronise: Callable[[], None] = lambda: None  # waits for the device, where there is one
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count what happens inside to a stage of `STAGES`."""
        if not self.running:
            yield
            return
        start = time.perf_counter()
        yield
        self.synchronise()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """The seconds of each stage since the last call."""
        seconds, self._seconds = self._seconds, {}
        return seconds
