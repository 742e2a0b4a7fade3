"""Every defect that results keep pictures of, with the maps of all methods side by side, and the most telling ones."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.benchmark.board import MethodAt
from tinydefects.benchmark.run_folder import StoredResult
from tinydefects.metrics.records import Crop, DefectRecord
from tinydefects.metrics.scores import Evaluation
from tinydefects.report.crops import (
    CropStore,
    NormalShares,
    choose_panels,
    colour_scores,
    colour_shares,
    data_uri,
    encode_crops,
    outline_path,
    window_around,
)
from tinydefects.results.result import read_result

N_TELLING = 5

Place = tuple[str, tuple[int, int, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pictured:
    """One method's evaluation of a category; `crops` reads its crops, so that few are in memory at a time."""

    method: int
    evaluation: Evaluation
    crops: Callable[[], Sequence[Crop]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one method makes of a defect.

    Attributes:
        found: at the stated false-alarm rate; None where that cannot be told.
        first_touched_fpr, half_covered_fpr: rates at which its first pixel and half of its pixels are found.
    """

    found: bool | None
    first_touched_fpr: float
    half_covered_fpr: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DefectCrops:
    """One defect: what methods make of it, by number, and its pictures: the photograph, then the maps of `pictured`."""

    category: str
    defect: DefectRecord
    verdicts: Mapping[int, Verdict]
    height: int
    width: int
    outline: str
    pictured: tuple[int, ...]
    crops: bytes

    @property
    def key(self) -> str:
        """Names the defect in an address; the same in every report on the same images."""
        place = f"{self.category}\n{self.defect.sample_id}\n{self.defect.box_px}"
        return hashlib.sha256(place.encode()).hexdigest()[:12]


def pictured_results(stored: Sequence[StoredResult], methods: Sequence[MethodAt]) -> list[Pictured]:
    """In each category the first seed of each method that keeps crops, or else its first."""
    first: dict[tuple[str, MethodAt], StoredResult] = {}
    for one in sorted(stored, key=lambda one: (not one.n_crops, one.run.seed)):
        first.setdefault((one.evaluation.category, one.method), one)
    return [
        Pictured(method=methods.index(one.method), evaluation=one.evaluation, crops=partial(_read_crops, one.path))
        for one in first.values()
    ]


def _read_crops(path: Path) -> Sequence[Crop]:
    return read_result(path).evaluation.crops


def defect_crops(shown: Sequence[Pictured]) -> Iterator[DefectCrops]:
    """The defects of all categories that anybody keeps a crop of; one category is in memory at a time.

    Where a method keeps no crop of a defect that another has, its map is missing there.
    """
    for category in dict.fromkeys(one.evaluation.category for one in shown):
        yield from _defects_of([one for one in shown if one.evaluation.category == category], category)


def _defects_of(shown: Sequence[Pictured], category: str) -> Iterator[DefectCrops]:
    verdicts: dict[Place, dict[int, Verdict]] = {}
    crops: dict[Place, dict[int, Crop]] = {}
    colours = {}
    for one in sorted(shown, key=lambda one: one.method):
        for place, verdict in _verdicts(one.evaluation).items():
            verdicts.setdefault(place, {})[one.method] = verdict
        colours[one.method] = _colouring(one.evaluation)
        for crop in one.crops():
            crops.setdefault(_place(crop.defect), {})[one.method] = crop
    for place, by_method in crops.items():
        yield _crops_of(category, verdicts[place], by_method, colours)


def _colouring(evaluation: Evaluation) -> Callable[[NDArray[np.floating]], NDArray[np.uint8]]:
    """How scores become colours: by their share of normal pixels; without counts, evenly over the scores seen."""
    if evaluation.tally is None:
        return lambda scores: colour_scores(scores, evaluation.score_range)
    shares = NormalShares(evaluation.tally, evaluation.score_range[0])
    return lambda scores: colour_shares(shares.of(scores))


def _verdicts(evaluation: Evaluation) -> dict[Place, Verdict]:
    hits: Sequence[bool | None] = evaluation.detectability.hits or [None] * len(evaluation.defects)
    return {
        _place(defect): Verdict(
            found=hit, first_touched_fpr=defect.first_touched_fpr, half_covered_fpr=defect.half_covered_fpr
        )
        for defect, hit in zip(evaluation.defects, hits, strict=True)
    }


def _crops_of(
    category: str,
    verdicts: Mapping[int, Verdict],
    crops: Mapping[int, Crop],
    colours: Mapping[int, Callable[[NDArray[np.floating]], NDArray[np.uint8]]],
) -> DefectCrops:
    first = next(iter(crops.values()))
    window = window_around(first.mask, first.defect.area_px)
    maps = [colours[number](crop.anomaly_map[window]) for number, crop in crops.items()]
    mask: NDArray[np.bool_] = first.mask[window]
    return DefectCrops(
        category=category,
        defect=first.defect,
        verdicts=verdicts,
        height=mask.shape[0],
        width=mask.shape[1],
        outline=outline_path(mask),
        pictured=tuple(crops),
        crops=encode_crops([first.image[window], *maps]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TellingCrop:
    """A defect that opens the page: its photograph and the best method's map in one picture, left and right."""

    defect: DefectCrops
    found: bool
    picture: str


class Gallery:
    """All defects with pictures, taken in one at a time and kept as the page wants them.

    Attributes:
        telling: the largest defects that method `best` misses and the smallest that it finds, in turns, a miss first.
    """

    def __init__(self, shown: Sequence[Pictured], store: CropStore, *, best: int) -> None:
        self._rows: list[tuple[float, str, dict[str, Any]]] = []
        self._store, self._best = store, best
        ends: dict[bool, list[DefectCrops]] = {True: [], False: []}
        for one in defect_crops(shown):
            self._rows.append((one.defect.diameter_px, one.key, _row(one, store.add(one.crops))))
            found = one.verdicts[best].found if best in one.verdicts and best in one.pictured else None
            if found is not None:
                nearest = sorted([*ends[found], one], key=lambda one: one.defect.diameter_px, reverse=not found)
                ends[found] = nearest[:N_TELLING]
        self.telling = self._in_turns(ends[False], ends[True])

    @property
    def n_defects(self) -> int:
        return len(self._rows)

    def as_json(self, methods: Sequence[tuple[str, str]]) -> str:
        """What the page needs to know of every defect, smallest first, safe inside a script element.

        `methods` are (label, name): a name may occur at several resolutions.
        """
        ordered = sorted(self._rows, key=lambda one: one[:2])
        rows = [{**row, "crops": self._store.address(row["crops"])} for _, _, row in ordered]
        who = {"methods": [label for label, _ in methods], "names": [name for _, name in methods]}
        content = {**who, "fields": list(rows[0]) if rows else [], "defects": [list(row.values()) for row in rows]}
        return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")

    def _in_turns(self, missed: Sequence[DefectCrops], found: Sequence[DefectCrops]) -> tuple[TellingCrop, ...]:
        n_missed = max((N_TELLING + 1) // 2, N_TELLING - len(found))
        n_found = N_TELLING - min(n_missed, len(missed))
        chosen = [(2 * number, one, False) for number, one in enumerate(missed[:n_missed])]
        chosen += [(2 * number + 1, one, True) for number, one in enumerate(found[:n_found])]
        return tuple(
            TellingCrop(
                defect=one,
                found=is_found,
                picture=data_uri(choose_panels(one.crops, (0, one.pictured.index(self._best) + 1), one.width), "webp"),
            )
            for _, one, is_found in sorted(chosen, key=lambda three: three[0])
        )


def _row(one: DefectCrops, name: str) -> dict[str, Any]:
    defect = one.defect
    return {
        "key": one.key,
        "category": one.category,
        "type": defect.defect_type,
        "sample": defect.sample_id,
        "row": defect.box_px[0],
        "column": defect.box_px[1],
        "diameter": round(defect.diameter_px, 2),
        "area": defect.area_px,
        "contrast": _short(defect.contrast),
        "height": one.height,
        "width": one.width,
        "outline": one.outline,
        "pictured": one.pictured,
        "looks": [
            [number, verdict.found, _short(verdict.first_touched_fpr), _short(verdict.half_covered_fpr)]
            for number, verdict in one.verdicts.items()
        ],
        "crops": name,
    }


def _short(value: float) -> float | None:
    return float(f"{value:.3g}") if math.isfinite(value) else None


def _place(defect: DefectRecord) -> Place:
    return defect.sample_id, defect.box_px
