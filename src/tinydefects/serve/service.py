"""What the requests of a service share: its models, its places, its threads; `addresses` puts it under addresses."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import HTTPException

from tinydefects.data.walk import real_path
from tinydefects.errors import TinyDefectsError
from tinydefects.serve.below import find_below
from tinydefects.serve.counts import Counts
from tinydefects.serve.places import NoPlaceError, Place, Places
from tinydefects.serve.service_settings import ServeSettings
from tinydefects.serve.work import AT_HAND, Decides, Image, Made, Model, Outcome, Photograph, Work

LOG = logging.getLogger("tinydefects")
MAPS_AT_ONCE = 2  # in memory, until they are sent


class Service:
    """The models that are served, and all that their requests share.

    Args:
        models: by the names in their addresses.
        settings: its limits.
        scratch: the folder that uploads lie in.

    Attributes:
        counts: what it has done so far.
        is_stopping: new requests are refused, those that run go on.
        maps: whoever asks for a map holds this until it has been sent, so that few are in memory.
    """

    def __init__(self, models: Mapping[str, Decides], settings: ServeSettings, *, scratch: Path) -> None:
        self.is_stopping = False
        self.settings = settings
        self.models = {
            name: Model(name=name, decides=model, fingerprint=model.fingerprint) for name, model in models.items()
        }
        self.counts = Counts(settings.places)
        self.places = Places(settings.places, scratch, self.counts.places)
        self.work = Work(settings.most_pixels, self.counts)
        self.maps = asyncio.Semaphore(MAPS_AT_ONCE)
        self.photographs = None if settings.photographs is None else _folder(settings.photographs)

    @property
    def is_idle(self) -> bool:
        """Whether no request is at hand, nor work that one has left."""
        return self.places.n_taken == 0

    def model(self, name: str) -> Model:
        """The model of that name.

        Raises:
            HTTPException: 404.
        """
        if name not in self.models:
            raise HTTPException(404, f"no such model; there are: {', '.join(self.models)} (GET /models)")
        return self.models[name]

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """A place for a request, before its body is read.

        Raises:
            HTTPException: 503, the service is stopping, or its disk is full; 429, all places are taken.
        """
        if self.is_stopping:
            raise HTTPException(503, "the service is stopping; ask another one, or later")
        try:
            async with self.places.take() as place:
                yield place
        except asyncio.CancelledError:
            self.counts.n_given_up += 1
            raise
        except NoPlaceError as error:
            seconds = self.work.retry_after()
            line = f"all {self.settings.places} places are taken; come back in {seconds} s"
            raise HTTPException(429, line, headers={"Retry-After": str(seconds)}) from error
        except OSError as error:
            LOG.warning("an upload cannot be kept: %s", error)
            raise HTTPException(503, "the service has no room for uploads left; its log says more") from error

    async def decide(
        self,
        model: Model,
        photographs: Sequence[Photograph],
        place: Place,
        make: Callable[[Image], Made] | None = None,
    ) -> list[Outcome]:
        """What becomes of each, in order; a few are begun ahead, so that requests take turns. `make` as `Work.start`.

        Raises:
            HTTPException: 504, one of them took too long; 500, the model failed; 503, out of memory.
        """
        outcomes: list[Outcome] = []
        begun = deque[asyncio.Task[Outcome | None]]()
        for photograph in photographs:
            begun.append(self.work.start(model, photograph, place, make))
            if len(begun) == AT_HAND:
                outcomes.append(await self._in_time(begun.popleft(), model))
        outcomes += [await self._in_time(task, model) for task in begun]
        return outcomes

    async def show(self, model: Model, photograph: Photograph, place: Place) -> Outcome:
        """A PNG of a photograph as the model sees it; errors as `decide`."""
        return await self._in_time(self.work.start_showing(model, photograph, place), model)

    async def _in_time(self, task: "asyncio.Task[Outcome | None]", model: Model) -> Outcome:
        seconds = self.settings.decision_seconds
        await asyncio.wait({task}, timeout=seconds)  # which stops nothing: a thread cannot be
        try:
            outcome = task.result() if task.done() else None
        except MemoryError as error:
            raise HTTPException(503, "out of memory; send it later, or smaller") from error
        except Exception as error:  # models raise whatever they like
            LOG.error("%s: %s", model.name, error, exc_info=None if isinstance(error, TinyDefectsError) else error)
            raise HTTPException(500, "the model failed; the log of the service says how") from error
        if outcome is None:
            raise HTTPException(504, f"not decided within {seconds:g} s (--decision-seconds); send it later")
        return outcome

    def named(self, paths: Sequence[str]) -> list[Photograph]:
        """Photographs by their paths below the folder.

        Raises:
            HTTPException: 404, one is not there, or no paths may be given; 422, there are too many.
        """
        if self.photographs is None:
            raise HTTPException(404, "no folder of photographs is served (--photographs FOLDER)")
        most = self.settings.most_photographs
        if len(paths) > most:
            raise HTTPException(422, f"more than {most} photographs; send fewer at once, or see --most-photographs")
        found = []
        for number, name in enumerate(paths):
            path = find_below(self.photographs, name)
            if path is None:
                raise HTTPException(404, f"no such photograph: number {number} of those asked for, counted from 0")
            found.append(Photograph(path, name))
        return found


def _folder(folder: Path) -> Path:
    """The folder of photographs without links in its path.

    Raises:
        TinyDefectsError: there is no such folder.
    """
    if not folder.is_dir():
        raise TinyDefectsError(f"--photographs {folder}: no such folder; name the one that photographs lie in")
    return real_path(folder)
