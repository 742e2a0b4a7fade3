"""One progress display for everything slow, on standard error: bars where somebody watches, else a line every 10 %."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

import rich.console
import rich.progress

T = TypeVar("T")
Report = Callable[[str, int, int | None], object]  # called with a stage, what is done of it, and its total if known
LINES_PER_STAGE = 10
BAR_WIDTH = 30


class Progress:
    """Bars by stage; call it with (stage, done, total), or with a number of steps for the stage named last.

    In a notebook a stage is one line drawn over itself, which needs no widgets. Where nobody watches (a log file, a
    build server), each stage writes ten lines instead. A quiet one shows nothing at all.

    Attributes:
        is_watched: whether standard error is a terminal or a notebook.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        console = rich.console.Console(stderr=True, quiet=quiet)
        self._quiet = quiet
        self._in_notebook = console.is_jupyter
        self._in_lines = not console.is_terminal
        self.is_watched = self._in_notebook or console.is_terminal
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
        if self._in_notebook:
            self._write_over(stage, done, total)
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

    def _write_over(self, stage: str, done: int, total: int | None) -> None:
        """The line of a stage, in place of what it was; every stage begins a new one."""
        begins = "\r" if stage in self._lines else "\n" * bool(self._lines)
        self._lines[stage] = done
        bar = f" {'█' * (BAR_WIDTH * done // total):░<{BAR_WIDTH}}" if total else ""
        of_total = f" of {total}" if total else ""
        sys.stderr.write(f"{begins}{stage}:{bar} {done}{of_total}, {time.monotonic() - self._start:.0f} s")
        sys.stderr.flush()


@contextmanager
def reporting(progress: Report | bool | None) -> Iterator[Report]:
    """What slow work reports to while the block runs.

    None shows it where somebody watches, in a terminal or a notebook; False nowhere; True everywhere; a function is
    called instead.
    """
    if callable(progress):
        yield progress
        return
    shown = Progress()
    if shown.is_watched if progress is None else progress:
        with shown:
            yield shown
    else:
        yield lambda stage, done, total: None
