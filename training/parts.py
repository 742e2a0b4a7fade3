"""Normal objects on a surface: bodies, holes, pads, slots, tracks and print, alone or repeated in rows and columns.

An outline is a signed distance in pixels, negative inside: bevels, rims and repetition are then a few array operations.
Irregular outlines are left to the odd marks: what is drawn here is geometric, printed or repeated.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, shift

from marks import log_uniform
from materials import Array

GLYPHS = "ABCDEFGHKLMNPRSTUVXZ0123456789-+/.:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """Signed distance (S, S) in px to the outlines of one layer, and a number in [-1, 1] for each copy, (S, S)."""

    distance: Array
    variation: Array

    def coverage(self, softness_px: float = 1.0) -> Array:
        """The layer's coverage (S, S) in [0, 1]."""
        covered: Array = np.clip(0.5 - self.distance / softness_px, 0, 1).astype(np.float32)
        return covered


def turned_axes(rng: Generator, size: int) -> tuple[Array, Array]:
    """Pixel coordinates (S, S) around a random centre, mostly along the image axes."""
    angle = rng.integers(4) * np.pi / 2 + (rng.normal(0, 0.02) if rng.random() < 0.7 else rng.uniform(-0.8, 0.8))
    y, x = np.mgrid[:size, :size].astype(np.float32)
    y, x = y - rng.uniform(-0.1, 1.1) * size, x - rng.uniform(-0.1, 1.1) * size
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def one_body(rng: Generator, size: int) -> Outline:
    u, v = turned_axes(rng, size)
    return Outline(distance=body(rng, u, v, log_uniform(rng, 14, 80)), variation=np.zeros_like(u))


def repeated_bodies(rng: Generator, size: int) -> Outline:
    """The same body in a row, in several rows or in a field; six copies at least."""
    u, v = turned_axes(rng, size)
    pitch_u = log_uniform(rng, 6, 48)
    pitch_v = pitch_u * log_uniform(rng, 0.6, 3) if rng.random() < 0.5 else pitch_u
    columns, rows = rng.integers(3, 12), rng.choice([0, 1, 2, 8])
    column, row = np.clip(np.round(u / pitch_u), -columns, columns), np.clip(np.round(v / pitch_v), -rows, rows)
    reach = 0.5 * min(pitch_u, pitch_v) * rng.uniform(0.45, 0.95)
    table = rng.uniform(-1, 1, (2 * columns + 1, 2 * rows + 1)).astype(np.float32)
    variation = table[column.astype(int) + columns, row.astype(int) + rows]
    return Outline(distance=body(rng, u - column * pitch_u, v - row * pitch_v, reach), variation=variation)


def body(rng: Generator, u: Array, v: Array, reach_px: float) -> Array:
    """Signed distance (S, S) to a box, disc, ring or regular polygon of about ``reach_px``, some with a hole."""
    distance = solid(rng, u, v, reach_px)
    if rng.random() < 0.35:
        hole = solid(rng, u, v, reach_px * rng.uniform(0.2, 0.65))
        distance = np.maximum(distance, -hole)
    return distance


def solid(rng: Generator, u: Array, v: Array, reach_px: float) -> Array:
    kind = rng.choice(["box", "disc", "ring", "polygon"], p=[0.55, 0.2, 0.1, 0.15])
    if kind == "box":
        half_u, half_v = reach_px * rng.uniform(0.3, 1, 2)
        corner = rng.choice([0.0, 0.0, 0.3, 0.6, 1.0]) * min(half_u, half_v)
        beyond_u, beyond_v = np.abs(u) - half_u + corner, np.abs(v) - half_v + corner
        outside = np.hypot(np.maximum(beyond_u, 0), np.maximum(beyond_v, 0))
        rounded: Array = outside + np.minimum(np.maximum(beyond_u, beyond_v), 0) - corner
        return rounded
    if kind == "disc":
        return np.hypot(u, v) - reach_px
    if kind == "ring":
        width = reach_px * rng.uniform(0.1, 0.5)
        return np.abs(np.hypot(u, v) - reach_px + width / 2) - width / 2
    sides, start = rng.integers(3, 9), rng.uniform(0, np.pi)
    angles = start + 2 * np.pi * np.arange(sides) / sides
    flanks: Array = np.max([u * np.cos(angle) + v * np.sin(angle) for angle in angles], axis=0)
    return flanks - reach_px * 0.8


def tracks(rng: Generator, size: int) -> Outline:
    """One to eight strips side by side that bend by 45 degrees, as wires, grooves or seams do."""
    u, v = turned_axes(rng, size)
    heading, at_u, at_v = 0.0, -float(size) * 1.5, 0.0
    distance = np.full_like(u, np.inf)
    for length in (1.5 * size, *rng.uniform(10, 60, rng.integers(0, 4)), 2.0 * size):
        step_u, step_v = np.cos(heading), np.sin(heading)
        along = np.clip((u - at_u) * step_u + (v - at_v) * step_v, 0, length)
        distance = np.minimum(distance, np.hypot(u - at_u - along * step_u, v - at_v - along * step_v))
        at_u, at_v = at_u + length * step_u, at_v + length * step_v
        heading += rng.choice([-1, 1]) * np.pi / 4
    pitch, width = log_uniform(rng, 3, 16), rng.uniform(0.25, 0.7)
    strip = np.minimum(np.round(distance / pitch), rng.integers(0, 5))
    return Outline(distance=np.abs(distance - strip * pitch) - width * pitch / 2, variation=np.zeros_like(u))


def print_lines(rng: Generator, size: int) -> Outline:
    """A few lines of random letters and figures."""
    height = log_uniform(rng, 8, 30)
    canvas = Image.new("L", (size, size))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(height)
    left, top = rng.uniform(-0.3, 0.7, 2) * size
    for line in range(rng.integers(1, 5)):
        text = "".join(rng.choice(list(GLYPHS), rng.integers(2, 12)))
        pen.text((left, top + 1.3 * line * height), text, fill=255, font=font)
    covered = np.rot90(np.asarray(canvas, np.float32) / 255, rng.choice([0, 0, 0, 1, 2, 3]))
    return Outline(distance=0.5 - covered, variation=np.zeros_like(covered))


def draw_outline(rng: Generator, size: int) -> Outline:
    draw = (one_body, repeated_bodies, tracks, print_lines)[rng.choice(4, p=[0.38, 0.36, 0.18, 0.08])]
    return draw(rng, size)


def laid_on(rng: Generator, reflectance: Array, outline: Outline, inside: Array) -> Array:
    """The surface with the layer's inside on it: perhaps a cast shadow, shaded flanks and a bright or dark rim."""
    coverage = outline.coverage(rng.uniform(0.8, 1.6))
    if rng.random() < 0.3:
        cast = shift(coverage, rng.normal(0, 3, 2), order=0, mode="nearest")
        reflectance = reflectance * (1 - rng.uniform(0.1, 0.6) * gaussian_filter(cast, log_uniform(rng, 0.7, 4)))
    result = reflectance + coverage * (inside - reflectance)
    if rng.random() < 0.5:
        slope_y, slope_x = np.gradient(outline.distance)
        lamp, width_px = rng.uniform(0, 2 * np.pi), log_uniform(rng, 1, 8)
        flank = coverage * np.clip(1 + outline.distance / width_px, 0, 1)
        result = result + rng.uniform(0.05, 0.5) * flank * (slope_y * np.sin(lamp) + slope_x * np.cos(lamp))
    if rng.random() < 0.4:
        rim = np.exp(-((outline.distance / log_uniform(rng, 0.7, 2)) ** 2))
        result = result + rng.choice([-0.4, 0.6]) * rng.uniform(0.1, 1) * rim
    laid: Array = np.clip(result, 0, 1.3).astype(np.float32)
    return laid
