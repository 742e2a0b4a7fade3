"""Places for requests: one is taken before a request's body is read, and is free once its work has really ended.

A thread cannot be stopped. A request that was given up, or whose caller is gone, keeps its place until its last
photograph is done with: otherwise whoever hangs up and asks again would pile up work without end.
"""

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any


class NoPlaceError(Exception):
    """All places are taken."""


class Place:
    """One request at hand.

    Attributes:
        folder: its own, gone with it.
        is_given_up: nobody waits for its answer any more; work that has not begun need not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_given_up = False
        self._works = set[asyncio.Task[Any]]()

    def hold(self, work: asyncio.Task[Any]) -> None:
        """Keep the place at least until this has ended."""
        self._works.add(work)
        work.add_done_callback(self._let_go)

    def _let_go(self, work: asyncio.Task[Any]) -> None:
        self._works.discard(work)
        if not work.cancelled():
            work.exception()  # looked at, so that asyncio does not complain where nobody waits for it any more

    @property
    def has_work(self) -> bool:
        """Whether some has not ended."""
        return bool(self._works)

    async def ended(self) -> None:
        """Return when all work has ended, well or not."""
        while self._works:
            await asyncio.wait(self._works)


class Places:
    """So many requests at once.

    Args:
        number: how many.
        scratch: the folder in which each gets one of its own.
        tell: called with how many are taken, each time that changes.
    """

    def __init__(self, number: int, scratch: Path, tell: Callable[[int], object] = lambda n_taken: None) -> None:
        self.n_taken = 0
        self._number, self._scratch, self._tell = number, scratch, tell
        self._leaving = set[asyncio.Task[None]]()

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[Place]:
        """A place for as long as the block runs, and as the work that it started.

        Raises:
            NoPlaceError: all are taken.
            OSError: its folder cannot be made.
        """
        if self.n_taken >= self._number:
            raise NoPlaceError
        folder = self._scratch / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        place = Place(folder)
        self._change(+1)
        try:
            yield place
        finally:
            place.is_given_up = True
            if place.has_work:
                leaving = asyncio.create_task(self._leave_later(place))
                self._leaving.add(leaving)  # the event loop itself would forget it
                leaving.add_done_callback(self._leaving.discard)
            else:
                self._leave(place)

    async def _leave_later(self, place: Place) -> None:
        await place.ended()
        self._leave(place)

    def _leave(self, place: Place) -> None:
        shutil.rmtree(place.folder, ignore_errors=True)
        self._change(-1)

    def _change(self, by: int) -> None:
        self.n_taken += by
        self._tell(self.n_taken)
