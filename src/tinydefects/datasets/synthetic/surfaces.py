"""Clean synthetic photographs: eight families of textures and parts, each image a little different.

More pixels see the same part finer: threads, grains and holes keep their share of the image's shorter side and gain
detail down to the pixel, while lens blur and sensor noise stay at the pixel. Textures below 512 pixels show a
cut-out instead, so that none is ever finer than its pixels. The design of the three parts (a machined plate, a circuit
board, a blister of tablets; where holes, traces and pockets lie) is the same in every photograph; only the pose and the
surface vary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tinydefects.datasets.synthetic.canvas import (
    Colour,
    Field,
    Generator,
    Painting,
    Point,
    Pose,
    Size,
    box_around,
    draw_disc,
    draw_lines,
    draw_rectangle,
    mixed,
    octaves,
    offsets,
    relief,
    rounded_rectangle,
    smooth_noise,
    white_noise,
)


def paint_machined_part(design: Generator, rng: Generator, pose: Pose) -> Painting:
    """A milled plate with holes on a plain ground."""
    unit, pixel = pose.detail_px, np.float32(pose.side_px)
    v, u = pose.coordinates()
    half = (pose.reach[0] - 0.075, pose.reach[1] - 0.075)
    edge = -rounded_rectangle(v, u, half, 0.07)
    radius = np.sqrt(v * v + u * u)
    edge = np.minimum(edge, radius - np.float32(0.15))
    for side_v in (-1, 1):
        for side_u in (-1, 1):
            hole_v, hole_u = v - np.float32(side_v * (half[0] - 0.085)), u - np.float32(side_u * (half[1] - 0.085))
            edge = np.minimum(edge, np.sqrt(hole_v * hole_v + hole_u * hole_u) - np.float32(0.036))
    table = np.arange(0.0, 4.0, max(0.0012, 0.7 / pose.side_px))
    turning = np.interp(radius, table, smooth_noise(rng, (1, len(table)), (1, 1.6))[0]).astype(np.float32)
    metal = 152 + 5 * turning + 3 * octaves(rng, pose.size, 24 * unit, 1.5, 0.7)
    metal += np.float32(9) * np.cos(2 * np.arctan2(v, u) + np.float32(rng.uniform(0, 6)))  # sheen of a turned face
    chamfer = np.clip(1 - np.abs(edge - np.float32(0.006)) / np.float32(0.005), 0, 1)
    metal += chamfer * (26 - 40 * np.clip((v + u) * 2, -0.5, 0.5))
    ground = 42 + 3 * octaves(rng, pose.size, 60 * unit, 1.5, 0.7)
    ground -= 14 * np.exp(np.minimum(edge, 0) * np.float32(60))  # contact shadow
    inside = np.clip(edge * pixel + np.float32(0.5), 0, 1)
    part = edge * pixel > 1.5
    return Painting(surface=(ground + inside * (metal - ground))[..., None], beneath=(62.0,), part=part)


def paint_circuit_board(design: Generator, rng: Generator, pose: Pose) -> Painting:
    """A circuit board: tracks, pads and components."""
    unit = pose.detail_px
    cloth = octaves(rng, pose.size, 6 * unit, 1.5, 0.8)
    surface = mixed(np.clip(np.float32(0.5) + np.float32(0.05) * cloth, 0, 1), (16, 62, 44), (40, 100, 70))
    reach_v, reach_u = pose.reach[0] + 0.1, pose.reach[1] + 0.1
    for _ in range(round(24 * reach_v)):
        _draw_bus(surface, pose, design, (34, 98, 68), upright=False)
    for _ in range(round(24 * reach_u)):
        _draw_bus(surface, pose, design, (48, 122, 84), upright=True)
    for row in np.arange(-reach_v, reach_v, 0.16):
        for column in np.arange(-reach_u, reach_u, 0.19):
            centre = (row + 0.08 + design.normal(0, 0.012), column + 0.095 + design.normal(0, 0.012))
            _draw_component(surface, pose, design, centre)
    surface += np.float32(2.0) * smooth_noise(rng, pose.size, 40 * unit)[..., None]
    return Painting(surface=surface, beneath=(168.0, 150.0, 96.0))


def _draw_bus(surface: Field, pose: Pose, design: Generator, colour: Colour, *, upright: bool) -> None:
    """Parallel copper traces with one 45 degree jog, under the green mask."""
    reach = pose.reach if upright else pose.reach[::-1]
    length, breadth = reach[0] + 0.1, reach[1] + 0.1
    place, bend, jog = design.uniform(-breadth, breadth), design.uniform(-length, length), design.uniform(-0.08, 0.08)
    copies = int(design.integers(2, 7))
    path = [(-length, place), (bend, place), (bend + abs(jog), place + jog), (length + 0.1, place + jog)]
    points = [pose.pixel(a, b) if upright else pose.pixel(b, a) for a, b in path]
    first, second = pose.pixel(0, 0), pose.pixel(0, 0.0135) if upright else pose.pixel(0.0135, 0)
    step = (second[0] - first[0], second[1] - first[1])
    for start, end in pairwise(points):
        draw_lines(surface, start, end, 0.0029 * pose.side_px, colour, copies=copies, step=step)


def _draw_component(surface: Field, pose: Pose, design: Generator, centre: tuple[float, float]) -> None:
    """A packaged chip, a two-pole part or a field of vias."""
    solder, body = (196.0, 196.0, 188.0), (38.0, 38.0, 42.0)
    v, u = centre
    kind = design.random()
    if kind < 0.35:
        pins, half = int(design.integers(4, 8)), design.uniform(0.030, 0.042)
        for pin in range(pins):
            along = (pin - (pins - 1) / 2) * 0.016
            for side in (-1, 1):
                draw_rectangle(surface, pose, (v + side * (half + 0.008), u + along), (0.010, 0.0045), solder)
        draw_rectangle(surface, pose, centre, (half, pins * 0.008 + 0.004), body)
        draw_disc(surface, pose.pixel(v - half * 0.6, u - pins * 0.0065), 0.004 * pose.side_px, (88, 88, 92))
    elif kind < 0.80:
        brown = (126.0, 94.0, 66.0) if design.random() < 0.5 else body
        for row in range(design.integers(1, 4)):
            middle = v + (row - 1) * 0.032
            for side in (-1, 1):
                draw_rectangle(surface, pose, (middle, u + side * 0.020), (0.0105, 0.0085), solder)
            draw_rectangle(surface, pose, (middle, u), (0.0095, 0.0150), brown)
            draw_rectangle(surface, pose, (middle - 0.013, u), (0.0012, 0.026), (206, 214, 206))
    else:
        for row in range(3):
            for column in range(4):
                place = pose.pixel(v + (row - 1) * 0.030, u + (column - 1.5) * 0.030)
                draw_disc(surface, place, 0.0085 * pose.side_px, (188, 160, 84))
                draw_disc(surface, place, 0.0040 * pose.side_px, (24, 26, 22))


def paint_blister(design: Generator, rng: Generator, pose: Pose) -> Painting:
    """A blister of pills in their pockets."""
    unit, pixel = pose.detail_px, np.float32(pose.side_px)
    v, u = pose.coordinates()
    half = (pose.reach[0] - 0.05, pose.reach[1] - 0.05)
    card = -rounded_rectangle(v, u, half, 0.05)
    knurl = np.cos((u + v) * np.float32(330)) + np.cos((u - v) * np.float32(330))
    fade = np.float32(min(1.0, max(0.0, (pose.side_px - 128) / 256)))  # finer than the pixels of a small image
    foil = 172 + 5 * fade * knurl + 3 * octaves(rng, pose.size, 8 * unit, 1.5, 0.8)
    foil += np.float32(9) * smooth_noise(rng, pose.size, 120 * unit)
    surface = np.repeat((np.float32(46) + np.clip(card * pixel, 0, 1) * (foil - 46))[..., None], 3, axis=2)
    surface *= np.array([0.985, 1.0, 1.02], dtype=np.float32)
    grain = np.float32(2.2) * octaves(rng, pose.size, 4 * unit, 1.5, 0.8)
    rows, columns = (max(1, round((2 * extent - 0.04) / 0.28)) for extent in half)
    for row in range(rows):
        for column in range(columns):
            middle = ((row - (rows - 1) / 2) * 2 * half[0] / rows, (column - (columns - 1) / 2) * 2 * half[1] / columns)
            _draw_pill(surface, rng, pose, middle, grain)
    return Painting(surface=surface, beneath=(112.0, 114.0, 118.0), part=card * pixel > 1.5)


def _draw_pill(surface: Field, rng: Generator, pose: Pose, middle: Point, grain: Field) -> None:
    """A scored round tablet, moved a little in its clear pocket."""
    place = pose.pixel(*middle)
    box = box_around([place], 0.13 * pose.side_px, pose.size)
    row, column = (offset / np.float32(pose.side_px) for offset in offsets(box, place))
    pocket = np.sqrt(row * row + column * column)
    rim = np.clip(1 - np.abs(pocket - np.float32(0.118)) / np.float32(0.008), 0, 1)
    surface[box] += (rim * np.clip(-(row + column) * 260, -42, 42))[..., None]
    row, column = row - np.float32(rng.normal(0, 0.003)), column - np.float32(rng.normal(0, 0.003))
    radius = np.sqrt(row * row + column * column)
    turn = rng.uniform(0, math.pi)
    score = np.exp(-(((row * np.float32(math.cos(turn)) + column * np.float32(math.sin(turn))) * 220) ** 2))
    dome = np.clip((radius - np.float32(0.070)) / np.float32(0.028), 0, 1)
    tone = 206 + grain[box] - 30 * score - dome * (24 + np.clip((row + column) * 260, -26, 26))
    inside = np.clip((np.float32(0.098) - radius) * np.float32(pose.side_px), 0, 1)[..., None]
    pill = tone[..., None] * np.array([1.0, 0.97, 0.88], dtype=np.float32)
    surface[box] += inside * (pill - surface[box])


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
