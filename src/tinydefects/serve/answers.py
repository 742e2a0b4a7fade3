"""What the service answers, as its OpenAPI document shows it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

EXAMPLE_DECISION: dict[str, JsonValue] = {
    "verdict": "defect",
    "score": 0.73,
    "p_value": 0.0033,
    "height": 1000,
    "width": 1500,
    "n_regions": 1,
    "regions": [{"x": 376, "y": 338, "width": 8, "height": 6, "area_px": 31, "diameter_mm": 0.31, "peak": 0.9}],
}
FINGERPRINT = "4d7b0f6f5f2e"


class Problem(BaseModel):
    """Why there is no answer, in one line."""

    detail: str


class ModelCard(BaseModel):
    """One of the models that are served.

    Attributes:
        name: stands in the addresses.
        fingerprint: of everything its maps depend on.
        image_bits: how many bits the values of 16-bit photographs fill.
    """

    name: str
    fingerprint: str
    image_bits: int


class Decided(BaseModel):
    """One photograph, decided; its height and width in pixels, upright."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "screws",
                    "fingerprint": FINGERPRINT,
                    "height": 1000,
                    "width": 1500,
                    "decision": EXAMPLE_DECISION,
                }
            ]
        }
    )

    model: str
    fingerprint: str
    height: int
    width: int
    decision: dict[str, JsonValue] = Field(description="At least `verdict` and `score`; higher is less normal.")


class Answer(BaseModel):
    """One of several photographs: its decision, or the problem that it has; the other is null."""

    photograph: str = Field(description="Its name, as it was given.")
    height: int | None = None
    width: int | None = None
    decision: dict[str, JsonValue] | None = None
    problem: str | None = None


class DecidedBatch(BaseModel):
    """Several photographs, in the order in which they were given."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "screws",
                    "fingerprint": FINGERPRINT,
                    "answers": [
                        {
                            "photograph": "1.png",
                            "height": 1000,
                            "width": 1500,
                            "decision": EXAMPLE_DECISION,
                            "problem": None,
                        },
                        {
                            "photograph": "2.png",
                            "height": None,
                            "width": None,
                            "decision": None,
                            "problem": "2.png: not a readable image (no known image format); copy or export it again",
                        },
                    ],
                }
            ]
        }
    )

    model: str
    fingerprint: str
    answers: list[Answer]


class PathsAsked(BaseModel):
    """Photographs by their path below the folder that the service was given, with forward slashes."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"paths": ["line 3/0001.png", "line 3/0002.png"]}]}
    )

    paths: list[str] = Field(min_length=1)


class Health(BaseModel):
    """Whether the process is alive, or ready for requests."""

    status: str


class Version(BaseModel):
    """Of the package."""

    version: str


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The answers other than 200 of an address, for its OpenAPI document."""
    told = {
        400: "Not readable as a request, or a host that is not allowed (--allow-host).",
        401: "No key, or a wrong one.",
        403: "Sent by a web page of another origin.",
        404: "No such model, or no such photograph.",
        408: "The request did not arrive in time.",
        413: "Too many bytes or pixels.",
        415: "Another type of content is expected.",
        422: "The content is not what it should be, too many photographs, or a single one that cannot be read.",
        429: "All places are taken; Retry-After says in how many seconds one may be free.",
        500: "The model failed; the log of the service says how.",
        503: "The service is stopping, or has no memory or disk left.",
        504: "The decision took too long.",
    }
    shown: dict[int | str, dict[str, Any]] = {code: {"model": Problem, "description": told[code]} for code in codes}
    if 429 in shown:
        shown[429]["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    return shown
