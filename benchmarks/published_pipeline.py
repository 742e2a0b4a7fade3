"""The published pipeline, told again in plain words: what every speed-up is measured against.

It does what the published code of FBFT (arXiv 2407.04092) does and costs what that costs: float32 products at torch's
default precision `highest`, a square input with replicated edges, the frozen teacher run again in every epoch, a read
of the loss after every step, eight box filters over the full-size square, the image score from a full sort.
`tinydefects` with `preset="published"` gives the same numbers in another way (tests/test_speed_paths.py).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tinydefects.detector.students import StudentPair
from tinydefects.detector.teacher import Teacher

BOX_FILTERS_PX = (5, 5, 5, 5, 5, 7, 7, 7)
IMAGES_PER_BATCH = 4


class PublishedPipeline:
    """Teacher, two students and the published way from pixels to map and score.

    Args:
        teacher: frozen; only its weights are used, not its `features`.
        resolution: side of the square input in pixels, a multiple of the teacher's patch.
        seed: of the students and of the order of images.
        learning_rate: of Adam.
    """

    def __init__(self, teacher: Teacher, resolution: int, *, seed: int = 115, learning_rate: float = 1e-4) -> None:
        self.teacher = teacher
        self.resolution = resolution
        self.students = StudentPair(teacher.dim, seed=seed).to(teacher.device)
        self.optimizer = torch.optim.Adam(self.students.parameters(), lr=learning_rate)
        self.shuffle = torch.Generator().manual_seed(seed)

    def train_epochs(self, images: Sequence[NDArray[np.uint8]], n: int) -> list[list[float]]:
        """Train for `n` epochs on (H, W, 3) uint8 images, four a step; the loss of every step of every epoch."""
        losses = []
        for _ in range(n):
            order = torch.randperm(len(images), generator=self.shuffle).tolist()
            batches = [order[start : start + IMAGES_PER_BATCH] for start in range(0, len(order), IMAGES_PER_BATCH)]
            losses.append([self._step([images[index] for index in batch]) for batch in batches])
        return losses

    @torch.no_grad()
    def predict(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
        """The (H, W) float32 anomaly map of an (H, W, 3) uint8 image, and its score."""
        anomaly_map = self.draw(self.patch_scores(self.input_of(image)[None]), image.shape[:2])
        return anomaly_map.cpu().numpy(), self.score(anomaly_map)

    def input_of(self, image: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8 to (3, resolution, resolution): a square by edge replication, bicubic, normalised."""
        missing = [max(image.shape[:2]) - side for side in image.shape[:2]]
        margins = [(pixels // 2, pixels - pixels // 2) for pixels in missing]
        square = np.pad(image, (*margins, (0, 0)), mode="edge")
        resized = Image.fromarray(square).resize((self.resolution, self.resolution), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float().div(255)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.teacher.mean, self.teacher.std))
        return (pixels - mean) / std

    def patch_scores(self, batch: Tensor) -> Tensor:
        """Inputs (B, 3, side, side) to patch scores (B, h, w): the product of two distances between directions."""
        earlier, later = self.features(batch)
        expected_earlier, expected_later = self.students(earlier, later)
        distances = [
            (F.normalize(expected, dim=-1) - F.normalize(actual, dim=-1)).pow(2).sum(dim=-1).sqrt()
            for expected, actual in ((expected_earlier, earlier), (expected_later, later))
        ]
        side = self.resolution // self.teacher.patch_size
        return (distances[0] * distances[1]).view(len(batch), side, side)

    @torch.no_grad()
    def features(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens (B, N, C) of both blocks, float32, through the whole ViT."""
        blocks = list(self.teacher.blocks)
        model: Any = self.teacher.model  # of timm, without types
        earlier, later = model.forward_intermediates(
            batch.to(self.teacher.device), indices=blocks, norm=True, output_fmt="NLC", intermediates_only=True
        )
        return earlier, later

    def draw(self, patch_scores: Tensor, size: tuple[int, int]) -> Tensor:
        """Patch scores (1, h, w) as the (H, W) map: bilinear to the padded square, eight box filters, crop."""
        side = max(size)
        square = F.interpolate(patch_scores[None], size=(side, side), mode="bilinear", align_corners=False)
        for box in BOX_FILTERS_PX:
            weights = torch.full((1, 1, box, box), 1 / box**2, device=square.device)
            square = F.conv2d(square, weights, padding=box // 2)
        top, left = (round((side - length) / 2) for length in size)
        return square[0, 0, top : top + size[0], left : left + size[1]]

    def score(self, anomaly_map: Tensor) -> float:
        """Mean of the highest 0.1 % of the map; nan below 1000 pixels."""
        return float(anomaly_map.flatten().sort(descending=True).values[: int(anomaly_map.numel() * 0.001)].mean())

    def _step(self, images: list[NDArray[np.uint8]]) -> float:
        return self.step(*self.features(torch.stack([self.input_of(image) for image in images])))

    def step(self, earlier: Tensor, later: Tensor) -> float:
        """One step of Adam on features (B, N, C) of both blocks; the loss before it."""
        expected_earlier, expected_later = self.students(earlier, later)
        backward = 1 - F.cosine_similarity(expected_earlier, earlier, dim=-1, eps=1e-6).mean()
        forward = 1 - F.cosine_similarity(expected_later, later, dim=-1, eps=1e-6).mean()
        self.optimizer.zero_grad()
        (forward + backward).backward()
        self.optimizer.step()
        return (forward + backward).item()
