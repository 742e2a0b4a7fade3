"""Between pixels and patches: the only place where a size changes.

`PatchGrid.proportional` is the default geometry, `PatchGrid.native` scales nothing, `PatchGrid.published` is the square
one of arXiv 2407.04092; several passes over one image are planned in `passes.py`. On the way back, bilinear upsampling,
the published blur and crop are all linear and separable, so each axis is one small constant matrix and the map is
`rows @ patch_scores @ columns.T`: exact at any scale, and no image-sized intermediate exists. Only a handful of patches
reaches a pixel, so the matrices are sparse. torch is imported only where a tensor is asked for, so that an exported
detector runs without it.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.sparse import csr_array

from tinydefects.errors import ImageReadError, ResolutionMismatchError

if TYPE_CHECKING:
    from torch import Tensor

Size = tuple[int, int]
Blur = Literal["none", "reflect", "constant"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BOX_FILTERS_PX = (5, 5, 5, 5, 5, 7, 7, 7)  # published: a near-Gaussian of sigma 4.7 px in the original image


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchGrid:
    """How one image becomes patches and patch scores become its map. Sizes are (height, width) in pixels.

    Patch (i, j) covers the resized pixels [i * patch, (i + 1) * patch) and is drawn around its own centre.

    Attributes:
        image_size: the image as photographed.
        padded_size: after centred edge replication, before scaling; `image_size` unless published.
        resized_size: `padded_size` after bicubic scaling, before edge replication to whole patches (below and right).
        canvas_size: where the map is drawn and blurred before it is cropped; `image_size` unless published.
        blur: of the map. Published is one of 4.7 px whatever a patch covers: `constant` blurs zeros in at the border,
            as published, `reflect` mirrors the map there. With `none` a single high patch keeps its height.
    """

    image_size: Size
    padded_size: Size
    resized_size: Size
    canvas_size: Size
    patch: int
    blur: Blur

    @classmethod
    def proportional(cls, image_size: Size, *, patch: int, resolution: int, blur: Blur = "none") -> "PatchGrid":
        """The long side is scaled to `resolution` (rounded to whole patches), the other side in proportion."""
        long_px = whole_patches(resolution, patch)
        height, width = (max(1, round(side * long_px / max(image_size))) for side in image_size)
        return cls(
            image_size=image_size,
            padded_size=image_size,
            resized_size=(height, width),
            canvas_size=image_size,
            patch=patch,
            blur=blur,
        )

    @classmethod
    def native(cls, image_size: Size, *, patch: int, blur: Blur = "none") -> "PatchGrid":
        """Nothing is scaled: the teacher sees the image's own pixels."""
        return cls(
            image_size=image_size,
            padded_size=image_size,
            resized_size=image_size,
            canvas_size=image_size,
            patch=patch,
            blur=blur,
        )

    @classmethod
    def published(cls, image_size: Size, *, patch: int, resolution: int, canvas_px: int | None = None) -> "PatchGrid":
        """As published: a square by edge replication, and a crop that is off by 1 px when (long - short) % 4 == 3.

        The published code draws all maps of a category on the square of its first test image; `canvas_px` is that
        side, None is the image's own.
        """
        long_px, resized_px = max(image_size), whole_patches(resolution, patch)
        canvas_px = long_px if canvas_px is None else canvas_px
        return cls(
            image_size=image_size,
            padded_size=(long_px, long_px),
            resized_size=(resized_px, resized_px),
            canvas_size=(canvas_px, canvas_px),
            patch=patch,
            blur="constant",
        )

    @property
    def shape(self) -> Size:
        """Patches: rows h, columns w."""
        return math.ceil(self.resized_size[0] / self.patch), math.ceil(self.resized_size[1] / self.patch)

    @property
    def patch_px(self) -> float:
        """What the side of a patch measures in pixels of the image as photographed."""
        return self.patch * max(self.padded_size) / max(self.resized_size)

    def score_shape(self, stride: int) -> Size:
        """Scores (rows, columns) of patches that begin every `stride` resized pixels and end within the last patch."""
        rows, columns = (self.patch // stride * (n_patches - 1) + 1 for n_patches in self.shape)
        return rows, columns

    def to_patches(
        self,
        image: NDArray[np.uint8],
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> "Tensor":
        """An (H, W, 3) uint8 image as the teacher's input, (3, h * patch, w * patch) float32, normalised."""
        return normalise(self.to_pixels(image), mean, std)

    def to_pixels(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An (H, W, 3) uint8 image at the teacher's size, (h * patch, w * patch, 3) uint8, not yet normalised.

        Raises:
            ResolutionMismatchError: the image is not of this grid's size.
        """
        rows, columns = self.shape
        return _replicate_edges(self.resize(image), [0, 0], (rows * self.patch, columns * self.patch))

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An (H, W, 3) uint8 image at `resized_size`; the same array where nothing changes.

        Raises:
            ResolutionMismatchError: the image is not of this grid's size.
        """
        if image_size(image) != self.image_size:
            raise ResolutionMismatchError(f"the image is {image_size(image)}, this grid is for {self.image_size}")
        before = [(padded - size) // 2 for padded, size in zip(self.padded_size, self.image_size, strict=True)]
        padded = _replicate_edges(image, before, self.padded_size)
        if self.padded_size == self.resized_size:
            return padded
        height, width = self.resized_size
        return np.asarray(Image.fromarray(padded).resize((width, height), Image.Resampling.BICUBIC))

    def to_image(
        self, patch_scores: "Tensor | NDArray[np.float32]", *, stride: int | None = None
    ) -> NDArray[np.float32]:
        """Scores (h, w) of the patches as the (H, W) float32 map: bilinear, then perhaps blurred.

        With a `stride` they are the scores (rows, columns) of `score_shape(stride)`.

        Raises:
            ResolutionMismatchError: the scores are not of this shape.
        """
        stride = self.patch if stride is None else stride
        expected = self.score_shape(stride)
        if tuple(patch_scores.shape) != expected:
            raise ResolutionMismatchError(f"patch scores are {tuple(patch_scores.shape)}, this grid is {expected}")
        scores = patch_scores if isinstance(patch_scores, np.ndarray) else patch_scores.detach().float().cpu().numpy()
        rows, columns = self._axis_matrix(0, stride), self._axis_matrix(1, stride)
        return np.asarray(rows @ np.ascontiguousarray((columns @ scores.T).T), dtype=np.float32)

    def map_matrices(self, stride: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rows (H, h) and columns (W, w) with which the map is `rows @ patch_scores @ columns.T`."""
        return self._axis_matrix(0, stride).toarray(), self._axis_matrix(1, stride).toarray()

    def pixel_matrices(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rows (h * patch, H) and columns (w * patch, W) that do to each channel of an image what `to_pixels` does.

        First `image @ columns.T`, then `rows @ that`; after each product values are rounded and cut to [0, 255].
        """
        return self._pixel_matrix(0), self._pixel_matrix(1)

    def _pixel_matrix(self, axis: int) -> NDArray[np.float32]:
        image_px, padded_px, resized_px = self.image_size[axis], self.padded_size[axis], self.resized_size[axis]
        before = (padded_px - image_px) // 2
        padded = np.pad(np.eye(image_px, dtype=np.float32), ((before, padded_px - image_px - before), (0, 0)), "edge")
        resized = np.asarray(Image.fromarray(padded).resize((image_px, resized_px), Image.Resampling.BICUBIC))
        return np.pad(resized, ((0, self.shape[axis] * self.patch - resized_px), (0, 0)), "edge")

    def _axis_matrix(self, axis: int, stride: int) -> csr_array:
        return axis_matrix(
            patches=self.score_shape(stride)[axis],
            patches_per_pixel=self.resized_size[axis] / (stride * self.canvas_size[axis]),
            first_centre=self.patch / (2 * stride),
            canvas_px=self.canvas_size[axis],
            image_px=self.image_size[axis],
            blur=self.blur,
        )


def image_size(image: NDArray[np.uint8]) -> Size:
    """(H, W) of an (H, W, 3) uint8 image.

    Raises:
        ImageReadError: it is something else.
    """
    shape: tuple[int, ...] = getattr(image, "shape", ())
    dtype = getattr(image, "dtype", type(image).__name__)
    if len(shape) != 3 or shape[2] != 3 or dtype != np.uint8 or 0 in shape:
        raise ImageReadError(f"an image is (H, W, 3) uint8, this one is {shape} {dtype}; as_image makes one of any")
    return shape[0], shape[1]


def normalise(
    pixels: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...], *, device: str = "cpu"
) -> "Tensor":
    """Pixels (..., H, W, 3) as the teacher's input (..., 3, H, W), float32; they travel to the device as bytes."""
    import torch

    there = torch.from_numpy(np.array(pixels, order="C"))  # a copy: torch wants no pixels that are for reading alone
    if device.startswith("cuda"):  # from pinned memory the processor need not wait for the copy
        there = there.pin_memory().to(device, non_blocking=True)
    mean_there, std_there = _constants(mean, std, device)
    there = there.to(device).movedim(-1, -3).contiguous()
    return there.float().div_(255.0).sub_(mean_there).div_(std_there)


@lru_cache(maxsize=8)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: str) -> tuple["Tensor", "Tensor"]:
    """Both (C, 1, 1) on the device; made anew for every image, they would make a GPU wait twice."""
    import torch

    with torch.inference_mode(False):
        of_mean, of_std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (mean, std))
    return of_mean, of_std


def whole_patches(resolution: int, patch: int) -> int:
    """`resolution` rounded to the nearest multiple of `patch` (half a patch up), at least one patch."""
    return max(1, math.floor(resolution / patch + 0.5)) * patch


@lru_cache(maxsize=64)
def axis_matrix(
    *,
    patches: int,
    patches_per_pixel: float,
    canvas_px: int,
    image_px: int,
    blur: Blur,
    first_centre: float = 0.5,
) -> csr_array:
    """Weights (image_px, patches), read-only, of every patch in every pixel of one axis: bilinear, blurred or not, cut.

    `first_centre` is where the centre of the first patch lies, counted in steps from one patch to the next.
    """
    matrix = _upsampling(patches, patches_per_pixel, canvas_px, first_centre)
    if blur != "none":
        for size in BOX_FILTERS_PX:
            matrix = ndimage.correlate1d(matrix, np.full(size, 1.0 / size), axis=0, mode=blur)
    weights = csr_array(_centre_crop(matrix, image_px).astype(np.float32))
    weights.data.setflags(write=False)
    return weights


def _upsampling(patches: int, patches_per_pixel: float, canvas_px: int, first_centre: float) -> NDArray[np.float64]:
    """Linear interpolation between patch centres, (canvas_px, patches); constant beyond the first and the last."""
    position = np.clip((np.arange(canvas_px) + 0.5) * patches_per_pixel - first_centre, 0, patches - 1)
    left = np.minimum(position.astype(np.int64), max(patches - 2, 0))
    matrix = np.zeros((canvas_px, patches))
    pixel = np.arange(canvas_px)
    matrix[pixel, left] = 1.0 - (position - left)
    matrix[pixel, np.minimum(left + 1, patches - 1)] += position - left
    return matrix


def _centre_crop(matrix: NDArray[np.float64], image_px: int) -> NDArray[np.float64]:
    """The middle `image_px` rows. Half a row goes to the even side and what is missing is zero, both as published."""
    missing = image_px - len(matrix)
    if missing > 0:
        return np.pad(matrix, ((missing // 2, missing - missing // 2), (0, 0)))
    start = round(-missing / 2)
    return matrix[start : start + image_px]


def _replicate_edges(image: NDArray[np.uint8], before: list[int], size: Size) -> NDArray[np.uint8]:
    """`image` at offset `before` (top, left) inside `size`, its edge pixels repeated around it."""
    if image.shape[:2] == size:
        return image
    after = [full - part - offset for full, part, offset in zip(size, image.shape[:2], before, strict=True)]
    return np.pad(image, ((before[0], after[0]), (before[1], after[1]), (0, 0)), mode="edge")
