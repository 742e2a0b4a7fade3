"""From reflectance to photograph: lamp, borders, blur, exposure, sensor and JPEG, none of which is ever odd."""

import io

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d

import marks
from marks import log_uniform
from materials import Array


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


def photographed(rng: Generator, gray: Array, tint: Array, chance: Generator) -> NDArray[np.uint8]:
    """Gray (S, S) times tint (S, S, 3) to (S, S, 3) uint8: blur, exposure, colour cast, sensor noise and JPEG.

    ``rng`` chooses the camera, ``chance`` what differs between two photographs that it takes.
    """
    if rng.random() < 0.5:
        gray = gray * chance.uniform(0.93, 1.07)
    if rng.random() < 0.5:
        gray = np.clip(gray, 0, 1.3) ** log_uniform(rng, 0.6, 1.7)
    noise = rng.choice([0.0, log_uniform(rng, 0.003, 0.03)])
    color = gray[..., None] * tint
    if rng.random() < 0.5:
        blur_px = log_uniform(rng, 0.3, 1.2)
        color = gaussian_filter(color, (blur_px, blur_px, 0))
    if noise:
        color = color + noise * chance.standard_normal((*gray.shape, 1)).astype(np.float32)
    if rng.random() < 0.3:
        color = color * rng.uniform(0.5, 1.1, 3).astype(np.float32) + rng.uniform(-0.05, 0.1, 3).astype(np.float32)
    image = (np.clip(color, 0, 1) * 255).astype(np.uint8)
    return compressed(rng, image) if rng.random() < 0.5 else image


def compressed(rng: Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=int(rng.integers(40, 96)))
    return np.asarray(Image.open(buffer))
