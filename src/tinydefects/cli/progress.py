"""One progress display for everything slow, on standard error: bars in a terminal, a line every 10 % elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import rich.console
import rich.progress

T = TypeVar("T")
LINES_PER_STAGE = 10


class Progress:
    """Bars by stage; call it with (stage, done, total), or with a number of steps for the stage named last.

    Where standard error is no terminal (a log file, a build server), each stage writes ten lines instead. A quiet one
    shows nothing at all.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        console = rich.console.Console(stderr=True, quiet=quiet)
        self._quiet = quiet
        self._in_lines = not console.is_terminal
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            console=console,
            disable=self._in_lines or quiet,
        )
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._lines: dict[str, int] = {}
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if self._quiet:
            return
        if self._in_lines:
            self._write_line(stage, done, total)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def say(self, line: str) -> None:
        """One line above the bars."""
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def track(self, things: Iterable[T], stage: str, total: int) -> Iterator[T]:
        """Yield the things and show how many have passed."""
        for done, thing in enumerate(things, start=1):
            yield thing
            self(stage, done, total)

    def _write_line(self, stage: str, done: int, total: int | None) -> None:
        """One line for each tenth of a stage, one for each doubling where the total is unknown."""
        step = done * LINES_PER_STAGE // total if total else done.bit_length()
        if step > self._lines.get(stage, 0):
            self._lines[stage] = step
            share = f" of {total} ({done / total:.0%})" if total else ""
            sys.stderr.write(f"{stage}: {done}{share}, {time.monotonic() - self._start:.0f} s\n")
            sys.stderr.flush()
