"""Files of earlier versions, read in the words of this one.

In results of format 3 and before groups went by name and place: what they lack is put back on reading. In results of
format 4 and before, as in summaries of format 2 and before, a method is called a peer, a metric a figure; in results of
format 5, summaries of format 3 and protocols of those days, a crop is called an exhibit.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import AliasChoices, Field

from tinydefects.metrics.detectability import counts_images
from tinydefects.metrics.groups import SizeBins, bin_groups, size_and_type_groups
from tinydefects.metrics.records import GroupScores
from tinydefects.metrics.scores import Evaluation

WORDS = {
    "peer": "method",
    "peer_bytes": "method_bytes",
    "figure": "metric",
    "figures": "metrics",
    "exhibits": "crops",
    "exhibits_sha256": "crops_sha256",
    "n_exhibits": "n_crops",
}
MethodName = Annotated[str, Field(validation_alias=AliasChoices("method", "peer"))]  # in files without a format


def in_our_words(content: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The same with a method for every peer, a metric for every figure, a crop for every exhibit."""
    if isinstance(content, dict):
        return {WORDS.get(name, name): in_our_words(value) for name, value in content.items()}
    return [in_our_words(value) for value in content] if isinstance(content, list) else content


def result_in_our_words(content: dict[str, Any]) -> dict[str, Any]:
    """The same of a result; ids of images, which are names as well in its evaluation, stay as they are."""
    whole = {name: in_our_words(value) for name, value in content.items() if name in {"provenance", "run"}}
    return _renamed({**content, **whole, "evaluation": _renamed(content["evaluation"])})


def protocol_in_our_words(content: dict[str, Any]) -> dict[str, Any]:
    """The same of a protocol, whose settings of the evaluation stand in it or in a part of their own."""
    evaluation = content.get("evaluation")
    return _renamed({**content, "evaluation": _renamed(evaluation)} if isinstance(evaluation, dict) else content)


def _renamed(content: dict[str, Any]) -> dict[str, Any]:
    return {WORDS.get(name, name): value for name, value in content.items()}


def add_keys(evaluation: dict[str, Any]) -> None:
    """Give every group of an evaluation, as parsed from JSON, its key; equal bins of several sets become one group."""
    kinds = {"cumulative": "cumulative", "disjoint": "disjoint", "by_type": "type"}
    evaluation["overall"]["key"] = "all"
    for field, kind in kinds.items():
        for group in evaluation[field]:
            group["key"] = f"{kind}:{group['name']}"
    keys = [key for bins in evaluation.get("bins", ()) for key in SizeBins(**{**bins, "edges": (*bins["edges"],)}).keys]
    by_bin = evaluation.get("by_bin", [])
    for key, group in zip(keys, by_bin, strict=True):  # they were written in this order
        group["key"] = key
    evaluation["by_bin"] = list({group["key"]: group for group in by_bin}.values())
    for group in [evaluation["overall"], *(one for field in (*kinds, "by_bin") for one in evaluation[field])]:
        group["members"] = []


def with_members(evaluation: Evaluation) -> Evaluation:
    """The same with the members of every group, and with the number of good images beside those that alarm.

    Bins by share of the image have none where no tally says how large the images are.
    """
    areas_px = np.array([defect.area_px for defect in evaluation.defects], dtype=np.int64)
    types = np.array([defect.defect_type for defect in evaluation.defects], dtype=np.str_)
    known = size_and_type_groups(areas_px, types, [group.name for group in evaluation.by_type])
    tally, sized = evaluation.tally, evaluation.bins
    images_px = np.zeros(areas_px.size, dtype=np.int64)
    if tally is not None:
        in_image = np.bincount(tally.image_of_defect, areas_px, tally.n_normal.size).astype(np.int64)
        images_px = (tally.n_normal + in_image)[tally.image_of_defect]
    else:
        sized = tuple(bins for bins in sized if bins.unit != "image_share")
    known |= bin_groups(sized, areas_px, images_px, evaluation.pixel_pitch_mm)
    members = {key: tuple(np.flatnonzero(group.members).tolist()) for key, group in known.items()}

    def filled(groups: Iterable[GroupScores]) -> tuple[GroupScores, ...]:
        return tuple(replace(group, members=members.get(group.key, ())) for group in groups)

    detectability = evaluation.detectability
    if counts_images(detectability.rule):
        detectability = replace(detectability, n_good_images=evaluation.n_good_images)
    return replace(
        evaluation,
        overall=filled([evaluation.overall])[0],
        cumulative=filled(evaluation.cumulative),
        disjoint=filled(evaluation.disjoint),
        by_type=filled(evaluation.by_type),
        by_bin=filled(evaluation.by_bin),
        detectability=detectability,
    )
