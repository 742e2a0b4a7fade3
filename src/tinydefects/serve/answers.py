"""What the service answers, as its OpenAPI document shows it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from tinydefects.decisions.regions import Extent

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


class Inspected(Decided):
    """One photograph, decided by the thresholds of this revision."""

    revision: str


class CalibrationCard(BaseModel):
    """The thresholds of a model, and the good parts that they follow from.

    Attributes:
        revision: of all this; good parts can be added to it as long as it is in force.
        obtained: how the detector came not to know the good parts: `held out`, `folds` or `fresh`.
        scores: of each good part, ascending.
        peaks: the highest region of each good part that has one, ascending.
        most_share: where k of the good parts exceed a threshold, with `confidence` at most `most_share[k]` of those to
            come do.
        good_up_to, defect_above: thresholds of the score; null where nothing is called a defect.
        peak_above: of a region, which reaches down to `extent` and has at least `min_area_px`.
        colours: between which values of a map an overlay begins and is full.
        words: all of it in lines for people.
        may_add: whether good parts can be added here; `most_photographs` and `most_megabytes` of a request.
    """

    revision: str
    obtained: str
    n_photographs: int
    scores: list[float]
    peaks: list[float]
    most_share: list[float]
    confidence: float
    good_up_to: float
    defect_above: float | None
    peak_above: float
    extent: Extent
    min_area_px: int
    pixel_pitch_mm: float | None
    colours: tuple[float, float]
    words: list[str]
    may_add: bool
    most_photographs: int
    most_megabytes: float


class GoodAdded(BaseModel):
    """Good parts that were added: how many, which were there already, and the thresholds now.

    `kept` is the file of the former thresholds below the model's folder; empty where nothing was new.
    """

    n_added: int
    left_out: list[str]
    kept: str
    calibration: CalibrationCard


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
        403: "Sent by a web page of another origin; or good parts cannot be added (--allow-recalibration).",
        404: "No such model, or no such photograph.",
        408: "The request did not arrive in time.",
        409: "The thresholds have changed meanwhile; look at them again.",
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
