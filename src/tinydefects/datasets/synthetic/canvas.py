"""What the synthetic surfaces and defects are drawn with: smooth noise, a pose, and a few shapes with soft edges.

Everything is elementwise numpy, never a matrix product, so that the bytes do not depend on the BLAS or its threads.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.defects import Box

Generator = np.random.Generator
Field = NDArray[np.float32]
Size = tuple[int, int]
Point = tuple[float, float]  # (row, column)
Colour = tuple[float, ...]  # one or three gray levels
FINEST_SIDE_PX = 512
STRIP_PIXELS = 2**16
SPLINE_SD = math.sqrt(151.0 / 315.0)  # root of the mean sum of squared weights of a uniform cubic B-spline


def smooth_noise(rng: Generator, size: Size, cell: float | tuple[float, float]) -> Field:
    """Noise of mean 0 and variance 1, (H, W), that changes over `cell` pixels (one number, or rows and columns).

    A cell of one pixel or less is white noise along that axis.
    """
    cells = cell if isinstance(cell, tuple) else (cell, cell)
    knots = tuple(n if c <= 1 else math.ceil(n / c) + 4 for n, c in zip(size, cells, strict=True))
    noise = white_noise(rng, knots)
    if cells[1] > 1:
        noise = _spread(noise, size[1], cells[1], rng.random(), axis=1)
    if cells[0] > 1:
        noise = _spread(noise, size[0], cells[0], rng.random(), axis=0)
    return noise


def white_noise(rng: Generator, shape: tuple[int, ...]) -> Field:
    """Independent noise of mean 0 and variance 1 per pixel: the sum of four random bytes, so never beyond 3.5.

    Four times as quick as a true Gaussian, and the same integers on every platform.
    """
    noise = np.empty(shape, dtype=np.float32)
    for strip in _strips(shape):
        words = rng.integers(0, 2**32, noise[strip].shape, dtype=np.uint32)
        pairs = (words & np.uint32(0x00FF00FF)) + ((words >> np.uint32(8)) & np.uint32(0x00FF00FF))
        noise[strip] = (pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))
        noise[strip] -= np.float32(510)
        noise[strip] *= np.float32(1 / math.sqrt((256**2 - 1) / 3))
    return noise


def _strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """A few rows at a time, so that what is computed from them stays in the processor's cache."""
    rows = max(1, STRIP_PIXELS // max(1, math.prod(shape[1:])))
    return (slice(top, top + rows) for top in range(0, shape[0], rows))


def octaves(rng: Generator, size: Size, largest: float, smallest: float, roughness: float = 0.5) -> Field:
    """Noise of every scale from `largest` down to `smallest` pixels, (H, W), variance 1.

    Each halving of the scale has `roughness` times the amplitude; scales below two pixels are white.
    """
    total = np.zeros(size, dtype=np.float32)
    amplitude, power, cell = 1.0, 0.0, largest
    while cell >= smallest or power == 0.0:
        total += np.float32(amplitude) * smooth_noise(rng, size, cell if cell >= 2 else 1.0)
        power += amplitude**2
        amplitude *= roughness
        cell /= 2.0
    return total / np.float32(math.sqrt(power))


def _spread(knots: Field, length: int, cell: float, offset: float, axis: int) -> Field:
    """Uniform cubic B-spline through the knots along one axis, at `length` positions `cell` pixels to a knot."""
    position = np.arange(length) / cell + offset
    first = position.astype(np.intp)
    t = (position - first).astype(np.float32)
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    scaled = [weight / np.float32(6 * SPLINE_SD) for weight in weights]
    total = np.zeros((length, knots.shape[1]) if axis == 0 else (knots.shape[0], length), dtype=np.float32)
    for strip in _strips(total.shape):
        for step, weight in enumerate(scaled):
            if axis == 0:
                total[strip] += knots[first[strip] + step] * weight[strip, None]
            else:
                total[strip] += np.take(knots[strip], first + step, axis=1) * weight
    return total


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Painting:
    """A surface under even light: (H, W, C) gray levels; where the part lies (None: everywhere); the colour beneath."""

    surface: Field
    beneath: Colour
    part: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """How a part lies under the camera. Part coordinates are in shorter image sides, (0, 0) at the image's centre."""

    size: Size
    angle: float
    scale: float
    shift: Point

    @property
    def side_px(self) -> float:
        """Pixels of one unit of part coordinates."""
        return min(self.size) * self.scale

    @property
    def detail_px(self) -> float:
        """Pixels of 1/512 of the part, the length in which textures are described; never below one pixel."""
        return max(1.0, self.side_px / FINEST_SIDE_PX)

    @property
    def reach(self) -> Point:
        """Half the image's height and width in part coordinates, before the pose."""
        return self.size[0] / min(self.size) / 2, self.size[1] / min(self.size) / 2

    def coordinates(self) -> tuple[Field, Field]:
        """Part coordinates (v down, u right) of every pixel, each (H, W)."""
        rows = (np.arange(self.size[0]) - self.size[0] / 2) / self.side_px - self.shift[0]
        columns = (np.arange(self.size[1]) - self.size[1] / 2) / self.side_px - self.shift[1]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        row, column = rows.astype(np.float32)[:, None], columns.astype(np.float32)[None, :]
        return row * np.float32(cos) - column * np.float32(sin), row * np.float32(sin) + column * np.float32(cos)

    def pixel(self, v: float, u: float) -> Point:
        """The pixel (row, column) at which part coordinates (v, u) are seen."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        row, column = v * cos + u * sin + self.shift[0], u * cos - v * sin + self.shift[1]
        return row * self.side_px + self.size[0] / 2, column * self.side_px + self.size[1] / 2


def box_around(points: list[Point], reach: float, size: Size) -> Box:
    """The box that holds every point with `reach` pixels about it, cut to the image; may be empty."""
    top, left = (min(point[axis] for point in points) - reach for axis in (0, 1))
    bottom, right = (max(point[axis] for point in points) + reach for axis in (0, 1))
    rows = slice(max(0, math.floor(top)), max(0, min(size[0], math.ceil(bottom) + 1)))
    return rows, slice(max(0, math.floor(left)), max(0, min(size[1], math.ceil(right) + 1)))


def offsets(box: Box, centre: Point) -> tuple[Field, Field]:
    """Rows (h, 1) and columns (1, w) of a box, counted from `centre`."""
    rows = np.arange(box[0].start, box[0].stop, dtype=np.float32) - np.float32(centre[0])
    columns = np.arange(box[1].start, box[1].stop, dtype=np.float32) - np.float32(centre[1])
    return rows[:, None], columns[None, :]


def segment_distance(box: Box, start: Point, end: Point) -> Field:
    """Distance in pixels of every pixel of a box from the segment `start`–`end`, (h, w)."""
    row, column = offsets(box, start)
    along_row, along_column = np.float32(end[0] - start[0]), np.float32(end[1] - start[1])
    squared = max(float(along_row**2 + along_column**2), 1e-9)
    t = np.clip((row * along_row + column * along_column) / np.float32(squared), 0, 1)
    past_row, past_column = row - t * along_row, column - t * along_column
    return np.asarray(np.sqrt(past_row * past_row + past_column * past_column))


def draw_disc(canvas: Field, centre: Point, radius: float, colour: Colour) -> None:
    """A disc with a one-pixel soft edge on an (H, W, C) canvas."""
    box = box_around([centre], radius + 1, (canvas.shape[0], canvas.shape[1]))
    row, column = offsets(box, centre)
    cover(canvas, box, np.float32(radius + 0.5) - np.sqrt(row * row + column * column), colour)


def draw_lines(
    canvas: Field, start: Point, end: Point, half_width: float, colour: Colour, *, copies: int, step: Point
) -> None:
    """Parallel lines with round ends and soft edges: `start`-`end`, and each further copy moved on by `step` pixels."""
    last = (step[0] * (copies - 1), step[1] * (copies - 1))
    corners = [start, end, (start[0] + last[0], start[1] + last[1]), (end[0] + last[0], end[1] + last[1])]
    box = box_around(corners, half_width + 1, (canvas.shape[0], canvas.shape[1]))
    row, column = offsets(box, start)
    length = math.hypot(end[0] - start[0], end[1] - start[1])
    ahead = ((end[0] - start[0]) / length, (end[1] - start[1]) / length)
    spacing = step[1] * ahead[0] - step[0] * ahead[1]
    sideways = column * np.float32(ahead[0]) - row * np.float32(ahead[1])
    along = row * np.float32(ahead[0]) + column * np.float32(ahead[1])
    number = np.clip(np.rint(sideways * np.float32(1 / spacing)), 0, copies - 1)
    sideways -= number * np.float32(spacing)
    along -= number * np.float32(step[0] * ahead[0] + step[1] * ahead[1])
    beyond = along - np.clip(along, 0, np.float32(length))
    cover(canvas, box, np.float32(half_width + 0.5) - np.sqrt(sideways * sideways + beyond * beyond), colour)


def draw_rectangle(canvas: Field, pose: Pose, centre: Point, half: Point, colour: Colour) -> None:
    """An upright rectangle in part coordinates (`half` its half height and width), seen through the pose."""
    middle = pose.pixel(*centre)
    reach = math.hypot(*half) * pose.side_px + 1
    box = box_around([middle], reach, pose.size)
    row, column = offsets(box, middle)
    cos, sin = np.float32(math.cos(pose.angle)), np.float32(math.sin(pose.angle))
    outside_v = np.abs(row * cos - column * sin) - np.float32(half[0] * pose.side_px)
    outside_u = np.abs(row * sin + column * cos) - np.float32(half[1] * pose.side_px)
    cover(canvas, box, np.float32(0.5) - np.maximum(outside_v, outside_u), colour)


def cover(canvas: Field, box: Box, inside: Field, colour: Colour) -> None:
    """Blend a colour into a box of an (H, W, C) canvas; `inside` (h, w) is clipped to [0, 1] and is the opacity."""
    opacity = np.clip(inside, 0, 1)[..., None]
    canvas[box] += opacity * (np.asarray(colour, dtype=np.float32) - canvas[box])


def rounded_rectangle(v: Field, u: Field, half: Point, radius: float) -> Field:
    """Signed distance from a rounded rectangle about the origin, negative inside, in the unit of `v` and `u`."""
    over_v, over_u = np.abs(v) - np.float32(half[0] - radius), np.abs(u) - np.float32(half[1] - radius)
    past_v, past_u = np.maximum(over_v, 0), np.maximum(over_u, 0)
    outside: Field = np.sqrt(past_v * past_v + past_u * past_u)
    return outside + np.minimum(np.maximum(over_v, over_u), 0) - np.float32(radius)


def mixed(amount: Field, low: Colour, high: Colour) -> Field:
    """(H, W) amounts in [0, 1] to (H, W, C) colours between `low` and `high`."""
    mixture = np.empty((*amount.shape, len(low)), dtype=np.float32)
    for channel, (start, end) in enumerate(zip(low, high, strict=True)):
        mixture[..., channel] = np.float32(start) + amount * np.float32(end - start)
    return mixture


def relief(height: Field) -> Field:
    """Slope of an (H, W) height towards the light at the upper left, per pixel."""
    slope = np.zeros_like(height)
    slope[:-1] += height[1:] - height[:-1]
    slope[:, :-1] += height[:, 1:] - height[:, :-1]
    return slope
