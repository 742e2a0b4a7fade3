"""What leaves the machine: the request for a teacher's weights, said before it is made, and offline not even that.

Some packages report their use to their makers, or keep an identifier in the user's home for it. They read their
switches when they are first imported, so whoever imports one calls `silence_reports` before.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

from tinydefects.errors import OfflineError

OFFLINE = "TINYDEFECTS_OFFLINE"
OFFLINE_OF_THE_HUB = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
NO_REPORTS = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime: a device id in the user's cache, and a host that is looked up
    "HF_HUB_DISABLE_TELEMETRY": "1",  # the hub's client: which packages are installed, in the header of each request
    "DO_NOT_TRACK": "1",  # whoever else asks
}
REPORTING_PACKAGE = "openvino_telemetry"  # of OpenVINO and NNCF; they do without it where it is missing
REQUESTS = {"urllib.Request", "http.client.connect"}  # audit events of Python's own clients
_watched: list[bool] = []  # an audit hook stays until the process ends, so there must be only one


def is_offline() -> bool:
    """Whether the environment forbids to fetch anything: by our own variable or by those of the hub's client."""
    asked = (os.environ.get(name, "").strip().lower() for name in (OFFLINE, *OFFLINE_OF_THE_HUB))
    return any(value not in {"", "0", "off", "no", "false"} for value in asked)


def go_offline() -> None:
    """Forbid this process and those it starts to fetch anything over HTTP, weights of other packages included.

    Raises:
        OfflineError: later, where something tries to. The hub's client has errors of its own.
    """
    os.environ.update(dict.fromkeys((OFFLINE, *OFFLINE_OF_THE_HUB), "1"))
    if not _watched:
        _watched.append(True)
        sys.addaudithook(_refuse_requests)


def silence_reports() -> None:
    """Tell packages that are imported from now on to report nothing; where the environment is offline, all stays so."""
    os.environ.update(NO_REPORTS)
    if is_offline():
        go_offline()


@contextlib.contextmanager
def without_reporting() -> Iterator[None]:
    """OpenVINO and NNCF that are first imported inside send nothing and keep no identifier in the user's home."""
    silence_reports()
    before = sys.modules.get(REPORTING_PACKAGE)
    sys.modules[REPORTING_PACKAGE] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[REPORTING_PACKAGE]
        if before is not None:
            sys.modules[REPORTING_PACKAGE] = before


def announce(line: str) -> None:
    """Say on standard error what is about to be fetched, from where; nothing is fetched without."""
    sys.stderr.write(f"{line}; --offline forbids it\n")
    sys.stderr.flush()


def _refuse_requests(event: str, arguments: tuple[object, ...]) -> None:
    if event in REQUESTS and is_offline():
        address = arguments[0] if event == "urllib.Request" else arguments[1]
        raise OfflineError(f"{address}: not fetched, because --offline ({OFFLINE}) forbids it; leave it out once")
