"""A service while it runs: it listens, and when it is told to stop it ends what it has begun.

Told to stop (SIGTERM, Ctrl-C), it goes on listening, so that whoever asks learns that it is not ready, refuses new
requests, and ends once those at hand have been answered, or their time is over. Told once more, it ends at once.
"""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from tinydefects.data.leftovers import scratch_folder
from tinydefects.data.pixels import require_writable
from tinydefects.errors import TinyDefectsError
from tinydefects.serve.addresses import application
from tinydefects.serve.service import Service
from tinydefects.serve.service_settings import ServeSettings
from tinydefects.serve.work import Decides

ANSWER_SECONDS = 5  # that answers may take to be read by their callers, in the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a service has done: photographs decided and not decidable, requests refused, and given up in the end.

    `is_stuck`: a thread still works, and would keep the process until it is done.
    """

    n_decided: int
    n_problems: int
    n_refused: int
    n_given_up: int
    is_stuck: bool

    def __str__(self) -> str:
        told = [f"{self.n_decided} decision{'s' * (self.n_decided != 1)}"]
        told += [f"{self.n_problems} not decidable"] * bool(self.n_problems)
        told += [f"{self.n_refused} request{'s' * (self.n_refused != 1)} refused"] * bool(self.n_refused)
        told += [f"{self.n_given_up} request{'s' * (self.n_given_up != 1)} given up"] * bool(self.n_given_up)
        return f"stopped: {', '.join(told)}"


def run_service(
    load: Callable[[], Mapping[str, Decides]],
    settings: ServeSettings,
    key: str | None,
    *,
    ready: Callable[[str], object] = lambda address: None,
) -> Served:
    """Serve until a signal says to stop.

    Args:
        load: the models, by the names in their addresses; called once it is known that the service can listen.
        settings: see there.
        key: that all must give; None, nobody need.
        ready: called with the service's address once it listens.

    Raises:
        TinyDefectsError: it cannot listen there, or the scratch folder cannot be written.
    """
    parent = settings.scratch or Path(tempfile.gettempdir())
    require_writable(parent)
    with reserve(settings.host, settings.port) as listener, scratch_folder(parent) as scratch:
        service = Service(load(), settings, scratch=scratch)
        config = uvicorn.Config(
            application(service, key),
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=ANSWER_SECONDS,
        )
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        listen(listener)
        ready(f"http://{host}:{listener.getsockname()[1]}")
        _Server(config, service).run(sockets=[listener])
        service.work.close()
        counts = service.counts
        return Served(
            n_decided=counts.n_decided,
            n_problems=counts.n_problems,
            n_refused=counts.n_refused,
            n_given_up=counts.n_given_up,
            is_stuck=service.work.is_running,
        )


def reserve(host: str, port: int) -> socket.socket:
    """A socket at an address, which refuses connections until `listen` opens it: loading models may take minutes.

    Raises:
        TinyDefectsError: the port is in use, or the address is none of this machine's.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name == "posix":  # a port that was in use a minute ago is free
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in host:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from error
    return listener


def listen(listener: socket.socket) -> None:
    """Take connections from now on.

    Raises:
        TinyDefectsError: somebody else has begun to at the same moment.
    """
    try:
        listener.listen()
    except OSError as error:
        host, port, *_ = listener.getsockname()
        raise _cannot_listen(host, port, error) from error


def _cannot_listen(host: str, port: int, error: OSError) -> TinyDefectsError:
    return TinyDefectsError(
        f"{host}:{port}: cannot listen there ({error.strerror or error}); choose another --port, or end who does"
    )


class _Server(uvicorn.Server):
    """uvicorn's, which would close its door at once and raise the signal again in the end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._last_moment = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.is_stopping:
            self.should_exit = self.force_exit = True
        self._service.is_stopping = True
        self._last_moment = time.monotonic() + self._service.settings.stop_seconds

    async def on_tick(self, counter: int) -> bool:
        is_over = self._service.is_idle or time.monotonic() > self._last_moment
        if self._service.is_stopping and is_over:
            self.should_exit = True
        return await super().on_tick(counter)
