"""Every defect that results keep pictures of, as one card with all methods side by side."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.benchmark.board import MethodAt
from tinydefects.benchmark.stored import StoredResult
from tinydefects.metrics.records import DefectRecord, Exhibit
from tinydefects.metrics.scores import Evaluation
from tinydefects.report.crops import outline_path, window_around
from tinydefects.report.strips import NormalShares, StripStore, colour_shares, encode_strip
from tinydefects.results.result import read_result

SIDES_PX = (32, 48, 96)  # whole divisors of a thumbnail

Place = tuple[str, tuple[int, int, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one method makes of a defect.

    Attributes:
        found: at the protocol's false-alarm rate; None where that cannot be told.
        first_touched_fpr, half_covered_fpr: rates at which its first pixel and half of its pixels are found.
    """

    found: bool | None
    first_touched_fpr: float
    half_covered_fpr: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Card:
    """One defect: what methods make of it, by number, and its strip: the photograph, then the maps of `pictured`."""

    category: str
    defect: DefectRecord
    verdicts: Mapping[int, Verdict]
    height: int
    width: int
    outline: str
    pictured: tuple[int, ...]
    strip: bytes

    @property
    def key(self) -> str:
        """Names the defect in an address; the same in every report on the same images."""
        place = f"{self.category}\n{self.defect.sample_id}\n{self.defect.box_px}"
        return hashlib.sha256(place.encode()).hexdigest()[:12]


def cards(stored: Sequence[StoredResult], methods: Sequence[MethodAt]) -> Iterator[Card]:
    """The cards of all categories, methods numbered as given; the pictures of one category are in memory at a time.

    Pictures come from the first seed of each method that keeps any; where one keeps no cut of a defect, its map is
    missing on the card.
    """
    for category in dict.fromkeys(one.evaluation.category for one in stored):
        first: dict[MethodAt, StoredResult] = {}
        for one in sorted(stored, key=lambda one: (not one.n_pictures, one.run.seed)):
            if one.evaluation.category == category:
                first.setdefault(one.method, one)
        yield from _cards_of({methods.index(method): one for method, one in first.items()}, category)


def _cards_of(first: Mapping[int, StoredResult], category: str) -> Iterator[Card]:
    verdicts: dict[Place, dict[int, Verdict]] = {}
    cuts: dict[Place, dict[int, Exhibit]] = {}
    shares = {}
    for number, one in sorted(first.items()):
        for place, verdict in _verdicts(one.evaluation).items():
            verdicts.setdefault(place, {})[number] = verdict
        if one.evaluation.tally is None:
            continue
        shares[number] = NormalShares(one.evaluation.tally, one.evaluation.score_range[0])
        for exhibit in read_result(one.path).evaluation.exhibits:
            cuts.setdefault(_place(exhibit.defect), {})[number] = exhibit
    for place, by_number in cuts.items():
        yield _card(category, verdicts[place], by_number, shares)


def _verdicts(evaluation: Evaluation) -> dict[Place, Verdict]:
    hits: Sequence[bool | None] = evaluation.detectability.hits or [None] * len(evaluation.defects)
    return {
        _place(defect): Verdict(
            found=hit, first_touched_fpr=defect.first_touched_fpr, half_covered_fpr=defect.half_covered_fpr
        )
        for defect, hit in zip(evaluation.defects, hits, strict=True)
    }


def _card(
    category: str, verdicts: Mapping[int, Verdict], cuts: Mapping[int, Exhibit], shares: Mapping[int, NormalShares]
) -> Card:
    first = next(iter(cuts.values()))
    window = window_around(first.mask, first.defect.area_px, SIDES_PX)
    maps = [colour_shares(shares[number].of(exhibit.anomaly_map[window])) for number, exhibit in cuts.items()]
    mask: NDArray[np.bool_] = first.mask[window]
    return Card(
        category=category,
        defect=first.defect,
        verdicts=verdicts,
        height=mask.shape[0],
        width=mask.shape[1],
        outline=outline_path(mask),
        pictured=tuple(cuts),
        strip=encode_strip([first.image[window], *maps]),
    )


def gallery_json(cards: Iterable[Card], methods: Sequence[MethodAt], store: StripStore) -> str:
    """What the page needs to know of every card, smallest defect first, safe inside a script element."""
    known = sorted(((card.defect.diameter_px, card.key, _row(card, store)) for card in cards), key=lambda one: one[:2])
    rows = [{**row, "strip": store.address(row["strip"])} for _, _, row in known]
    who = {"methods": [method.label for method in methods], "names": [method.name for method in methods]}
    content = {**who, "fields": list(rows[0]) if rows else []}
    text = json.dumps({**content, "defects": [list(row.values()) for row in rows]}, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _row(card: Card, store: StripStore) -> dict[str, Any]:
    defect = card.defect
    return {
        "key": card.key,
        "category": card.category,
        "type": defect.defect_type,
        "sample": defect.sample_id,
        "row": defect.box_px[0],
        "column": defect.box_px[1],
        "diameter": round(defect.diameter_px, 2),
        "area": defect.area_px,
        "contrast": _short(defect.contrast),
        "height": card.height,
        "width": card.width,
        "outline": card.outline,
        "pictured": card.pictured,
        "looks": [
            [number, verdict.found, _short(verdict.first_touched_fpr), _short(verdict.half_covered_fpr)]
            for number, verdict in card.verdicts.items()
        ],
        "strip": store.add(card.strip),
    }


def _short(value: float) -> float | None:
    return float(f"{value:.3g}") if math.isfinite(value) else None


def _place(defect: DefectRecord) -> Place:
    return defect.sample_id, defect.box_px
