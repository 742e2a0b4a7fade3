"""The drawn world: crops of invented surfaces with planted odd marks, and the truth about both.

Marks are part of the surface; lighting, borders, blur and sensor come after them and are never odd.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d

import marks
from marks import log_uniform
from materials import CANVAS_PX, Array, draw_material, load_photos, photo_material

CELL_PX = 2  # coverage is told per 2x2 px, 16 cells in a patch of 8 px
KINDS = ("none", "scratch", "pit", "stain", "area")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One drawn square: image (S, S, 3) uint8, coverage and kind of odd marks, surface and material ids at S/2."""

    image: NDArray[np.uint8]
    coverage: Array  # (S/2, S/2) in [0, 1]
    kind: NDArray[np.int64]  # (S/8, S/8), index into KINDS
    surface: NDArray[np.int64]  # (S/8, S/8), -1 where a patch shows more than one surface
    material: NDArray[np.int64]  # (S/8, S/8)


class World:
    """A slowly renewed pool of materials, and the drawing of crops from it."""

    def __init__(self, seed: int, size: int = 128, pool_size: int = 96) -> None:
        self.rng = np.random.default_rng(seed)
        self.size = size
        self.photos = load_photos()
        self.next_material = 0
        self.pool: list[tuple[int, Array]] = []
        for _ in range(pool_size):
            self._add_material()

    def _add_material(self) -> None:
        canvas = photo_material(self.rng, self.photos) if self.rng.random() < 0.2 else draw_material(self.rng)
        self.pool.append((self.next_material, canvas))
        self.next_material += 1

    def renew(self, count: int) -> None:
        """Replace ``count`` random materials by new ones."""
        for _ in range(count):
            self.pool.pop(self.rng.integers(len(self.pool)))
            self._add_material()

    def texture(self) -> tuple[int, Array]:
        """A material's number and a random window (S, S) of its canvas, mirrored or turned by right angles."""
        number, canvas = self.pool[self.rng.integers(len(self.pool))]
        top, left = self.rng.integers(0, CANVAS_PX - self.size + 1, 2)
        window = canvas[top : top + self.size, left : left + self.size]
        return number, np.rot90(window[:, :: self.rng.choice([-1, 1])], int(self.rng.integers(4)))

    def crop(self) -> Crop:
        rng, size = self.rng, self.size
        surface, material, reflectance, contrast = self._surfaces()
        odd, kind = np.zeros((size, size), np.float32), np.zeros((size, size), np.int64)
        if rng.random() < 0.2:
            reflectance = repeated_pattern(rng, reflectance, contrast)
        if rng.random() < 0.65:
            for _ in range(rng.integers(1, 6)):
                reflectance, shape, number = self._plant(reflectance, contrast)
                odd = np.maximum(odd, shape)
                kind[shape > 0.3] = number
        bright, hidden = lit(rng, reflectance)
        image, odd = photographed(rng, bright), odd * (1 - hidden)
        kind[hidden > 0.7] = 0
        return Crop(
            image=image,
            coverage=odd.reshape(size // CELL_PX, CELL_PX, size // CELL_PX, CELL_PX).mean((1, 3)),
            kind=by_patch(kind).max(-1),
            surface=pure(by_patch(surface)),
            material=by_patch(material)[..., 0],
        )

    def _surfaces(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Array, float]:
        """Surface and material ids, reflectance and its contrast, all (S, S): one surface or a few side by side."""
        rng, size = self.rng, self.size
        surface, material = np.zeros((size, size), np.int64), np.zeros((size, size), np.int64)
        contrast = log_uniform(rng, 0.008, 0.2)
        number, texture = self.texture()
        reflectance, material[:] = rng.uniform(0.15, 0.9) + contrast * texture, number
        for layer in range(1, 1 + (rng.integers(1, 4) if rng.random() < 0.35 else 0)):
            region = self._region() > 0.5
            if region.mean() < 0.1:
                continue
            number, texture = self.texture()
            own = log_uniform(rng, 0.008, 0.2)
            contrast = max(contrast, own)
            reflectance = np.where(region, rng.uniform(0.1, 0.95) + own * texture, reflectance)
            surface[region], material[region] = layer, number
        return surface, material, reflectance.astype(np.float32), contrast

    def _region(self) -> Array:
        if self.rng.random() < 0.6:
            share, wobble_px = self.rng.uniform(0.15, 0.7), max(0.0, self.rng.normal(0, 3))
            return marks.beyond_line(self.rng, self.size, share, softness_px=1, wobble_px=wobble_px)
        return marks.blob(self.rng, self.size, self.rng.uniform(0.3, 0.6) * self.size, 0.0)

    def _plant(self, reflectance: Array, contrast: float) -> tuple[Array, Array, int]:
        """The reflectance with one odd mark, the mark's coverage (S, S) and its kind."""
        rng = self.rng
        number = int(rng.choice([1, 2, 3, 4], p=[0.36, 0.37, 0.06, 0.21]))
        shape = (marks.scratch, marks.pit, marks.stain, marks.area)[number - 1](rng, self.size)
        local = visible_contrast(reflectance, shape, contrast)
        if number == 4 or (number > 1 and rng.random() < 0.15):
            filling = self._filling(reflectance, shape, local)
        else:
            sign = rng.choice([-1.0, 1.0], p=[0.7, 0.3])
            depth = sign * log_uniform(rng, max(1.5 * local, 0.025), max(4 * local, 0.5))
            filling = inside(rng, reflectance, shape, depth)
        return reflectance + shape * (filling - reflectance), shape, number

    def _filling(self, reflectance: Array, shape: Array, local: float) -> Array:
        """What a damaged area shows instead: another texture, or its own displaced, blurred or roughened."""
        rng = self.rng
        tone = float((reflectance * shape).sum() / (shape.sum() + 1e-6))
        choice = rng.integers(5)
        filling: Array
        if choice == 0:
            filling = gaussian_filter(reflectance, log_uniform(rng, 1.5, 6)) + rng.normal(0, local)
        elif choice == 1:
            filling = marks.warped(reflectance, rng, log_uniform(rng, 3, 8)) + rng.normal(0, 1.5 * local)
        elif choice == 2:
            rough = marks.ragged(rng, self.size, log_uniform(rng, 0.7, 4))
            filling = reflectance + max(2 * local, 0.04) * log_uniform(rng, 0.6, 2) * rough + rng.normal(0, 0.1)
        else:
            jump = rng.choice([0.0, 1.0]) * rng.choice([-1, 1], p=[0.65, 0.35]) * log_uniform(rng, 0.06, 0.5)
            filling = tone + jump + max(2 * local, 0.03) * log_uniform(rng, 0.6, 2.5) * self.texture()[1]
        return filling


def visible_contrast(reflectance: Array, shape: Array, contrast: float) -> float:
    """How much the surface varies around a mark, so that the mark can be made just visible."""
    rows, columns = np.nonzero(shape > 0.3)
    if len(rows) == 0:
        return contrast
    near = reflectance[max(0, rows.min() - 8) : rows.max() + 9, max(0, columns.min() - 8) : columns.max() + 9]
    return float(min(near.std(), contrast))


def inside(rng: Generator, reflectance: Array, shape: Array, depth: float) -> Array:
    """The look of a mark's inside: shifted or flat in tone, sometimes lit on one flank or with a rim."""
    level = reflectance + depth
    if rng.random() < 0.4:
        level = 0.2 * reflectance + 0.8 * (float(np.median(reflectance)) + depth)
    if rng.random() < 0.3:
        slope = gaussian_filter1d(shape, 1.0, axis=int(rng.integers(2)), order=1)
        level = level + rng.uniform(-3, 3) * depth * slope
    if rng.random() < 0.2:
        level = level - 2 * depth * np.clip(gaussian_filter(shape, 1.5), 0, 1) * (shape < 0.7)
    clipped: Array = np.clip(level, 0, 1.2)
    return clipped


def repeated_pattern(rng: Generator, reflectance: Array, contrast: float) -> Array:
    """The surface with one mark repeated everywhere, or with lines from edge to edge: regular, hence normal."""
    size, depth = len(reflectance), rng.choice([-1, 1]) * log_uniform(rng, max(contrast, 0.03), 0.5)
    if rng.random() < 0.6:
        shape = marks.blob(rng, size, log_uniform(rng, 1.0, 5), 0.3) if rng.random() < 0.7 else marks.scratch(rng, size)
        reflectance = reflectance + depth * marks.many_copies(rng, size, shape)
        return reflectance
    for _ in range(rng.integers(1, 5)):
        line = marks.straight_line(rng, size, log_uniform(rng, 1, 6))
        reflectance = reflectance + depth * line
    return reflectance


def lit(rng: Generator, reflectance: Array) -> tuple[Array, Array]:
    """The surface under a lamp: gradient, uneven streaks, vignette, borders; and where borders hide it, in [0, 1]."""
    size = len(reflectance)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    light = 1 + rng.normal(0, 0.25) * y + rng.normal(0, 0.25) * x
    if rng.random() < 0.3:
        light = light - rng.uniform(0, 1.2) * ((y - rng.normal(0, 0.3)) ** 2 + (x - rng.normal(0, 0.3)) ** 2)
    if rng.random() < 0.45:
        profile = gaussian_filter1d(rng.standard_normal(size), log_uniform(rng, 0.6, 25))
        streaks = log_uniform(rng, 0.01, 0.15) * profile / (profile.std() + 1e-6)
        light = light + (streaks[None] if rng.random() < 0.7 else streaks[:, None])
    for _ in range(rng.integers(1, 5) if rng.random() < 0.35 else 0):
        light = light + rng.choice([-1, 1], p=[0.7, 0.3]) * log_uniform(rng, 0.03, 0.35) * marks.shadow(rng, size)
    image, hidden = reflectance * np.maximum(light, 0.05), np.zeros_like(reflectance)
    for _ in range(rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2])):
        image, border = bordered(rng, image)
        hidden = np.maximum(hidden, border)
    return image, hidden


def bordered(rng: Generator, image: Array) -> tuple[Array, Array]:
    """The image with one side in the dark or blown out, as where a part ends, and that side's coverage.

    The part's outline is straight, bowed or wavy, perhaps with a bright rim; none of it is odd.
    """
    size, wobble_px = len(image), max(0.0, rng.normal(0, 3))
    border = marks.beyond_line(rng, size, log_uniform(rng, 0.004, 0.3), log_uniform(rng, 0.7, 16), wobble_px)
    if rng.random() < 0.4:
        rim = gaussian_filter(border, log_uniform(rng, 0.7, 3)) * (1 - border)
        image = image + rng.uniform(-0.3, 0.6) * rim
    choice = rng.random()
    if choice < 0.35:
        outside = image * rng.uniform(0.02, 0.5)
    elif choice < 0.75:
        outside = np.full_like(image, rng.uniform(0, 0.12)) + 0.01 * rng.standard_normal(image.shape).astype(np.float32)
    else:
        outside = np.maximum(image, rng.uniform(0.7, 1.1))
    return image + border * (outside - image), border


def photographed(rng: Generator, gray: Array) -> NDArray[np.uint8]:
    """(S, S) to (S, S, 3) uint8: blur, exposure, tint, sensor noise and JPEG."""
    if rng.random() < 0.5:
        gray = gaussian_filter(gray, log_uniform(rng, 0.3, 1.2))
    if rng.random() < 0.5:
        gray = np.clip(gray, 0, 1.3) ** log_uniform(rng, 0.6, 1.7)
    noise = rng.choice([0.0, log_uniform(rng, 0.003, 0.03)])
    if noise:
        gray = gray + noise * rng.standard_normal(gray.shape).astype(np.float32)
    color = gray[..., None] * np.ones(3, np.float32)
    if rng.random() < 0.4:
        color = color * rng.uniform(0.5, 1.1, 3).astype(np.float32) + rng.uniform(-0.05, 0.1, 3).astype(np.float32)
    image = (np.clip(color, 0, 1) * 255).astype(np.uint8)
    return compressed(rng, image) if rng.random() < 0.5 else image


def compressed(rng: Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=int(rng.integers(40, 96)))
    return np.asarray(Image.open(buffer))


def by_patch(pixels: NDArray[np.int64], patch: int = 8) -> NDArray[np.int64]:
    """(S, S) to (S/8, S/8, 64): the pixels of each patch."""
    side = len(pixels) // patch
    return pixels.reshape(side, patch, side, patch).swapaxes(1, 2).reshape(side, side, -1)


def pure(surface: NDArray[np.int64]) -> NDArray[np.int64]:
    """The surface of each patch, -1 where it shows more than one."""
    return np.where((surface == surface[..., :1]).all(-1), surface[..., 0], -1)
