"""What a service is told: where it listens, who may ask, and how much of anything it takes."""

import ipaddress
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

MEGA = 1_000_000
LIMITS, WHO = "Limits", "Who may ask"  # headings of the help
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


def _in(panel: str, **more: str) -> dict[str, Any]:
    return {"panel": panel, **more}


class ServeSettings(BaseModel):
    """What `tinydefects serve` takes, apart from the models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on; others than this machine need a key.")
    port: int = Field(default=8000, ge=0, le=65_535, description="0 takes a free one and says which.")
    photographs: Path | None = Field(
        default=None, description="Folder below which photographs may be named by their path; left out, none may."
    )
    scratch: Path | None = Field(
        default=None, description="Folder that uploads lie in until they are decided; left out, the system's own."
    )
    allow_host: tuple[str, ...] = Field(
        default=(),
        description="Name by which others reach this machine, as in the address they ask. Repeatable.",
        json_schema_extra=_in(WHO, metavar="NAME"),
    )
    api_key_file: Path | None = Field(
        default=None,
        description="File with the key that all must give; left out, TINYDEFECTS_API_KEY, or none.",
        json_schema_extra=_in(WHO),
    )
    allow_recalibration: bool = Field(
        default=False,
        description="Whoever has the key may add good parts to the thresholds, see the inspection page.",
        json_schema_extra=_in(WHO),
    )
    places: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="Requests at once, read, waiting or decided; more are told to come back.",
        json_schema_extra=_in(LIMITS),
    )
    most_megabytes: float = Field(
        default=64.0,
        gt=0,
        le=100_000,
        description="Of one request.",
        json_schema_extra=_in(LIMITS),
    )
    most_megapixels: float = Field(
        default=100.0, gt=0, le=1000, description="Of one photograph.", json_schema_extra=_in(LIMITS)
    )
    most_photographs: int = Field(
        default=32, ge=1, le=10_000, description="In one request.", json_schema_extra=_in(LIMITS)
    )
    body_seconds: float = Field(
        default=60.0, gt=0, le=86_400, description="A request must have arrived by then.", json_schema_extra=_in(LIMITS)
    )
    decision_seconds: float = Field(
        default=120.0,
        gt=0,
        le=86_400,
        description="A photograph must be decided by then, waiting included.",
        json_schema_extra=_in(LIMITS),
    )
    stop_seconds: float = Field(
        default=30.0,
        ge=0,
        le=86_400,
        description="When it is told to stop, requests that run may take so long.",
        json_schema_extra=_in(LIMITS),
    )

    @field_validator("host")
    @classmethod
    def _plain_host(cls, host: str) -> str:
        if not _is_ip(host) and not HOST_NAME.fullmatch(host):
            raise PydanticCustomError("host", "give an address or a name: 127.0.0.1, ::1, 0.0.0.0, localhost")
        return host

    @field_validator("allow_host")
    @classmethod
    def _plain_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(HOST_NAME.fullmatch(name) for name in names):
            raise PydanticCustomError("allow_host", "give plain names without port: inspection-3.factory.example")
        return names

    @property
    def most_bytes(self) -> int:
        """Of one request."""
        return int(self.most_megabytes * MEGA)

    @property
    def most_pixels(self) -> int:
        """Of one photograph."""
        return int(self.most_megapixels * MEGA)

    @property
    def is_local(self) -> bool:
        """Whether nobody but this machine can ask."""
        return self.host == "localhost" or (_is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)

    @property
    def hosts(self) -> list[str]:
        """What may stand in the header Host, without port, in lower case."""
        own = f"[{self.host}]" if ":" in self.host else self.host
        return [name.lower() for name in dict.fromkeys([*LOCAL_HOSTS, own, *self.allow_host])]


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
