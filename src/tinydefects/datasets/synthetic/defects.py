"""Planting defects of exactly known pixels into a clean photograph.

The mask is the truth to the pixel: every mask pixel differs from the clean photograph by at least `MINIMUM_CONTRAST`
gray levels in some channel (where a contrast is asked for: by `least_change` of it), after noise and rounding, and no
other pixel differs at all. Unless asked for, contrast is drawn independently of area, so that size alone tells small
defects from large ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.defects import Box
from tinydefects.datasets.synthetic.canvas import Colour, Field, Generator, relief, smooth_noise, white_noise
from tinydefects.datasets.synthetic.regions import Region, draw_region, grown
from tinydefects.datasets.synthetic.surfaces import Scene

DEFECT_KINDS = ("crack", "foreign", "missing", "pit", "scratch", "smudge", "stain")
MINIMUM_CONTRAST = 8
CONTRAST_RANGES = dict.fromkeys(DEFECT_KINDS, (24.0, 110.0)) | {"smudge": (10.0, 24.0)}
CLEARANCE_PX = 3
STAINS: tuple[Colour, ...] = ((96, 62, 30), (44, 40, 44), (222, 216, 200), (120, 84, 96))
MATERIALS: tuple[Colour, ...] = ((214, 210, 202), (56, 56, 62), (172, 58, 48), (66, 92, 168), (196, 164, 88))


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One planted defect: its exact area, its box, and its mean absolute change in gray levels (largest channel)."""

    kind: str
    area_px: int
    box: Box
    contrast: float


def plant(
    rng: Generator,
    scene: Scene,
    kind: str,
    areas_px: Sequence[int],
    contrasts: Sequence[float] | None = None,
    *,
    clearance_px: int = CLEARANCE_PX,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], list[Planted]]:
    """The scene with defects of one kind and these areas: image (H, W, C), mask (H, W) and what was planted.

    Defects keep `clearance_px` clear pixels between them. One that finds no room is left out, never shrunk.
    `contrasts` are the mean changes in gray levels, one for each area, which are met but for rounding and where black
    or white ends them; drawn for each kind when left out.
    """
    image = scene.image.copy()
    mask = np.zeros(scene.part.shape, dtype=bool)
    allowed = scene.part.copy()
    planted = []
    for number, area_px in enumerate(areas_px):
        region = _place(rng, kind, area_px, allowed)
        if region is None:
            continue
        planted.append(_paint(rng, image, scene, kind, region, contrasts[number] if contrasts else None))
        mask[region.box] |= region.pixels
        _keep_clear(allowed, region, clearance_px)
    return image, mask, planted


def least_room(areas_px: Sequence[int], clearance_px: int, size: tuple[int, int]) -> float:
    """The share of an image of `size` (H, W) that such defects take at least, clear pixels among it; above 1, no room.

    Each with a square of `clearance_px` + 1 swept over it: those are disjoint, reach that far over two sides of the
    image, and by the inequality of Brunn and Minkowski none is smaller than that of a square defect.
    """
    swept = sum((math.sqrt(area_px) + clearance_px) ** 2 for area_px in areas_px)
    return swept / ((size[0] + clearance_px) * (size[1] + clearance_px))


def _place(rng: Generator, kind: str, area_px: int, allowed: NDArray[np.bool_]) -> Region | None:
    """The first of a dozen random places where the region fits."""
    height, width = allowed.shape
    for _ in range(12):
        for _ in range(200):
            centre = int(rng.integers(height)), int(rng.integers(width))
            if allowed[centre]:
                break
        region = draw_region(rng, kind, area_px, centre, allowed)
        if region is not None:
            return region
    return None


def _keep_clear(allowed: NDArray[np.bool_], region: Region, clearance_px: int) -> None:
    rows, columns = (
        slice(max(0, cut.start - clearance_px), min(length, cut.stop + clearance_px))
        for cut, length in zip(region.box, allowed.shape, strict=True)
    )
    blocked = np.zeros(allowed.shape, dtype=bool)[rows, columns]
    top, left = region.box[0].start - rows.start, region.box[1].start - columns.start
    blocked[top : top + region.pixels.shape[0], left : left + region.pixels.shape[1]] = region.pixels
    for _ in range(clearance_px):
        blocked = grown(blocked)
    allowed[rows, columns] &= ~blocked


def least_change(contrast: float) -> int:
    """What every pixel of a defect of a given contrast changes by at least, in gray levels."""
    return max(1, min(MINIMUM_CONTRAST, math.floor(contrast / 4)))


def _paint(
    rng: Generator, image: NDArray[np.uint8], scene: Scene, kind: str, region: Region, asked: float | None
) -> Planted:
    """Change exactly the region's pixels of the image, by the contrast asked for or one of the kind's range."""
    clean = scene.image[region.box][region.pixels].astype(np.float32)
    low, high = CONTRAST_RANGES[kind]
    contrast = math.exp(rng.uniform(math.log(low), math.log(high))) if asked is None else asked
    change = _change(rng, kind, clean, region, contrast, scene.beneath)
    if asked is not None:
        change *= np.float32(asked / max(float(np.abs(change).max(axis=1).mean(dtype=np.float64)), 1e-6))
    least = MINIMUM_CONTRAST if asked is None else least_change(asked)
    preferred = 1 if float(change.mean()) > 0 else -1
    painted = _visible(clean, np.clip(np.rint(clean + change), 0, 255), preferred, least)
    image[region.box][region.pixels] = painted.astype(np.uint8)
    rows, columns = np.flatnonzero(region.pixels.any(axis=1)), np.flatnonzero(region.pixels.any(axis=0))
    top, left = region.box[0].start, region.box[1].start
    return Planted(
        kind=kind,
        area_px=len(clean),
        box=(
            slice(top + int(rows[0]), top + int(rows[-1]) + 1),
            slice(left + int(columns[0]), left + int(columns[-1]) + 1),
        ),
        contrast=round(float(np.abs(painted - clean).max(axis=1).mean(dtype=np.float64)), 2),
    )


def _visible(clean: Field, painted: Field, preferred: int, least: int) -> Field:
    """Pixels (n, C), each moved at least `least` from the clean one, the preferred way if it has room."""
    weak = np.abs(painted - clean).max(axis=1) < least
    room_up, room_down = clean.min(axis=1) <= 255 - least, clean.max(axis=1) >= least
    up = room_up & ~room_down | (room_up if preferred > 0 else False)
    step = np.where(up, least, -least).astype(np.float32)[:, None]
    return np.where(weak[:, None], np.clip(clean + step, 0, 255), painted)


def _change(rng: Generator, kind: str, clean: Field, region: Region, contrast: float, beneath: Colour) -> Field:
    """What a defect of this kind adds to its pixels, (n, C) gray levels, before rounding and clipping."""
    radius = math.sqrt(len(clean) / math.pi)
    depth = region.depth[region.pixels][:, None]
    grain = smooth_noise(rng, region.depth.shape, max(1.0, radius / 6))[region.pixels][:, None]
    wall = np.float32(max(1.5, 0.12 * radius))
    lit = (relief(np.clip(region.depth / wall, 0, 1)) * wall)[region.pixels][:, None]  # a bump's slope to the light
    mean = clean.mean(axis=0, dtype=np.float64).astype(np.float32)
    strength = np.float32(contrast)
    change: Field
    if kind == "stain":
        dried_edge = np.float32(0.45) * np.exp(-depth / np.float32(max(0.8, 0.10 * radius)))
        amount = _profile(depth, 0.5, 1.0 + 0.05 * radius) * (np.float32(0.75) + dried_edge)
        tint = _direction(STAINS[rng.integers(len(STAINS))], mean)
        change = strength * amount * (1 + np.float32(0.18) * grain) * tint
    elif kind == "smudge":
        veil = _sign(rng, mean, 0.5) * strength + np.float32(0.45) * (mean - clean)
        change = _profile(depth, 0.45, 1.0 + 0.4 * radius) * veil
    elif kind in {"missing", "foreign"}:
        colour = beneath if kind == "missing" else MATERIALS[rng.integers(len(MATERIALS))]
        solid = mean + strength * _direction(colour, mean) * (1 + np.float32(0.06) * grain)
        solid += np.float32(0.7 if kind == "foreign" else -0.7) * strength * lit
        solid += np.float32(1.5) * white_noise(rng, clean.shape)
        change = _profile(depth, 0.7, 1.5) * (solid - clean)
    else:
        amount = _profile(depth, 0.55, 1.0 + 0.4 * radius if kind == "pit" else 1.5)
        amount *= _sign(rng, mean, 0.65 if kind == "scratch" else 0.0) * (1 + np.float32(0.15) * grain)
        change = strength * (amount + np.float32({"scratch": 0.35, "crack": 0.0, "pit": -0.5}[kind]) * lit)
    return change


def _profile(depth: Field, rim: float, ramp_px: float) -> Field:
    """From `rim` on the outline to 1 at `ramp_px` inside it; scaled to reach 1 in thin defects too."""
    profile = np.float32(rim) + np.float32(1 - rim) * np.clip(depth / np.float32(ramp_px), 0, 1)
    return np.asarray(profile / profile.max())


def _direction(colour: Colour, mean: Field) -> Field:
    """From the mean of the surface (C,) towards a colour; the largest channel is 1."""
    goal = np.asarray(colour if len(colour) == len(mean) else [np.mean(colour)] * len(mean), dtype=np.float32)
    away = goal - mean
    reach = np.abs(away).max()
    return np.asarray(away / reach) if reach >= 1 else -np.ones_like(mean)


def _sign(rng: Generator, mean: Field, bright: float) -> np.float32:
    """Brighter with probability `bright`, else darker, but never further than the surface's brightness leaves room."""
    level, drawn = float(mean.mean()), rng.random()
    return np.float32(1 if level < 50 or (drawn < bright and level < 195) else -1)
