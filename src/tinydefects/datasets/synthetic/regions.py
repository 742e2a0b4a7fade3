"""Where a planted defect lies: one 8-connected region of exactly the area asked for, shaped like its kind.

Each kind draws a score that is higher further inside the defect, in pixels; the region takes the highest scores.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinydefects.data.defects import EIGHT_CONNECTED, Box
from tinydefects.datasets.synthetic.canvas import (
    Field,
    Generator,
    Point,
    box_around,
    offsets,
    segment_distance,
    smooth_noise,
)

Mask = NDArray[np.bool_]
Segment = tuple[Point, Point, float]  # start, end, half width
FAR_OUTSIDE = np.float32(-1e4)
LONGEST_LINE = 0.75  # of the shorter image side


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """The pixels of one defect inside their box, (h, w) bool, and how deep inside it they lie, (h, w) in pixels."""

    box: Box
    pixels: Mask
    depth: Field


def draw_region(rng: Generator, kind: str, area_px: int, centre: Point, allowed: Mask) -> Region | None:
    """A region of exactly `area_px` pixels near `centre`, all of them `allowed` (H, W); None when it does not fit."""
    size = (allowed.shape[0], allowed.shape[1])
    fibre = kind == "foreign" and area_px / _line_width(kind, area_px) < LONGEST_LINE * min(size) and rng.random() < 0.6
    if fibre or kind in {"scratch", "crack"}:
        inward = min(0.8, 8 * area_px / allowed.size)  # what would run out of the image would come back as width
        middle = tuple(place + inward * (length / 2 - place) for place, length in zip(centre, size, strict=True))
        box, score = _line_score(rng, list(_segments(rng, kind, area_px, (middle[0], middle[1]), allowed)), size)
    else:
        box, score = _blob_score(rng, kind, area_px, centre, size)
    score[~allowed[box]] = -np.inf
    pixels = connected_pixels(score, area_px)
    if pixels is None:
        return None
    rim = score[pixels].min() if area_px > 1 else np.float32(0)
    rim = max(rim, np.float32(np.quantile(score[pixels], 0.05)))  # pixels filled in at the end lie far outside
    return Region(box=box, pixels=pixels, depth=np.where(pixels, np.clip(score - rim, 0, None), np.float32(0)))


def connected_pixels(score: Field, area_px: int) -> Mask | None:
    """Exactly `area_px` pixels of one 8-connected region of high scores, (h, w); None when it finds no room.

    The largest piece above a threshold comes first; what it lacks grows from its rim, a layer at a time, highest
    scores first. A score of -inf is never taken.
    """
    usable = np.isfinite(score)
    if np.count_nonzero(usable) < area_px:
        return None
    region = _main_piece(score, np.sort(score[usable])[::-1], area_px)
    while (short := area_px - int(np.count_nonzero(region))) > 0:
        layer = np.flatnonzero(grown(region) & usable & ~region)
        if not layer.size:
            return None
        if layer.size > short:
            layer = layer[np.argsort(-score.ravel()[layer], kind="stable")[:short]]
        region.ravel()[layer] = True
    return region


def grown(region: Mask) -> Mask:
    """The region and its eight neighbours on every side."""
    rows = region.copy()
    rows[1:] |= region[:-1]
    rows[:-1] |= region[1:]
    both = rows.copy()
    both[:, 1:] |= rows[:, :-1]
    both[:, :-1] |= rows[:, 1:]
    return both


def _main_piece(score: Field, ranked: Field, area_px: int) -> Mask:
    """The largest connected piece above a threshold, of at most `area_px` pixels but nearly."""
    best: Mask = np.zeros(score.shape, dtype=bool)
    best.ravel()[int(score.argmax())] = True
    rank, most = area_px - 1, 1
    for _ in range(5):
        labels, count = ndimage.label(score > ranked[min(rank, ranked.size - 1)], structure=EIGHT_CONNECTED)
        if not count:
            break
        areas = np.bincount(labels.ravel())[1:]
        largest = int(areas.max())
        if largest > area_px:
            break
        if largest > most:
            best, most = np.equal(labels, int(areas.argmax()) + 1), largest
        if largest > 0.97 * area_px:
            break
        rank += area_px - largest
    return best


def _blob_score(rng: Generator, kind: str, area_px: int, centre: Point, size: tuple[int, int]) -> tuple[Box, Field]:
    """Round for pits, ragged for stains and smudges, angular for missing and foreign pieces."""
    radius = math.sqrt(area_px / math.pi)
    stretch = math.sqrt(rng.uniform(1.0, 1.25 if kind == "pit" else 2.0))
    box = box_around([centre], 2.2 * radius * stretch + 3, size)
    row, column = offsets(box, centre)
    angle = rng.uniform(0, math.pi)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    along, across = (row * cos + column * sin) / np.float32(stretch), (column * cos - row * sin) * np.float32(stretch)
    if kind in {"missing", "foreign"}:
        turns = np.sort(rng.uniform(0, 0.7, 6) + np.arange(6)) * (math.pi / 3)
        sides = [along * np.float32(math.cos(turn)) + across * np.float32(math.sin(turn)) for turn in turns]
        distance = np.maximum.reduce([side / np.float32(rng.uniform(0.7, 1.1)) for side in sides])
    else:
        distance = np.sqrt(along * along + across * across)
    shape = distance.shape
    ragged = {"pit": 0.07, "missing": 0.06, "foreign": 0.04, "stain": 0.30, "smudge": 0.22}[kind]
    noise = smooth_noise(rng, shape, max(1.5, 0.7 * radius)) + np.float32(0.35) * smooth_noise(
        rng, shape, max(1.0, 0.12 * radius)
    )
    return box, np.float32(radius) - distance + np.float32(ragged * radius) * noise


def _line_score(rng: Generator, segments: list[Segment], size: tuple[int, int]) -> tuple[Box, Field]:
    """Half width less distance, of the nearest segment."""
    widest = max(half_width for *_, half_width in segments)
    reach = 3 * widest + 3
    box = box_around([point for start, end, _ in segments for point in (start, end)], reach, size)
    score = np.full((box[0].stop - box[0].start, box[1].stop - box[1].start), FAR_OUTSIDE, dtype=np.float32)
    for start, end, half_width in segments:
        near = box_around([start, end], reach, size)
        inside = tuple(slice(n.start - b.start, n.stop - b.start) for n, b in zip(near, box, strict=True))
        np.maximum(score[inside], np.float32(half_width) - segment_distance(near, start, end), out=score[inside])
    score += np.float32(0.2 * widest) * smooth_noise(rng, score.shape, max(1.0, 1.6 * widest))
    return box, score


def _segments(rng: Generator, kind: str, area_px: int, centre: Point, allowed: Mask) -> Iterator[Segment]:
    """The strokes of a scratch, a fibre or a crack of about the area asked for."""
    heading = rng.uniform(0, 2 * math.pi)
    if kind == "crack":
        return _crack(rng, area_px, centre, heading, allowed)
    if kind == "scratch":
        return _scratch(rng, area_px, centre, heading, min(allowed.shape))
    width = _line_width("foreign", area_px)
    return _strand(rng, centre, heading, area_px / width, width / 2, bend=0.2, pointed=True)


def _line_width(kind: str, area_px: int) -> float:
    """How wide a line of this area is: larger ones are longer rather than wider."""
    factor, power = {"scratch": (0.55, 0.33), "foreign": (0.75, 0.33), "crack": (0.60, 0.28)}[kind]
    return max(1.0, factor * math.pow(area_px, power))


def _scratch(rng: Generator, area_px: int, centre: Point, heading: float, side: int) -> Iterator[Segment]:
    """One groove, or where it is wide a bundle of parallel ones with ragged ends."""
    width = _line_width("scratch", area_px)
    length = min(area_px / width, LONGEST_LINE * side)
    width = max(width, area_px / length)
    grooves = max(1, round(width / max(3.5, 0.006 * side)))
    half_width = width / grooves / 2
    bend = rng.normal(0, 0.02)
    for groove in range(grooves):
        aside = (groove - (grooves - 1) / 2) * 2 * half_width
        along = rng.normal(0, 0.06) * length if grooves > 1 else 0.0
        row = centre[0] - math.sin(heading) * aside + math.cos(heading) * along
        column = centre[1] + math.cos(heading) * aside + math.sin(heading) * along
        stretch = length * rng.uniform(0.8, 1.1) if grooves > 1 else length
        yield from _strand(rng, (row, column), heading, stretch, half_width, bend=0.006, pointed=True, arc=bend)


def _crack(rng: Generator, area_px: int, centre: Point, heading: float, allowed: Mask) -> Iterator[Segment]:
    """A jagged trunk and ever thinner branches, until their lengths on the part give the area."""
    width, longest = _line_width("crack", area_px), LONGEST_LINE * min(allowed.shape)
    remaining = area_px / width
    length = min(0.6 * remaining, longest)
    stems = list(_strand(rng, centre, heading, length, width / 2, bend=0.25, pointed=False))
    yield from stems
    remaining -= _length_on(allowed, stems)
    for _ in range(200):
        if remaining < 2 * width:
            break
        start, end, half_width = stems[rng.integers(len(stems))]
        length = min(remaining, max(6 * width, longest * rng.uniform(0.15, 0.6)))
        heading = math.atan2(end[1] - start[1], end[0] - start[0]) + rng.choice([-1, 1]) * rng.uniform(0.5, 1.3)
        middle = (end[0] + math.cos(heading) * length / 2, end[1] + math.sin(heading) * length / 2)
        branch = list(_strand(rng, middle, heading, length, max(0.5, half_width * 0.75), bend=0.25, pointed=False))
        branch.insert(0, (end, branch[0][0], branch[0][2]))
        if _length_on(allowed, branch) < 0.6 * length:
            continue
        yield from branch
        stems += branch
        remaining -= length


def _length_on(allowed: Mask, segments: list[Segment]) -> float:
    """How many pixels of the segments lie where a defect may be, by their ends."""
    total = 0.0
    for start, end, _ in segments:
        row, column = round(end[0]), round(end[1])
        if 0 <= row < allowed.shape[0] and 0 <= column < allowed.shape[1] and allowed[row, column]:
            total += math.dist(start, end)
    return total


def _strand(
    rng: Generator,
    middle: Point,
    heading: float,
    length: float,
    half_width: float,
    *,
    bend: float,
    pointed: bool,
    arc: float = 0.0,
) -> Iterator[Segment]:
    """A walk through about `middle`: thinner towards both ends if `pointed`, else towards its end.

    `bend` is the spread of its turns and `arc` their mean, in radians a step; a bend is jagged, not a curl.
    """
    steps = max(1, min(24, round(length / max(3.0, 2 * half_width))))
    wander = rng.normal(0, bend, steps)
    turns = wander + 0.5 * np.cumsum(wander) + arc * np.arange(steps)
    headings = heading + turns - turns.mean()
    rows = np.concatenate([[0.0], np.cumsum(np.cos(headings))]) * (length / steps)
    columns = np.concatenate([[0.0], np.cumsum(np.sin(headings))]) * (length / steps)
    rows, columns = rows - rows.mean() + middle[0], columns - columns.mean() + middle[1]
    for step in range(steps):
        t = (step + 0.5) / steps
        thickness = math.sqrt(math.sin(math.pi * t)) if pointed else math.sqrt(1 - 0.8 * t)
        points = [(float(rows[i]), float(columns[i])) for i in (step, step + 1)]
        yield points[0], points[1], half_width * max(0.4, thickness)
