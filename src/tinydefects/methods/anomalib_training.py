"""How a model of anomalib is trained here: on our training images alone, in the library's own form."""

import logging
import random
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tinydefects.data.sample import Sample
from tinydefects.detector.patch_grid import Size, image_size


def train_model(model: Any, batches: DataLoader[Any], *, epochs: int, device: str, folder: str) -> int:  # noqa: ANN401
    """Train in place with the library's Engine and return the epochs it took; `folder` takes what the library writes.

    There is no validation: the library's default takes the test images for it, and thresholds from there.
    """
    from anomalib.engine import Engine

    kind, _, number = device.partition(":")
    engine = Engine(
        accelerator="gpu" if kind == "cuda" else kind,
        devices=[int(number)] if number else 1,
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    engine.fit(model, train_dataloaders=batches)
    return int(engine.trainer.current_epoch)


def training_batches(samples: Sequence[Sample], batch: int, seed: int) -> DataLoader[Any]:
    """The samples as the library's batches, each of images of one size: it would resize others to fit together."""
    from anomalib.data import ImageBatch

    sizes = [image_size(sample.image()) for sample in samples]
    sampler = BatchesOfOneSize(sizes, batch, seed)
    return DataLoader(_TrainingImages(samples), batch_sampler=sampler, collate_fn=ImageBatch.collate)


class BatchesOfOneSize:
    """Places of images of equal size, at most `batch` of them, in another order every epoch."""

    def __init__(self, sizes: Sequence[Size], batch: int, seed: int) -> None:
        self._by_size: dict[Size, list[int]] = defaultdict(list)
        for place, size in enumerate(sizes):
            self._by_size[size].append(place)
        self._batch = batch
        self._chance = random.Random(seed)

    def __len__(self) -> int:
        return sum(-(-len(places) // self._batch) for places in self._by_size.values())

    def __iter__(self) -> Iterator[list[int]]:
        batches = []
        for places in self._by_size.values():
            shuffled = self._chance.sample(places, len(places))
            batches += [shuffled[start : start + self._batch] for start in range(0, len(shuffled), self._batch)]
        self._chance.shuffle(batches)
        return iter(batches)


def as_tensor(image: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 as (3, H, W) float32 in [0, 1], as the library reads images."""
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255.0)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's hints on its own workings, which are of no use to whoever compares methods."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _TrainingImages(Dataset[Any]):
    """The training images in the library's own form, read as all methods read them."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, place: int) -> Any:  # noqa: ANN401
        from anomalib.data import ImageItem

        sample = self._samples[place]
        image = as_tensor(sample.image())
        no_defect = torch.zeros(image.shape[1:], dtype=torch.uint8)
        label = torch.tensor(0)
        return ImageItem(image=image, gt_mask=no_defect, gt_label=label, image_path=str(sample.image_path))
