"""Teacher features of the training images on disk, so that all epochs cost one pass of the teacher.

One .npy file of (N, h, w, C) an image for N blocks, or of (N, n, C) where only a share of its patches is kept, named
after all it depends on: teacher, geometry, number format, share, pixels, and how products were computed. A sha256 of
the numbers follows them. A fit that was interrupted or is repeated finds them; a file that is not what was written does
not count.
"""

import contextlib
import hashlib
import itertools
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinydefects.data.pixels import write_whole
from tinydefects.detector.devices import memory_of
from tinydefects.detector.patch_grid import PatchGrid
from tinydefects.detector.teacher import Teacher
from tinydefects.errors import TrainingError

FeatureFormat = Literal["float16", "float32"]
LAYOUT = 3  # part of every file's name; raised when equal pixels would no longer give equal features
HEADER_BYTES, DIGEST_BYTES = 128, 32  # before and behind the numbers of a file
IMAGES_PER_STEP = 16  # at most, that the patches of a step come from
SHARE_OF_GPU = 1 / 4  # of the free memory
PROJECTED_DIM = 128  # as in PatchCore's code: distances are compared after a random projection


def expected_bytes(
    grids: Iterable[PatchGrid],
    *,
    dim: int,
    feature_format: FeatureFormat,
    n_blocks: int = 2,
    patch_fraction: float | None = None,
) -> int:
    """Disk space that the features of these images take, `n_blocks` blocks of `dim` channels."""
    patch_bytes = n_blocks * dim * np.dtype(feature_format).itemsize
    return sum(HEADER_BYTES + DIGEST_BYTES + n_kept(grid, patch_fraction) * patch_bytes for grid in grids)


def n_kept(grid: PatchGrid, patch_fraction: float | None) -> int:
    """How many patches of a pass are kept: all, or this share of them, one at least."""
    n_patches = math.prod(grid.shape)
    return n_patches if patch_fraction is None else max(1, round(patch_fraction * n_patches))


def spread_patches(features: NDArray[np.floating], size: int) -> NDArray[np.floating]:
    """`size` of the patches of (N, h, w, C) features, as (N, size, C) in their order: the greedy k-centre selection.

    Patches are compared in all blocks side by side. Each is the farthest from those chosen before it, so what is left
    out is nearly equal to something kept, and rare patches make up more of the selection than of the image. Equal
    features give an equal selection.
    """
    patches = features.reshape(len(features), -1, features.shape[-1])
    if size >= patches.shape[1]:
        return patches
    side_by_side = np.concatenate(list(patches), axis=1).astype(np.float32)
    return patches[:, np.sort(greedy_coreset(side_by_side, size, np.random.default_rng(0)))]


class FeatureCache:
    """The features of one teacher, added image by image, read batch by batch through memory maps.

    The folder never grows beyond `limit_bytes`, whatever else lies in it, nor beyond the free space of its disk. With a
    `patch_fraction` in (0, 1] only that share of the patches of each image is kept, see `spread_patches`.
    """

    def __init__(
        self,
        folder: Path,
        teacher: Teacher,
        *,
        feature_format: FeatureFormat,
        limit_bytes: int,
        patch_fraction: float | None = None,
    ) -> None:
        self.folder = folder
        self.teacher = teacher
        self.feature_format = feature_format
        self.limit_bytes = limit_bytes
        self.patch_fraction = patch_fraction
        self._files: list[Path] = []
        self._written: set[Path] = set()
        self._unchecked_bytes = 0  # may be written before the folder is looked through again
        self._on_gpu: dict[Path, Tensor] = {}  # (N, n, C), as far as its memory reaches

    def __len__(self) -> int:
        return len(self._files)

    def add(self, image: NDArray[np.uint8], grid: PatchGrid) -> bool:
        """Append the features of one (H, W, 3) image, and say whether an earlier run had left them on the disk.

        The teacher runs only if neither they nor more are there yet.

        Raises:
            TrainingError: the limit or the free space does not suffice.
        """
        self._files.append(self._keep(image, grid))
        return self._files[-1] not in self._written

    @property
    def names(self) -> list[str]:
        """The files of what was added, below the folder."""
        return [path.relative_to(self.folder).as_posix() for path in self._files]

    def take(self, names: Sequence[str], grids: Sequence[PatchGrid]) -> None:
        """Append the features of one image that lie in these files; the teacher is not asked.

        Raises:
            TrainingError: one is missing or damaged.
        """
        for name, grid in itertools.zip_longest(names, grids):
            if name is None or grid is None or self._whole(self.folder / name, grid, self.patch_fraction) is None:
                raise TrainingError(
                    f"{self.folder / str(name)}: no whole features of this image; fit again with all photographs"
                )
            self._files.append(self.folder / name)

    def holds(self, image: NDArray[np.uint8], grid: PatchGrid) -> bool:
        """Whether the features of this image are on disk, whole."""
        return self._stored(image, grid, self.patch_fraction) is not None

    def read(self, image: NDArray[np.uint8], grid: PatchGrid) -> list[Tensor]:
        """The features (1, h, w, C) float32 of each block for one image, computed and kept if they were not there.

        Only where every patch is kept.

        Raises:
            TrainingError: they are not there, and the limit or the free space does not suffice.
        """
        assert self.patch_fraction is None, "a share of the patches is no grid"
        blocks = np.load(self._keep(image, grid)).astype(np.float32)
        return [torch.from_numpy(block)[None] for block in blocks]

    def require_space(self, grids: Iterable[PatchGrid]) -> None:
        """Make sure that the features of so many new images fit, before any are computed.

        Raises:
            TrainingError: they do not; the message names the folder, the bytes needed and what can be done.
        """
        needed = self._bytes(grids)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            used, free = _folder_bytes(self.folder), shutil.disk_usage(self.folder).free
        except OSError as error:
            raise TrainingError(f"{self.folder}: {error.strerror}; choose another cache_dir") from error
        options = "lower the resolution, empty the folder or choose another cache_dir"
        needs = f"{self.folder}: the features need {_gigabytes(needed)}"
        if used + needed > self.limit_bytes:
            raise TrainingError(
                f"{needs} beside {_gigabytes(used)} that lie there, the limit is {_gigabytes(self.limit_bytes)}: "
                f"raise cache_limit_gb (--cache-limit-gb), {options}"
            )
        if needed > free:
            raise TrainingError(f"{needs}, the disk has {_gigabytes(free)} free: {options}")
        # A small part of the room, since other fits may be writing to the same folder.
        self._unchecked_bytes = min(self.limit_bytes - used, free) // 16

    def batches(self, order: Sequence[int], *, images: int) -> Iterator[list[Tensor]]:
        """Of `images` images at a time, in this order, all patches in a row: float32 (n, C) for each block."""
        for start in range(0, len(order), images):
            yield list(self._gather(order[start : start + images]).float())

    def patch_batches(self, order: Sequence[int], *, patches: int, shuffle: torch.Generator) -> Iterator[list[Tensor]]:
        """Every patch once, about `patches` at a time in batches of nearly equal size: float32 (n, C) for each block.

        Some patches of every one of IMAGES_PER_STEP images make a batch, and all images have their turn before one has
        its second: whenever training ends, it has seen them alike. Only what a batch holds is read.
        """
        n_groups = math.ceil(len(order) / IMAGES_PER_STEP)
        groups = [order[first::n_groups] for first in range(n_groups)]
        mixed = {index: torch.randperm(self._n_patches(index), generator=shuffle, dtype=torch.int32) for index in order}
        n_turns = max(math.ceil(sum(len(mixed[index]) for index in group) / patches) for group in groups)
        for turn in range(n_turns):
            for group in groups:
                chosen = [
                    self._load(
                        self._files[index],
                        mixed[index][turn * len(mixed[index]) // n_turns : (turn + 1) * len(mixed[index]) // n_turns],
                    )
                    for index in group
                ]
                batch = torch.cat(chosen, dim=1)
                if batch.shape[1]:  # with fewer patches than turns some turns have none
                    yield list(batch.float())

    def _gather(self, indices: Sequence[int]) -> Tensor:
        """The features of these images, (N, n, C), on the device, in the numbers in which they are stored on disk."""
        return torch.cat([self._load(self._files[index]) for index in indices], dim=1)

    def _load(self, path: Path, rows: Tensor | None = None) -> Tensor:
        """Of one file these patches, or all, (N, n, C). A GPU, which learns quicker than a disk is read, keeps it."""
        if path not in self._on_gpu:
            stored = np.load(path, mmap_mode="r")
            stored = stored.reshape(len(stored), -1, stored.shape[-1])
            held = sum(one.nbytes for one in self._on_gpu.values())
            if held + stored.nbytes > room_on_gpu(self.teacher.device, held):
                # Of a file that is mapped only those pages are read that the patches lie on.
                read = np.array(stored) if rows is None else stored[:, np.sort(rows.numpy())]
                return torch.from_numpy(read).to(self.teacher.device)
            self._on_gpu[path] = torch.from_numpy(np.array(stored)).to(self.teacher.device)
        kept = self._on_gpu[path]
        return kept if rows is None else kept[:, rows.sort().values.to(kept.device)]

    def _n_patches(self, index: int) -> int:
        """Of one image, as far as they are kept."""
        return math.prod(np.load(self._files[index], mmap_mode="r").shape[1:-1])

    def _keep(self, image: NDArray[np.uint8], grid: PatchGrid) -> Path:
        path = self._path(image, grid, self.patch_fraction)
        if not self.holds(image, grid):
            self._reserve(grid)
            blocks = self._features(image, grid)
            if self.patch_fraction is not None:
                blocks = spread_patches(blocks, n_kept(grid, self.patch_fraction))
            write_whole(path, lambda file: _write(file, blocks))
            self._written.add(path)
        return path

    def _features(self, image: NDArray[np.uint8], grid: PatchGrid) -> NDArray[np.floating]:
        """(N, h, w, C) in the numbers that are stored: from the disk if every patch was kept before, or the teacher."""
        stored = self._stored(image, grid, None)
        if stored is not None:
            return stored
        features = self.teacher.features(self.teacher.normalise(grid.to_pixels(image)[None]))
        return torch.cat(features).cpu().numpy().astype(self.feature_format)

    def _stored(
        self, image: NDArray[np.uint8], grid: PatchGrid, patch_fraction: float | None
    ) -> NDArray[np.floating] | None:
        """The file of this image as it lies on disk, or None unless it is whole."""
        return self._whole(self._path(image, grid, patch_fraction), grid, patch_fraction)

    def _whole(self, path: Path, grid: PatchGrid, patch_fraction: float | None) -> NDArray[np.floating] | None:
        try:
            stored: NDArray[np.floating] = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError):  # missing, cut off, or no .npy at all
            return None
        patches = grid.shape if patch_fraction is None else (n_kept(grid, patch_fraction),)
        shape = (len(self.teacher.blocks), *patches, self.teacher.dim)
        is_whole = stored.shape == shape and stored.dtype == self.feature_format
        return stored if is_whole and _is_intact(path, stored) else None

    def _reserve(self, grid: PatchGrid) -> None:
        """Looking through the folder for every image would take longer the more images lie there."""
        needed = self._bytes([grid])
        if needed > self._unchecked_bytes:
            self.require_space([grid])
        self._unchecked_bytes -= needed

    def _bytes(self, grids: Iterable[PatchGrid]) -> int:
        return expected_bytes(
            grids,
            n_blocks=len(self.teacher.blocks),
            dim=self.teacher.dim,
            feature_format=self.feature_format,
            patch_fraction=self.patch_fraction,
        )

    def _path(self, image: NDArray[np.uint8], grid: PatchGrid, patch_fraction: float | None) -> Path:
        # How maps are drawn plays no part: the names are those of version 0.1, whose default blurred them.
        drawn = replace(grid, blur="constant" if grid.blur == "constant" else "reflect")
        geometry = str(drawn).replace("blur=", "blur_border=")
        digest = hashlib.sha256(f"{LAYOUT} {self.teacher.fingerprint} {geometry} {self.feature_format}".encode())
        teacher = self.teacher
        how = (teacher.precision, teacher.device.partition(":")[0], teacher.compiled)
        if how != ("float32", "cpu", False):  # which differ in the last digits at least
            digest.update(f"products {how}".encode())
        if patch_fraction is not None:
            digest.update(f"patch_fraction {patch_fraction}".encode())
        digest.update(np.ascontiguousarray(image).data)
        return self.folder / self.teacher.fingerprint[:16] / f"{digest.hexdigest()}.npy"


def room_on_gpu(device: str, held_bytes: int) -> float:
    """Bytes of a GPU's memory for features, those held already included: a share of what else is free; 0 elsewhere."""
    return SHARE_OF_GPU * (memory_of(device).free_bytes() + held_bytes) if device.startswith("cuda") else 0


def greedy_coreset(vectors: NDArray[np.float32], size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Places of `size` of the (N, C) vectors, each the farthest from those chosen before it; the first by chance.

    Greedy k-centre selection, as PatchCore thins its bank (arXiv 2106.08265).
    Holds N x 128 numbers beside the vectors and takes N x 128 x `size` multiplications.
    """
    projected = _projected(vectors, generator)
    squared_length = np.einsum("nc,nc->n", projected, projected)
    nearest = np.full(len(vectors), np.inf, dtype=np.float32)
    chosen = np.empty(min(size, len(vectors)), dtype=np.int64)
    place = int(generator.integers(len(vectors)))
    for step in range(len(chosen)):
        chosen[step] = place
        np.minimum(nearest, squared_length - 2 * (projected @ projected[place]) + squared_length[place], out=nearest)
        nearest[place] = -np.inf  # equal vectors are not chosen twice before all others are
        place = int(nearest.argmax())
    return chosen


def _projected(vectors: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    dim = vectors.shape[1]
    if dim <= PROJECTED_DIM:
        return vectors
    directions = generator.standard_normal((dim, PROJECTED_DIM), dtype=np.float32) / np.float32(PROJECTED_DIM**0.5)
    return np.asarray(vectors @ directions, dtype=np.float32)


def _write(file: IO[bytes], features: NDArray[np.floating]) -> None:
    features = np.ascontiguousarray(features)
    np.save(file, features)
    file.write(hashlib.sha256(features.data).digest())


def _is_intact(path: Path, stored: NDArray[np.floating]) -> bool:
    """Whether the numbers are those that were written: a disk that failed may have left zeros in their place."""
    with path.open("rb") as file:
        file.seek(-DIGEST_BYTES, os.SEEK_END)
        return file.read() == hashlib.sha256(stored.data).digest()


def _folder_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):  # passes over folders that another fit has just renamed
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(parent, name).stat().st_size
    return total


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
