"""The three synthetic parts: a machined plate, a circuit board and a blister of tablets.

Their design (where holes, traces and pockets lie) is the same in every photograph; only the pose and the surface vary.
"""

import math
from itertools import pairwise

import numpy as np

from tinydefects.datasets.synthetic.canvas import (
    Colour,
    Field,
    Generator,
    Painting,
    Point,
    Pose,
    box_around,
    draw_disc,
    draw_lines,
    draw_rectangle,
    mixed,
    octaves,
    offsets,
    rounded_rectangle,
    smooth_noise,
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
