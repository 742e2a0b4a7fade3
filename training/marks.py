"""Shapes of odd marks: coverage maps in [0, 1] of scratches, pits, stains and damaged areas on a square crop."""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates

from materials import Array

OVERSAMPLING = 4


def log_uniform(rng: Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def line_coverage(size: int, points: list[tuple[float, float]], widths: list[float]) -> Array:
    """Anti-aliased polyline through (x, y) points in pixels, one width in pixels per stretch."""
    canvas = Image.new("L", (size * OVERSAMPLING, size * OVERSAMPLING))
    pen = ImageDraw.Draw(canvas)
    for (x0, y0), (x1, y1), width in zip(points[:-1], points[1:], widths, strict=False):
        line = tuple(OVERSAMPLING * value for value in (x0, y0, x1, y1))
        pen.line(line, fill=255, width=max(2, round(width * OVERSAMPLING)))
    return np.asarray(canvas.reduce(OVERSAMPLING), np.float32) / 255


def walk(rng: Generator, size: int, length_px: float, bend: float) -> list[tuple[float, float]]:
    """A wandering path: ``bend`` is the turn per 4 px step in radians, small for scratches and large for cracks."""
    x, y, heading = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(0, 2 * np.pi)
    drift, points = rng.normal(0, bend / 4), [(x, y)]
    for _ in range(max(2, int(length_px / 4))):
        heading += drift + rng.normal(0, bend)
        x, y = x + 4 * np.cos(heading), y + 4 * np.sin(heading)
        points.append((x, y))
    return points


def scratch(rng: Generator, size: int) -> Array:
    """A scratch or crack 0.7 to 4 px wide, sometimes branching; its width changes along the way."""
    points = walk(rng, size, log_uniform(rng, 12, 130), rng.choice([0.03, 0.15, 0.5, 0.8]))
    width = log_uniform(rng, 0.7, 4)
    widths = list(width * np.exp(rng.normal(0, rng.choice([0.0, 0.35]), len(points))))
    coverage = line_coverage(size, points, widths)
    if rng.random() < 0.25:
        branch = walk(rng, size, log_uniform(rng, 10, 50), 0.5)
        start_x, start_y = points[rng.integers(len(points))]
        shifted = [(x - branch[0][0] + start_x, y - branch[0][1] + start_y) for x, y in branch]
        coverage = np.maximum(coverage, line_coverage(size, shifted, [width * 0.7] * len(branch)))
    return coverage


def blob(rng: Generator, size: int, radius_px: float, softness: float) -> Array:
    """A roundish outline with random lobes and elongation; its edge is ``softness`` radii wide, at least one pixel."""
    centre_y, centre_x = rng.uniform(0, size, 2)
    reach = int(radius_px * 3 + 4)
    rows = np.arange(max(0, int(centre_y) - reach), min(size, int(centre_y) + reach + 1))
    columns = np.arange(max(0, int(centre_x) - reach), min(size, int(centre_x) + reach + 1))
    dy, dx = np.meshgrid(rows - centre_y, columns - centre_x, indexing="ij")
    turn, stretch = rng.uniform(0, np.pi), log_uniform(rng, 1, 2.5)
    along = (dy * np.sin(turn) + dx * np.cos(turn)) / np.sqrt(stretch)
    across = (dx * np.sin(turn) - dy * np.cos(turn)) * np.sqrt(stretch)
    angle, outline = np.arctan2(across, along), np.ones_like(along)
    for lobes, strength in zip((2, 3, 5, 7), rng.normal(0, rng.choice([0.03, 0.12, 0.22]), 4), strict=True):
        outline += strength / np.sqrt(lobes) * 1.5 * np.cos(lobes * angle + rng.uniform(0, 6.3))
    inside = (radius_px * np.maximum(outline, 0.25) - np.hypot(along, across)) / max(1.0, softness * radius_px) + 0.5
    coverage = np.zeros((size, size), np.float32)
    coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = np.clip(inside, 0, 1)
    return coverage


def pit(rng: Generator, size: int) -> Array:
    return blob(rng, size, log_uniform(rng, 1.0, 12), rng.choice([0.1, 0.4, 0.9]))


def stain(rng: Generator, size: int) -> Array:
    """A drop or a smudge, with an outline or with a soft edge that is narrower than itself."""
    return blob(rng, size, log_uniform(rng, 5, 34), rng.choice([0.1, 0.3, 0.6, 0.9]))


def shadow(rng: Generator, size: int) -> Array:
    """A blob without an outline: a cast shadow, a reflection or a breath of dirt, which no one would call a defect."""
    return blob(rng, size, log_uniform(rng, 8, 50), rng.uniform(1.9, 3))


def area(rng: Generator, size: int) -> Array:
    """A large piece with a broken outline, or a blob whose outline is torn by noise."""
    if rng.random() < 0.3:
        return fragment(rng, size, log_uniform(rng, 4, 34))
    shape = blob(rng, size, log_uniform(rng, 5, 30), 1.0)
    rough = rng.uniform(0, 0.45) * ragged(rng, size, log_uniform(rng, 1.0, 5))
    steepness = rng.choice([3.0, 8.0, 20.0])
    coverage: Array = np.clip((shape + rough * (shape > 0) - 0.5) * steepness + 0.5, 0, 1).astype(np.float32)
    return coverage


def fragment(rng: Generator, size: int, radius_px: float) -> Array:
    """An irregular polygon: a chip, a flake or a missing piece."""
    corners = rng.integers(4, 10)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = radius_px * rng.uniform(0.6, 1.2, corners)
    (x, y), stretch = rng.uniform(0, size, 2), log_uniform(rng, 0.5, 2)
    points = zip(x + radii * np.cos(angles) * stretch, y + radii * np.sin(angles) / stretch, strict=True)
    canvas = Image.new("L", (size * OVERSAMPLING, size * OVERSAMPLING))
    ImageDraw.Draw(canvas).polygon([(OVERSAMPLING * px, OVERSAMPLING * py) for px, py in points], fill=255)
    return np.asarray(canvas.reduce(OVERSAMPLING), np.float32) / 255


def ragged(rng: Generator, size: int, smoothness_px: float) -> Array:
    noise: Array = gaussian_filter(rng.standard_normal((size, size)).astype(np.float32), smoothness_px)
    noise /= noise.std() + 1e-6
    return noise


def beyond_line(rng: Generator, size: int, share: float, softness_px: float, wobble_px: float = 0.0) -> Array:
    """1 on the far side of a line that cuts off about ``share`` of the square, wavy by ``wobble_px``."""
    angle = rng.integers(4) * np.pi / 2 + (rng.normal(0, 0.03) if rng.random() < 0.6 else rng.uniform(-0.8, 0.8))
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    reach = 0.5 * (abs(np.cos(angle)) + abs(np.sin(angle)))
    distance = (x * np.cos(angle) + y * np.sin(angle) - reach * (1 - 2 * share)) * size
    if wobble_px > 0:
        place = np.clip(((y * np.cos(angle) - x * np.sin(angle)) / 1.5 + 0.5) * size, 0, size - 1).astype(int)
        wave = gaussian_filter1d(rng.standard_normal(size), log_uniform(rng, 4, 40))
        bow = rng.normal(0, 1) * (np.arange(size) / size - rng.uniform(0, 1)) ** 2 * 4
        distance = distance + wobble_px * (wave / (wave.std() + 1e-6) + bow)[place]
    coverage: Array = np.clip(distance / softness_px + 0.5, 0, 1).astype(np.float32)
    return coverage


def straight_line(rng: Generator, size: int, width_px: float) -> Array:
    """A line from edge to edge, mostly along the image axes: a joint, a groove or a machined edge."""
    angle = rng.integers(2) * np.pi / 2 + (rng.normal(0, 0.03) if rng.random() < 0.6 else rng.uniform(-0.8, 0.8))
    y, x = np.mgrid[:size, :size].astype(np.float32) - size / 2
    distance = np.abs(x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.5, 0.5) * size)
    coverage: Array = np.clip(width_px / 2 - distance + 0.5, 0, 1).astype(np.float32)
    return coverage


def many_copies(rng: Generator, size: int, shape: Array) -> Array:
    """The same small mark all over the crop, on a jittered lattice or at random: a pattern, hence not odd."""
    step = rng.uniform(12, 30)
    y, x = np.mgrid[step / 2 : size : step, step / 2 : size : step].reshape(2, -1)
    if rng.random() < 0.4:
        y, x = rng.uniform(0, size, (2, len(y) * 2))
    jitter = rng.choice([0.0, 2.0, 5.0])
    rows, columns = ((axis + rng.normal(0, jitter, len(axis))).astype(int) for axis in (y, x))
    covered = np.argwhere(shape > 0.3)
    centre_y, centre_x = covered.mean(0).round().astype(int) if len(covered) else (0, 0)
    reach = 16
    patch = np.pad(shape, reach)[centre_y : centre_y + 2 * reach, centre_x : centre_x + 2 * reach]
    canvas = np.zeros((size + 4 * reach, size + 4 * reach), np.float32)
    for row, column in zip(np.clip(rows, 0, size), np.clip(columns, 0, size), strict=True):
        window = canvas[row + reach : row + 3 * reach, column + reach : column + 3 * reach]
        np.maximum(window, patch * rng.uniform(0.8, 1), out=window)
    return canvas[2 * reach : 2 * reach + size, 2 * reach : 2 * reach + size]


def warped(texture: Array, rng: Generator, strength_px: float) -> Array:
    """The texture pushed around by a smooth random field, as where a surface was dented."""
    size = texture.shape[0]
    y, x = np.mgrid[:size, :size].astype(np.float32)
    shift = [strength_px * ragged(rng, size, 6) for _ in range(2)]
    moved: Array = map_coordinates(texture, [y + shift[0], x + shift[1]], order=1, mode="reflect")
    return moved
