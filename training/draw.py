"""The drawn world: products, each photographed a few times, with planted odd marks and the truth about them.

All crops of a product show one design: materials, objects, print, lamp and camera. Other pieces of the materials, a
shift, noise and exposure tell the photographs apart, as with parts on a line, and so do the odd marks. Marks are part
of the surface; lighting, borders, blur and sensor come after them and are never odd.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

import marks
import parts
from camera import lit, photographed
from marks import log_uniform
from materials import CANVAS_PX, Array, draw_material, load_swatches, swatch_material

CELL_PX = 2  # coverage is told per 2x2 px, 16 cells in a patch of 8 px
SHIFT_PX = 24  # by which the photographs of a product are shifted at most
KINDS = ("none", "scratch", "pit", "stain", "area")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One drawn square: image (S, S, 3) uint8, coverage and kind of odd marks."""

    image: NDArray[np.uint8]
    coverage: NDArray[np.uint8]  # (S/2, S/2), 255 where a cell is all odd
    kind: NDArray[np.uint8]  # (S/8, S/8), index into KINDS


@dataclass(slots=True, kw_only=True)
class Scene:
    """A square of surfaces while it is drawn: gray reflectance (S, S), tint (S, S, 3), texture contrast."""

    reflectance: Array
    tint: Array
    contrast: float


class World:
    """A slowly renewed pool of materials, and the drawing of products from it."""

    def __init__(self, seed: int, size: int = 128, pool_size: int = 96) -> None:
        self.rng = np.random.default_rng(seed)  # begun anew for every crop of a product: what they share
        self.chance = np.random.default_rng([seed, 1])  # what tells them apart
        self.crop_px, self.size = size, size + SHIFT_PX
        self.swatches = load_swatches()
        self.colourful = False  # chosen anew for every product
        self.pool: list[Array] = []
        for _ in range(pool_size):
            self._add_material()

    def _add_material(self) -> None:
        if self.chance.random() < 0.4:
            self.pool.append(swatch_material(self.chance, self.swatches))
        else:
            self.pool.append(draw_material(self.chance))

    def renew(self, count: int) -> None:
        """Replace ``count`` random materials by new ones."""
        for _ in range(count):
            self.pool.pop(self.chance.integers(len(self.pool)))
            self._add_material()

    def product(self, views: int) -> list[Crop]:
        """That many photographs of one product; about two in three carry odd marks."""
        design = self.chance.integers(1 << 62)
        crops = []
        for _ in range(views):
            self.rng = np.random.default_rng(design)
            crops.append(self._crop())
        return crops

    def texture(self) -> Array:
        """A material of the product, one of its windows (S, S), mirrored or turned by right angles."""
        canvas = self.pool[self.rng.integers(len(self.pool))]
        top, left = self.chance.integers(0, CANVAS_PX - self.size + 1, 2)
        window = canvas[top : top + self.size, left : left + self.size]
        return np.rot90(window[:, :: self.rng.choice([-1, 1])], int(self.rng.integers(4)))

    def _crop(self) -> Crop:
        scene = self._surfaces()
        if self.rng.random() < 0.2:
            scene.reflectance = repeated_pattern(self.rng, scene.reflectance, scene.contrast)
        for _ in range(self.rng.integers(1, 6) if self.rng.random() < 0.45 else 0):
            self._furnish(scene)
        odd, kind = self._plant_all(scene)
        bright, hidden = lit(self.rng, scene.reflectance)
        image = photographed(self.rng, bright, scene.tint, self.chance)
        odd, kind = odd * (1 - hidden), np.where(hidden > 0.7, 0, kind)
        top, left = self.chance.integers(0, SHIFT_PX + 1, 2)
        window = (slice(top, top + self.crop_px), slice(left, left + self.crop_px))
        side = self.crop_px // CELL_PX
        cells = odd[window].reshape(side, CELL_PX, side, CELL_PX).mean((1, 3))
        return Crop(
            image=image[window],
            coverage=np.round(255 * cells).astype(np.uint8),
            kind=by_patch(kind[window]).max(-1).astype(np.uint8),
        )

    def _plant_all(self, scene: Scene) -> tuple[Array, NDArray[np.int64]]:
        """Put odd marks on the scene; their coverage and kind (S, S).

        Marks are drawn by chance alone: the design goes on as if there were none.
        """
        odd, kind = np.zeros((self.size, self.size), np.float32), np.zeros((self.size, self.size), np.int64)
        design, self.rng = self.rng, self.chance
        for _ in range(self.rng.integers(1, 7) if self.rng.random() < 0.65 else 0):
            shape, number = self._plant(scene)
            odd = np.maximum(odd, shape)
            kind[shape > 0.3] = number
        self.rng = design
        return odd, kind

    def _surfaces(self) -> Scene:
        """One surface or a few side by side, gray or with a tint each."""
        rng, shape = self.rng, (self.size, self.size)
        contrast = log_uniform(rng, 0.008, 0.2)
        texture = self.texture()
        self.colourful = rng.random() < 0.5
        scene = Scene(
            reflectance=(rng.uniform(0.15, 0.9) + contrast * texture).astype(np.float32),
            tint=np.ones((*shape, 3), np.float32) * self._tints(texture),
            contrast=contrast,
        )
        for _ in range(rng.integers(1, 4) if rng.random() < 0.35 else 0):
            region = self._region() > 0.5
            if region.mean() >= 0.1:
                scene.reflectance = np.where(region, self._cover(scene, region), scene.reflectance)
        return scene

    def _tint(self) -> Array:
        """The colour (3,) of a surface, with a mean of 1."""
        tint = self.rng.uniform(0.3, 1, 3).astype(np.float32) ** self.rng.uniform(0.2, 1.5)
        mean_one: Array = tint / tint.mean() if self.colourful else np.ones(3, np.float32)
        return mean_one

    def _tints(self, texture: Array) -> Array:
        """One colour (3,), or two colours (S, S, 3) that go with the texture, as in grains of several minerals."""
        if not self.colourful or self.rng.random() < 0.6:
            return self._tint()
        share = 0.5 + 0.5 * np.sin(self.rng.uniform(0.3, 2.5) * texture + self.rng.uniform(0, 6.3))
        first = self._tint()
        tints: Array = first + share[..., None].astype(np.float32) * self.rng.uniform(0.3, 1) * (self._tint() - first)
        return tints

    def _region(self) -> Array:
        choice, share = self.rng.random(), self.rng.uniform(0.15, 0.7)
        if choice < 0.6:
            wobble_px = max(0.0, self.rng.normal(0, 3))
            return marks.beyond_line(self.rng, self.size, share, softness_px=1, wobble_px=wobble_px)
        if choice < 0.85:
            return parts.one_body(self.rng, self.size).coverage()
        return marks.blob(self.rng, self.size, self.rng.uniform(0.4, 0.6) * self.size, 0.0)

    def _cover(self, scene: Scene, region: NDArray[np.bool_]) -> Array:
        """Give a region (S, S) a surface of its own; the new reflectance, everywhere."""
        texture, own = self.texture(), log_uniform(self.rng, 0.008, 0.2)
        scene.contrast = max(scene.contrast, own)
        scene.tint[region] = np.broadcast_to(self._tints(texture), scene.tint.shape)[region]
        reflectance: Array = (self.rng.uniform(0.05, 0.95) + own * texture).astype(np.float32)
        return reflectance

    def _furnish(self, scene: Scene) -> None:
        """Lay one object, or one object repeated, on the scene: of a surface of its own, or in another tone."""
        rng, outline = self.rng, parts.draw_outline(self.rng, self.size)
        region = outline.coverage() > 0.5
        if rng.random() < 0.6:
            inside = self._cover(scene, region)
        else:
            inside = scene.reflectance + rng.choice([-1, 1], p=[0.6, 0.4]) * log_uniform(rng, 0.03, 0.5)
            if rng.random() < 0.4:
                scene.tint[region] = self._tint()
        if rng.random() < 0.4:
            inside = inside + rng.uniform(0, 0.12) * outline.variation
        scene.reflectance = parts.laid_on(rng, scene.reflectance, outline, inside)

    def _plant(self, scene: Scene) -> tuple[Array, int]:
        """Put one odd mark on the scene; the mark's coverage (S, S) and its kind."""
        rng, reflectance = self.rng, scene.reflectance
        number = int(rng.choice([1, 2, 3, 4], p=[0.3, 0.3, 0.2, 0.2]))
        shape = (marks.scratch, marks.pit, marks.stain, marks.area)[number - 1](rng, self.size)
        local = visible_contrast(reflectance, shape, scene.contrast)
        if number == 4 or rng.random() < 0.15:
            filling = self._filling(reflectance, shape, local)
            if rng.random() < 0.35:  # the broken edge catches light or lies in the dark
                slope = gaussian_filter1d(shape, 1.2, axis=int(rng.integers(2)), order=1)
                filling = filling + rng.uniform(-1.2, 1.2) * slope
        elif number == 3:
            filling = smudged(rng, reflectance, local)
        else:
            sign = rng.choice([-1.0, 1.0], p=[0.7, 0.3])
            depth = sign * log_uniform(rng, max(1.5 * local, 0.025), max(4 * local, 0.5))
            filling = inside(rng, reflectance, shape, depth)
        scene.reflectance = reflectance + shape * (filling - reflectance)
        if rng.random() < 0.5:
            scene.tint += (rng.uniform(0.5, 1) * shape)[..., None] * (self._tint() - scene.tint)
        return shape, number

    def _filling(self, reflectance: Array, shape: Array, local: float) -> Array:
        """What a mark shows instead: another texture or place, or its own displaced, blurred or roughened."""
        rng = self.rng
        tone = float((reflectance * shape).sum() / (shape.sum() + 1e-6))
        elsewhere = np.roll(reflectance, tuple(rng.integers(4, self.size - 4, 2)), (0, 1))
        if rng.random() < 0.3 and (np.abs(elsewhere - reflectance) * shape).sum() > 0.08 * shape.sum():
            return elsewhere  # a short or a gap in a track, a part in the wrong place
        choice = rng.integers(6)
        filling: Array
        if choice == 0:
            filling = gaussian_filter(reflectance, log_uniform(rng, 1.5, 6)) + rng.normal(0, local)
        elif choice == 1:
            filling = marks.warped(reflectance, rng, log_uniform(rng, 3, 8)) + rng.normal(0, 1.5 * local)
        elif choice == 2:
            rough = marks.ragged(rng, self.size, log_uniform(rng, 0.7, 4))
            filling = reflectance + max(2 * local, 0.04) * log_uniform(rng, 0.6, 2) * rough + rng.normal(0, 0.1)
        elif choice == 3:
            jump = rng.choice([-1, 1]) * log_uniform(rng, max(local, 0.06), 0.5)
            filling = tone + jump + log_uniform(rng, 0.003, 0.03) * self.texture()
        else:
            jump = rng.choice([0.0, 1.0]) * rng.choice([-1, 1], p=[0.65, 0.35]) * log_uniform(rng, 0.06, 0.5)
            filling = tone + jump + max(2 * local, 0.03) * log_uniform(rng, 0.6, 2.5) * self.texture()
        return filling


def visible_contrast(reflectance: Array, shape: Array, contrast: float) -> float:
    """How much the surface varies around a mark, so that the mark can be made just visible."""
    rows, columns = np.nonzero(shape > 0.3)
    if len(rows) == 0:
        return contrast
    near = reflectance[max(0, rows.min() - 8) : rows.max() + 9, max(0, columns.min() - 8) : columns.max() + 9]
    return float(min(near.std(), contrast))


def smudged(rng: Generator, reflectance: Array, local: float) -> Array:
    """What a film of oil, dirt or moisture lets through: the surface in another tone, often paler and smeared."""
    seen = reflectance
    if rng.random() < 0.6:
        tone = gaussian_filter(reflectance, 6)
        seen = tone + rng.uniform(0.2, 1) * (reflectance - tone)
    if rng.random() < 0.4:
        seen = gaussian_filter(seen, log_uniform(rng, 0.7, 4))
    sign = rng.choice([-1.0, 1.0], p=[0.65, 0.35])
    smudge: Array = seen + sign * log_uniform(rng, max(0.5 * local, 0.025), max(2 * local, 0.25))
    return smudge


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


def by_patch(pixels: NDArray[np.int64], patch: int = 8) -> NDArray[np.int64]:
    """(S, S) to (S/8, S/8, 64): the pixels of each patch."""
    side = len(pixels) // patch
    return pixels.reshape(side, patch, side, patch).swapaxes(1, 2).reshape(side, side, -1)
