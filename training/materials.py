"""Textures of invented materials: square gray canvases of mean 0 and standard deviation 1 that crops are cut from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates
from scipy.spatial import cKDTree

Array = NDArray[Any]  # float32 unless said otherwise
CANVAS_PX = 320
SWATCHES = Path(__file__).parent / "textures"
SWATCH_PX, ROW_PX, COLUMN_PX, MARGIN_PX = 128, 176, 144, 16  # of the contact sheets, seven swatches a row


def standardised(canvas: NDArray[np.floating]) -> Array:
    """The canvas with mean 0 and standard deviation 1, its outliers limited to 4."""
    centred = canvas - canvas.mean()
    limited: Array = np.clip(centred / (centred.std() + 1e-8), -4, 4).astype(np.float32)
    return limited


def rotated_axes(rng: Generator, size: int = CANVAS_PX) -> tuple[Array, Array]:
    """Pixel coordinates (v, u) turned by a random angle; half the time along the image axes, as in machined parts."""
    angle = rng.choice([0.0, np.pi / 2]) if rng.random() < 0.5 else rng.uniform(0, np.pi)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return y * np.cos(angle) - x * np.sin(angle), y * np.sin(angle) + x * np.cos(angle)


def spectrum_noise(rng: Generator, slope: float, stretch: float = 1.0, band: float | None = None) -> Array:
    """Noise of power frequency to the minus ``slope``, drawn out ``stretch`` times along one direction."""
    frequency_y = np.fft.fftfreq(CANVAS_PX)[:, None]
    frequency_x = np.fft.rfftfreq(CANVAS_PX)[None]
    angle = rng.choice([0.0, np.pi / 2]) if rng.random() < 0.6 else rng.uniform(0, np.pi)
    along = (frequency_y * np.cos(angle) + frequency_x * np.sin(angle)) * stretch
    across = -frequency_y * np.sin(angle) + frequency_x * np.cos(angle)
    radius = np.sqrt(along**2 + across**2)
    amplitude = (radius + 0.5 / CANVAS_PX) ** (-slope / 2)
    if band is not None:
        amplitude = amplitude * np.exp(-0.5 * (np.log((radius + 1e-4) / band) / 0.35) ** 2)
    spectrum = np.fft.rfft2(rng.standard_normal((CANVAS_PX, CANVAS_PX))) * amplitude
    return standardised(np.fft.irfft2(spectrum, s=(CANVAS_PX, CANVAS_PX)))


def grain(rng: Generator) -> Array:
    """Noise of random colour and direction, often bent by a pointwise curve into ridges, speckles or spots."""
    noise = spectrum_noise(rng, rng.uniform(0, 3.2), np.exp(rng.uniform(0, 2.2)) if rng.random() < 0.6 else 1.0)
    return bent(rng, noise)


def band_noise(rng: Generator) -> Array:
    """Noise of one characteristic size: orange peel, leather, hammered metal."""
    stretch, band = np.exp(rng.uniform(0, 1.2)), np.exp(rng.uniform(np.log(0.02), np.log(0.3)))
    return bent(rng, spectrum_noise(rng, 0.0, stretch, band=band))


def bent(rng: Generator, noise: Array) -> Array:
    curve = rng.integers(6)
    if curve == 0:
        return standardised(np.abs(noise))
    if curve == 1:
        return standardised(np.tanh(noise * rng.uniform(1, 6)))
    if curve == 2:
        return standardised(np.exp(noise * rng.uniform(0.3, 1.0)))
    return noise


def brushed(rng: Generator) -> Array:
    """Fine parallel lines: brushed or ground metal."""
    return spectrum_noise(rng, rng.uniform(0.2, 1.5), stretch=np.exp(rng.uniform(2.5, 4.5)))


def smooth_grain(rng: Generator) -> Array:
    """What a sensor sees of a nearly flat surface: noise blurred a little."""
    noise = rng.standard_normal((CANVAS_PX, CANVAS_PX))
    return standardised(gaussian_filter(noise, np.exp(rng.uniform(-0.7, 1.0)), mode="wrap"))


def warped_axes(rng: Generator) -> tuple[Array, Array]:
    v, u = rotated_axes(rng)
    strength = rng.choice([0.0, 1.0, 3.0, 8.0], p=[0.4, 0.3, 0.2, 0.1])
    if strength == 0:
        return v, u
    return v + strength * spectrum_noise(rng, 3.0), u + strength * spectrum_noise(rng, 3.0)


def stripes(rng: Generator) -> Array:
    v, _ = warped_axes(rng)
    wave = np.sin(2 * np.pi * v / np.exp(rng.uniform(np.log(4), np.log(40))))
    if rng.random() < 0.7:
        return standardised(np.tanh(wave * np.exp(rng.uniform(-1, 2))))
    return standardised(np.maximum(wave, rng.uniform(-0.5, 0.9)))


def lattice(rng: Generator) -> Array:
    """Dots, holes, grids or checks on two crossing waves."""
    v, u = warped_axes(rng)
    period = np.exp(rng.uniform(np.log(6), np.log(36)))
    first, second = np.cos(2 * np.pi * v / period), np.cos(2 * np.pi * u / (period * rng.choice([1.0, 1.0, 1.5, 2.0])))
    pattern = [first + second, first * second, np.maximum(first, second), np.minimum(first, second)][rng.integers(4)]
    return standardised(np.tanh((pattern - rng.uniform(-0.6, 1.2)) * np.exp(rng.uniform(0, 2))))


def weave(rng: Generator) -> Array:
    v, u = warped_axes(rng)
    period = np.exp(rng.uniform(np.log(6), np.log(24)))
    over = np.sign(np.sin(np.pi * v / period) * np.sin(np.pi * u / period))
    threads = np.where(over > 0, np.abs(np.sin(np.pi * v / period)), np.abs(np.sin(np.pi * u / period)))
    return standardised(threads + rng.uniform(0, 0.4) * spectrum_noise(rng, 1.0))


def rings(rng: Generator) -> Array:
    """Growth rings of wood, or the marks of a turning tool when hardly disturbed."""
    v, u = rotated_axes(rng)
    radius = np.hypot(v - rng.uniform(-400, 700), (u - rng.uniform(-400, 700)) * rng.uniform(0.1, 1))
    phase = radius / np.exp(rng.uniform(np.log(3), np.log(20))) + rng.choice([0.0, 0.5, 1.5]) * spectrum_noise(rng, 2.5)
    return standardised(np.abs(np.sin(phase)) ** rng.uniform(0.5, 2) + 0.3 * grain(rng))


def turned(rng: Generator) -> Array:
    """Concentric grooves of uneven depth around a centre inside or outside: turned, faced or polished metal."""
    y, x = np.mgrid[:CANVAS_PX, :CANVAS_PX] - rng.uniform(-0.5, 1.5, (2, 1, 1)) * CANVAS_PX
    profile = gaussian_filter1d(rng.standard_t(rng.choice([3, 30]), 4 * CANVAS_PX), np.exp(rng.uniform(-0.5, 2)))
    if rng.random() < 0.5:
        profile = profile / profile.std() + rng.uniform(0.3, 1) * np.sin(
            np.arange(len(profile)) * rng.uniform(0.2, 1.2)
        )
    grooves = map_coordinates(profile, [np.hypot(y, x)], order=1, mode="nearest")
    return standardised(standardised(grooves) + rng.uniform(0, 0.6) * spectrum_noise(rng, rng.uniform(0, 2)))


def cells(rng: Generator) -> Array:
    """Voronoi cells with joints or with a tone each: grains, tiles, cracked mud."""
    seeds = rng.uniform(0, CANVAS_PX, (int(np.exp(rng.uniform(np.log(60), np.log(1500)))), 2))
    y, x = np.mgrid[:CANVAS_PX, :CANVAS_PX]
    distance, nearest = cKDTree(seeds).query(np.stack([y, x], -1).reshape(-1, 2), k=2)
    joint = np.minimum((distance[:, 1] - distance[:, 0]) / rng.uniform(1, 6), 1)
    tone = rng.standard_normal(len(seeds))[nearest[:, 0]]
    mixed = joint * rng.choice([0.0, 1.5]) + tone * rng.choice([0.2, 1.0])
    return standardised(gaussian_filter(mixed.reshape(CANVAS_PX, CANVAS_PX), 0.6))


def speckle(rng: Generator) -> Array:
    """Grains of 2 to 12 px in a few strongly different tones: granite, terrazzo, concrete, coarse castings."""
    y, x = np.mgrid[:CANVAS_PX, :CANVAS_PX]
    jitter = rng.choice([0.0, 1.5, 3.0])
    places = np.stack([y, x], -1) + jitter * np.stack([spectrum_noise(rng, 1.5) for _ in range(2)], -1)
    canvas = np.zeros((CANVAS_PX, CANVAS_PX), np.float32)
    for _ in range(rng.integers(1, 3)):
        seeds = rng.uniform(0, CANVAS_PX, (int((CANVAS_PX / np.exp(rng.uniform(np.log(3), np.log(12)))) ** 2), 2))
        nearest = cKDTree(seeds).query(places.reshape(-1, 2))[1]
        tones = rng.normal(0, 1, rng.integers(2, 6))
        shares = rng.dirichlet(np.full(len(tones), 1.5))
        own = rng.choice(tones, len(seeds), p=shares) + rng.uniform(0, 0.3) * rng.standard_normal(len(seeds))
        canvas += own[nearest].reshape(canvas.shape).astype(np.float32)
    blurred = gaussian_filter(canvas, rng.uniform(0.4, 1.2))
    return standardised(blurred + rng.uniform(0, 0.3) * spectrum_noise(rng, rng.uniform(0, 1.5)))


def creases(rng: Generator) -> Array:
    """Rounded bumps of 4 to 20 px between dark winding creases: leather, moulded plastic, wrinkled paint."""
    y, x = np.mgrid[:CANVAS_PX, :CANVAS_PX]
    bending = rng.uniform(0.5, 3)
    places = np.stack([y, x], -1) + bending * np.stack([spectrum_noise(rng, 2.5) for _ in range(2)], -1)
    seeds = rng.uniform(0, CANVAS_PX, (int((CANVAS_PX / np.exp(rng.uniform(np.log(4), np.log(20)))) ** 2), 2))
    distance, nearest = cKDTree(seeds).query(places.reshape(-1, 2), k=2)
    bump = np.minimum((distance[:, 1] - distance[:, 0]) / rng.uniform(1.5, 6), 1) ** rng.uniform(0.5, 1.5)
    own = rng.uniform(0, 0.4) * rng.standard_normal(len(seeds))[nearest[:, 0]]
    smooth = gaussian_filter((bump + own).reshape(CANVAS_PX, CANVAS_PX), rng.uniform(0.5, 1.2))
    if rng.random() < 0.4:
        smooth = smooth + rng.uniform(1, 6) * np.gradient(smooth, axis=int(rng.integers(2)))
    return standardised(smooth + rng.uniform(0, 0.15) * spectrum_noise(rng, rng.uniform(0, 2)))


def spots(rng: Generator) -> Array:
    """Very many similar spots or short strokes: pits that are the surface itself and therefore normal."""
    shape, density = (CANVAS_PX, CANVAS_PX), np.exp(rng.uniform(np.log(0.002), np.log(0.02)))
    impulses = (rng.random(shape) < density) * rng.uniform(0.5, 1, shape)
    widths = np.exp(rng.uniform(np.log(0.7), np.log(4), 2))
    blurred = gaussian_filter(impulses.astype(np.float32), widths if rng.random() < 0.4 else widths[0], mode="wrap")
    spotted = np.minimum(blurred / (np.quantile(blurred, 0.98) + 1e-6), rng.uniform(0.6, 3))
    sign = np.float32(rng.choice([-1.0, 1.0]))
    return sign * standardised(spotted + rng.uniform(0, 0.3) * spectrum_noise(rng, 1.0))


RECIPES: tuple[Callable[[Generator], Array], ...] = (
    grain, grain, grain, band_noise, band_noise, brushed, brushed, brushed, smooth_grain, smooth_grain, smooth_grain,
    stripes, lattice, weave, rings, cells, spots, speckle, speckle, creases, creases,
    turned, turned,
)  # fmt: skip


def draw_material(rng: Generator) -> Array:
    """One canvas (CANVAS_PX, CANVAS_PX): a recipe, or two laid over each other as on most real surfaces."""
    canvas = RECIPES[rng.integers(len(RECIPES))](rng)
    if rng.random() < 0.55:
        canvas = standardised(canvas + rng.uniform(0.2, 1.2) * RECIPES[rng.integers(11)](rng))
    return canvas


def load_swatches() -> list[Array]:
    """The free surfaces of the contact sheets as gray arrays (128, 128) in [0, 1]; a last row can be short."""
    swatches = []
    for path in sorted(SWATCHES.glob("*.webp")):
        sheet = np.asarray(Image.open(path).convert("L"), np.float32) / 255
        for top in range(MARGIN_PX, len(sheet) - SWATCH_PX + 1, ROW_PX):
            for left in range(MARGIN_PX, sheet.shape[1] - SWATCH_PX + 1, COLUMN_PX):
                swatch = sheet[top : top + SWATCH_PX, left : left + SWATCH_PX]
                if swatch.std() > 0.004:  # an empty cell is white
                    swatches.append(swatch)
    return swatches


def swatch_material(rng: Generator, swatches: list[Array]) -> Array:
    """A canvas that repeats a swatch, mirrored at its borders, as it is or magnified up to three times."""
    swatch = swatches[rng.integers(len(swatches))]
    step = np.exp(rng.uniform(np.log(0.33), np.log(1.0)))
    rows, columns = (np.arange(CANVAS_PX) * step + rng.uniform(0, SWATCH_PX) for _ in range(2))
    canvas = map_coordinates(swatch, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="mirror")
    return standardised(canvas)
