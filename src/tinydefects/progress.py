"""One progress display for everything slow, on standard error."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import rich.console
import rich.progress

T = TypeVar("T")


class Progress:
    """Bars by stage; call it with (stage, done, total), or with a number of steps for the stage named last."""

    def __init__(self) -> None:
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            console=rich.console.Console(stderr=True),
        )
        self._tasks: dict[str, rich.progress.TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def track(self, things: Iterable[T], stage: str, total: int) -> Iterator[T]:
        """Yield the things and show how many have passed."""
        for done, thing in enumerate(things, start=1):
            yield thing
            self(stage, done, total)
