"""The threads of a service: two read photographs, one decides, so that the next is read while one is decided.

One decides at a time because torch and the other runtimes use all processors for one photograph. At most three
photographs lie in memory as pixels, whatever waits.
"""

import asyncio
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.pixels import read_image, read_size, write_png
from tinydefects.detector.predict_folder import BAD_PHOTOGRAPH
from tinydefects.detector.settings import DetectorSettings
from tinydefects.errors import ImageReadError
from tinydefects.serve.counts import Counts
from tinydefects.serve.places import Place
from tinydefects.serve.service_settings import MEGA

READERS = 2
AT_HAND = READERS + 1  # photographs in memory as pixels
LONGEST_WAIT_SECONDS = 3600
SHOWN = "shown.png"  # in a place's folder
Image = NDArray[np.uint8]
T = TypeVar("T")


class Decides(Protocol):
    """What makes decisions: a detector, or an exported one."""

    @property
    def settings(self) -> DetectorSettings: ...
    @property
    def fingerprint(self) -> str: ...
    def decide(self, image: Image) -> Mapping[str, Any]:
        """The decision of a photograph (H, W, 3), as JSON takes it; at least `verdict` and `score`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made of a photograph where it was decided: its decision, and what else was asked for."""

    decision: Mapping[str, Any]
    more: Any = None


class TooManyPixelsError(ImageReadError):
    """A photograph larger than this service takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as it is served: its name in the addresses, what decides, and that one's fingerprint, taken once."""

    name: str
    decides: Decides
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Photograph:
    """Where a photograph lies, and what its sender calls it."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a photograph: its size (H, W) in pixels and its decision, or the problem that it has.

    `more` is what else was asked for.
    """

    photograph: Photograph
    size: tuple[int, int] | None = None
    decision: Mapping[str, Any] | None = None
    more: Any = None
    problem: str | None = None
    is_too_large: bool = False


class Work:
    """Reads and decides; its methods belong to one event loop.

    Attributes:
        n_at_hand: photographs that are waiting, read or decided.
    """

    def __init__(self, most_pixels: int, counts: Counts) -> None:
        self.n_at_hand = 0
        self._most_pixels, self._counts = most_pixels, counts
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._decider = ThreadPoolExecutor(1, "decide")
        self._in_memory = asyncio.Semaphore(AT_HAND)
        self._recent = deque[float](maxlen=32)  # seconds of decisions
        self._in_threads = set[Future[Any]]()

    def start(
        self, model: Model, photograph: Photograph, place: Place, make: Callable[[Image], Made] | None = None
    ) -> asyncio.Task[Outcome | None]:
        """Begin with a photograph; its place is held until that has ended, whoever waits. None: it was given up.

        `make` is called where decisions are made, in the place of the model's own `decide`.
        """
        task = asyncio.create_task(self._outcome(model, photograph, place, make or _only_decide(model)))
        place.hold(task)
        return task

    def start_showing(self, model: Model, photograph: Photograph, place: Place) -> asyncio.Task[Outcome | None]:
        """The same for a PNG of the photograph as the model sees it, whose path is in `Outcome.more`."""
        task = asyncio.create_task(self._outcome(model, photograph, place, None))
        place.hold(task)
        return task

    def retry_after(self) -> int:
        """Seconds after which all that is at hand now should be decided, by recent decisions; at least 1."""
        each = statistics.median(self._recent) if self._recent else 1.0
        return min(LONGEST_WAIT_SECONDS, max(1, math.ceil(each * self.n_at_hand)))

    @property
    def is_running(self) -> bool:
        """Whether a thread works, for whomever."""
        return any(one.running() for one in list(self._in_threads))

    def note_seconds(self, seconds: float) -> None:
        """A decision took so long."""
        self._recent.append(seconds)

    def close(self) -> None:
        """Take nothing more; what runs in a thread goes on."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._decider.shutdown(wait=False, cancel_futures=True)

    async def _outcome(
        self, model: Model, photograph: Photograph, place: Place, make: Callable[[Image], Made] | None
    ) -> Outcome | None:
        self.n_at_hand += 1
        try:
            async with self._in_memory:
                if place.is_given_up:
                    return None
                return await self._read_and_make(model, photograph, place, make)
        except tuple(BAD_PHOTOGRAPH) as error:
            if isinstance(error.__cause__, MemoryError):
                raise error.__cause__ from error
            if make is not None:  # else it is one that has been decided, or will be
                self._counts.photograph(model.name, None)
            told, is_too_large = _told(error, photograph), isinstance(error, TooManyPixelsError)
            return Outcome(photograph=photograph, problem=told, is_too_large=is_too_large)
        finally:
            self.n_at_hand -= 1

    async def _read_and_make(
        self, model: Model, photograph: Photograph, place: Place, make: Callable[[Image], Made] | None
    ) -> Outcome | None:
        image, seconds = await self._run(self._readers.submit(self._read, model, photograph))
        self._counts.step(model.name, "read", seconds)
        height, width = image.shape[:2]
        if make is None:
            path = place.folder / SHOWN
            await self._run(self._readers.submit(write_png, path, image))
            return Outcome(photograph=photograph, size=(height, width), more=path)
        timed = await self._run(self._decider.submit(_decide, make, image, place))
        if timed is None:
            return None
        made, seconds = timed
        self.note_seconds(seconds)
        self._counts.step(model.name, "decide", seconds)
        self._counts.photograph(model.name, str(made.decision["verdict"]))
        return Outcome(photograph=photograph, size=(height, width), decision=made.decision, more=made.more)

    async def _run(self, submitted: "Future[T]") -> T:
        self._in_threads.add(submitted)
        submitted.add_done_callback(self._in_threads.discard)
        return await asyncio.wrap_future(submitted)

    def _read(self, model: Model, photograph: Photograph) -> tuple[Image, float]:
        start = time.perf_counter()
        height, width = read_size(photograph.path)
        if height * width > self._most_pixels:
            raise TooManyPixelsError(
                f"{photograph.path}: {height:,} x {width:,} pixels, at most {self._most_pixels / MEGA:g} megapixels "
                "are taken (--most-megapixels)"
            )
        image = read_image(photograph.path, model.decides.settings.image_bits)
        return image, time.perf_counter() - start


def _only_decide(model: Model) -> Callable[[Image], Made]:
    return lambda image: Made(decision=model.decides.decide(image))


def _decide(make: Callable[[Image], Made], image: Image, place: Place) -> tuple[Made, float] | None:
    """What was made, and its seconds; None if nobody waits for it any more."""
    if place.is_given_up:
        return None
    start = time.perf_counter()
    made = make(image)
    return made, time.perf_counter() - start


def _told(error: Exception, photograph: Photograph) -> str:
    """The error's line with the sender's name of the photograph, and without a folder of this machine."""
    where = str(photograph.path)
    return str(error).replace(where, photograph.name).replace(str(photograph.path.parent), "")
