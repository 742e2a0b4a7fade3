"""Numbers that were not measured here: quoted from papers, or handed in by others.

Quoted numbers stand apart from measured ones everywhere, each with its source and the rule it was made by: AUPRO of
maps at 256 px is not AUPRO at the images' own size, and one model for all categories is not one for each.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tinydefects.data.json_files import read_as
from tinydefects.errors import ResultError

Text = Annotated[str, Field(min_length=1, max_length=400, pattern=r"\S")]
HEADS = ("method", "dataset", "metric", "value", "learns from", "input", "rule", "source", "read in")


class PublishedNumber(BaseModel):
    """One number as somebody else published it.

    Attributes:
        value: in [0, 1], as quoted; a percentage divided by 100.
        learns_from: what a model was made from; other numbers of a table answer another question.
        input: size of the network's input, or that it is not known.
        rule: how it was scored, and all that is not known of that.
        source: whose number it is.
        read_in: where it was read, if not in the source itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Text
    dataset: Literal["mvtec_ad", "visa"]
    metric: Literal["image_auroc", "pixel_auroc", "aupro@0.3"]
    value: float = Field(ge=0, le=1)
    learns_from: Literal[
        "good images of one category", "good images of all categories", "1 good image", "4 good images", "test images"
    ]
    input: Text
    rule: Text
    source: Text
    read_in: Text


class Published(BaseModel):
    """The file of quoted numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    numbers: tuple[PublishedNumber, ...]


class Submission(BaseModel):
    """What stands beside results that somebody hands in: who vouches for them, and where they can be had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    submitted_by: Text = Field(description="Name or team, as it shall be shown.")
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="Day of submission, YYYY-MM-DD.")
    protocol: str = Field(pattern=r"^[0-9a-f]{16}$", description="The fingerprint in protocol.json.")
    methods: tuple[Text, ...] = Field(min_length=1, description="As on the command line, options and all.")
    categories: tuple[Text, ...] = Field(min_length=1, description="dataset/category.")
    hardware: Text = Field(description="Processor, accelerator, memory.")
    results: Text = Field(description="Address of an archive of the run folder, or the folder beside this file.")
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$", description="Of that archive; empty for a folder.")
    code: Text = Field(description="Version or address of the code of methods that are not part of the package.")
    chosen_on: Text = Field(description="What settings, epochs and thresholds were chosen on; never test images.")
    licence: Text = Field(description="Under which the results may be passed on.")


def read_published(path: Path) -> Published:
    """The quoted numbers of a file.

    Raises:
        ResultError: it is missing, damaged, or a number lacks its source or rule; the message names the field.
    """
    return read_as(Published, path, ResultError, kind="file of published numbers", way_out="mend the file")


def in_order(numbers: Sequence[PublishedNumber]) -> list[PublishedNumber]:
    """By dataset, metric and value, the highest first."""
    return sorted(numbers, key=lambda one: (one.dataset, one.metric, -one.value, one.method))


def published_rows(numbers: Sequence[PublishedNumber]) -> list[list[str]]:
    """The cells of a table under `HEADS`, in that order."""
    return [
        [
            one.method,
            one.dataset,
            one.metric,
            f"{one.value:.3f}",
            one.learns_from,
            one.input,
            one.rule,
            one.source,
            one.read_in,
        ]
        for one in in_order(numbers)
    ]
