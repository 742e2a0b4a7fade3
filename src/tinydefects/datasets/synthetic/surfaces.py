"""Clean synthetic photographs: eight families of textures and parts, each image a little different.

More pixels see the same part finer: threads, grains and holes keep their share of the image's shorter side and gain
detail down to the pixel, while lens blur and sensor noise stay at the pixel. Textures below 512 pixels show a
cut-out instead, so that none is ever finer than its pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinydefects.datasets.synthetic.canvas import (
    Colour,
    Field,
    Generator,
    Painting,
    Pose,
    Size,
    mixed,
    octaves,
    relief,
    smooth_noise,
    white_noise,
)
from tinydefects.datasets.synthetic.parts import paint_blister, paint_circuit_board, paint_machined_part


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """A clean photograph (H, W, C) uint8, C = 1 or 3; where its part lies, (H, W) bool; the colour beneath it."""

    image: NDArray[np.uint8]
    part: NDArray[np.bool_]
    beneath: Colour


def draw_scene(family: str, design: Generator, rng: Generator, size: Size) -> Scene:
    """One clean photograph. `design` fixes what all photographs of the part share, `rng` what differs between them."""
    pose = Pose(
        size=size,
        angle=math.radians(rng.normal(0, 0.8)),
        scale=1 + rng.normal(0, 0.008),
        shift=(rng.normal(0, 0.006), rng.normal(0, 0.006)),
    )
    painting = PAINTERS[family](design, rng, pose)
    part = np.ones(size, dtype=bool) if painting.part is None else painting.part
    return Scene(image=_photograph(rng, painting.surface), part=part, beneath=painting.beneath)


def _photograph(rng: Generator, surface: Field) -> NDArray[np.uint8]:
    """Uneven light, exposure, white balance, a slight blur, and noise that grows with the signal."""
    height, width, channels = surface.shape
    row = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    column = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    tilt, falloff = rng.normal(0, 0.035, 2), rng.uniform(0.01, 0.05)
    light = 1 + np.float32(tilt[0]) * row + np.float32(tilt[1]) * column - np.float32(falloff) * (row**2 + column**2)
    light *= np.float32(rng.normal(1, 0.025))
    side = np.float32(rng.uniform(0.04, 0.12))
    image = np.empty(surface.shape, dtype=np.uint8)
    for channel in range(channels):
        signal = _blurred(surface[..., channel] * light * np.float32(rng.normal(1, 0.006)), side)
        noise = white_noise(rng, (height, width))
        signal += noise * np.sqrt(np.float32(0.8) + np.float32(0.010) * np.maximum(signal, 0))
        image[..., channel] = np.clip(np.rint(signal), 0, 255)
    return image


def _blurred(field: Field, side: np.float32) -> Field:
    """Three-tap blur along rows, then columns; `side` is the weight of each neighbour."""
    for axis in (0, 1):
        middle = field * (1 - 2 * side)
        inner = [slice(None), slice(None)]
        for forward in (True, False):
            near, far = inner.copy(), inner.copy()
            near[axis], far[axis] = (slice(1, None), slice(None, -1)) if forward else (slice(None, -1), slice(1, None))
            edge = inner.copy()
            edge[axis] = slice(0, 1) if forward else slice(-1, None)
            middle[tuple(near)] += side * field[tuple(far)]
            middle[tuple(edge)] += side * field[tuple(edge)]
        field = middle
    return field


def _slanted(field: Field, slope: float) -> Field:
    """Rows shifted down by `slope` pixels a column, wrapped: a small turn of a texture of long horizontal streaks."""
    height, width = field.shape
    shift = (np.arange(width) - width / 2) * slope
    whole = np.floor(shift).astype(np.intp)
    part = (shift - whole).astype(np.float32)[None, :]
    columns = np.arange(width)[None, :]
    rows = np.arange(height)[:, None] - whole[None, :]
    return np.asarray(field[rows % height, columns] * (1 - part) + field[(rows - 1) % height, columns] * part)


def _brushed_metal(design: Generator, rng: Generator, pose: Pose) -> Painting:
    unit = pose.detail_px
    lines = np.zeros(pose.size, dtype=np.float32)
    for strength, thick, long in ((5.0, 0.7, 60.0), (4.0, 1.4, 220.0), (3.5, 5.0, 500.0), (2.5, 0.5, 14.0)):
        lines += np.float32(strength) * smooth_noise(rng, pose.size, (thick * unit, long * unit))
    if unit > 1.5:  # what a finer camera resolves within one line
        lines += np.float32(4.0) * smooth_noise(rng, pose.size, (1.0, 25.0))
    band = np.float32(10) * smooth_noise(rng, pose.size, (180 * unit, 2000 * unit))
    return Painting(surface=(158 + _slanted(lines, math.tan(pose.angle)) + band)[..., None], beneath=(70.0,))


def _woven_fabric(design: Generator, rng: Generator, pose: Pose) -> Painting:
    unit = pose.detail_px
    pitch = 11 * unit
    v, u = pose.coordinates()
    sway = pitch * 0.16
    across = u * np.float32(pose.side_px / pitch) + smooth_noise(rng, pose.size, 70 * unit) * np.float32(sway / pitch)
    down = v * np.float32(pose.side_px / pitch) + smooth_noise(rng, pose.size, 70 * unit) * np.float32(sway / pitch)
    column, row = np.floor(across), np.floor(down)
    x, y = across - column - np.float32(0.5), down - row - np.float32(0.5)
    over = (column + row).astype(np.int32) & 1
    span, cross = np.where(over, y, x), np.where(over, x, y)  # along and across the thread on top
    height = (1 - np.float32(3.2) * cross * cross) * (1 - np.float32(1.5) * span * span)
    yarn = rng.normal(0, 0.05, 4096).astype(np.float32)
    number = np.where(over, column, row + 1777).astype(np.int32) & 4095
    fibres = octaves(rng, pose.size, 3 * unit, 1.5, 0.8)
    tone = np.float32(0.20) + np.float32(0.55) * height + yarn[number] + np.float32(0.055) * fibres
    tone += np.float32(0.05) * relief(height) * np.float32(unit)
    dyed = np.where(over, tone, tone * np.float32(0.90))
    return Painting(surface=mixed(np.clip(dyed, 0, 1), (14, 24, 50), (156, 178, 212)), beneath=(58.0, 40.0, 30.0))


def _wood_grain(design: Generator, rng: Generator, pose: Pose) -> Painting:
    unit = pose.detail_px
    _, u = pose.coordinates()
    bend = smooth_noise(rng, pose.size, (420 * unit, 110 * unit)) * np.float32(0.085)
    ring = (u + bend + np.float32(rng.uniform(0, 9))) * np.float32(15)
    ring += np.float32(0.25) * smooth_noise(rng, pose.size, (300 * unit, 14 * unit))
    phase = ring - np.floor(ring)
    late = phase**3 * (1 - np.clip((phase - np.float32(0.93)) / np.float32(0.07), 0, 1))
    fibre = smooth_noise(rng, pose.size, (45 * unit, 1.3 * unit)) + smooth_noise(rng, pose.size, (160 * unit, 3 * unit))
    if unit > 1.5:
        fibre += np.float32(0.7) * smooth_noise(rng, pose.size, (30.0, 1.0))
    pores = np.clip(smooth_noise(rng, pose.size, (22 * unit, 1.1 * unit)) - np.float32(1.75), 0, 1)
    streaks = _slanted((np.float32(0.055) * fibre + np.float32(0.35) * pores).T, -math.tan(pose.angle)).T
    dark = np.float32(0.22) + np.float32(0.50) * late + streaks
    dark += np.float32(0.06) * smooth_noise(rng, pose.size, 150 * unit)
    return Painting(surface=mixed(np.clip(dark, 0, 1), (214, 170, 118), (98, 60, 32)), beneath=(52.0, 34.0, 22.0))


def _granite(design: Generator, rng: Generator, pose: Pose) -> Painting:
    unit = pose.detail_px
    feldspar = octaves(rng, pose.size, 15 * unit, 2.5 * unit, 0.6)
    mica = octaves(rng, pose.size, 8 * unit, 2 * unit, 0.65)
    fine = octaves(rng, pose.size, 2.5 * unit, 1.5, 0.8)
    sharp = np.float32(5)
    surface = mixed(np.clip(np.float32(0.5) + np.float32(0.12) * fine, 0, 1), (118, 115, 112), (176, 172, 168))
    pink = np.clip((feldspar - np.float32(0.45)) * sharp, 0, 1)
    black = np.clip((mica - np.float32(1.0)) * sharp, 0, 1)
    white = np.clip((-mica - np.float32(1.15)) * sharp, 0, 1)
    for amount, colour in ((pink, (176, 146, 132)), (white, (206, 204, 200)), (black, (52, 50, 52))):
        for channel in range(3):
            shade = np.float32(colour[channel]) + np.float32(5) * fine
            surface[..., channel] += amount * np.float32(0.85) * (shade - surface[..., channel])
    return Painting(surface=surface, beneath=(84.0, 80.0, 76.0))


def _leather(design: Generator, rng: Generator, pose: Pose) -> Painting:
    unit = pose.detail_px
    pitch = 13 * unit
    v, u = pose.coordinates()
    wander = np.float32(0.35)
    down = v * np.float32(pose.side_px / pitch) + wander * smooth_noise(rng, pose.size, 25 * unit)
    across = u * np.float32(pose.side_px / pitch) + wander * smooth_noise(rng, pose.size, 25 * unit)
    gap = _cell_gap(rng, down, across)
    crease = np.exp(-gap * gap * np.float32(22))
    height = -crease + np.float32(0.10) * octaves(rng, pose.size, 5 * unit, 1.5, 0.7)
    tone = np.float32(0.55) - np.float32(0.30) * crease - np.float32(0.28) * relief(height) * np.float32(unit)
    tone += np.float32(0.06) * smooth_noise(rng, pose.size, 90 * unit)
    return Painting(surface=mixed(np.clip(tone, 0, 1), (58, 32, 20), (196, 132, 88)), beneath=(196.0, 172.0, 140.0))


def _cell_gap(rng: Generator, down: Field, across: Field) -> Field:
    """Distance to the second nearest of scattered points minus that to the nearest: 0 on the borders of cells."""
    row, column = np.floor(down), np.floor(across)
    y, x = down - row, across - column
    row -= row.min() - 1
    column -= column.min() - 1
    pitch = int(column.max()) + 2
    place = row.astype(np.intp) * pitch + column.astype(np.intp)
    jitter = np.float32(0.1) + np.float32(0.8) * rng.random((2, (int(row.max()) + 2) * pitch), dtype=np.float32)
    nearest = np.full(down.shape, 99, dtype=np.float32)
    second = nearest.copy()
    for step_down in (-1, 0, 1):
        for step_across in (-1, 0, 1):
            neighbour = place + (step_down * pitch + step_across)
            squared = (jitter[0][neighbour] - (y - np.float32(step_down))) ** 2
            squared += (jitter[1][neighbour] - (x - np.float32(step_across))) ** 2
            np.minimum(second, np.maximum(nearest, squared), out=second)
            np.minimum(nearest, squared, out=nearest)
    return np.asarray(np.sqrt(second) - np.sqrt(nearest))


PAINTERS: dict[str, Callable[[Generator, Generator, Pose], Painting]] = {
    "blister": paint_blister,
    "brushed_metal": _brushed_metal,
    "circuit_board": paint_circuit_board,
    "granite": _granite,
    "leather": _leather,
    "machined_part": paint_machined_part,
    "wood_grain": _wood_grain,
    "woven_fabric": _woven_fabric,
}
