"""A small network that learns to tell normal patches from the same patches with noise added to them.

After SimpleNet (arXiv 2303.15662) and the segmentation head of SuperSimpleNet (arXiv 2408.03143), and neither of them.
As there: means of 3 x 3 patches, a linear adaptor, Gaussian noise on adapted features instead of defects, a head with
one hidden layer whose output is the score, truncated L1 and focal loss, AdamW with a slower adaptor. Left out: doubled
resolution, masks of Perlin noise (a head that sees one patch at a time cannot tell where the others lie) and the
classification head (the image score is the one that all methods share). Other than there, channels are standardised and
`noise` counts in their standard deviations, as the published 0.015 belongs to another network's features; the default
was not tuned on anything. Training is short and of fixed length: no epoch is chosen, least of all by test images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from tinydefects.methods.memory_bank import neighbourhood_mean, sample_described
from tinydefects.methods.patches import Block, Features, TrainingFeatures, chosen_block

MARGIN, FOCUS = 0.5, 2.0  # of the truncated L1 loss around zero, and exponent of the focal loss
RATES, WEIGHT_DECAY = (1e-4, 2e-4), 1e-5  # learning rates of adaptor and head


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscriminatorOptions:
    """`patches` of at most `candidates` are drawn in each step, and shown twice: as they are and with noise."""

    noise: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.2
    steps: Annotated[int, Field(gt=0)] = 1000
    patches: Annotated[int, Field(gt=0)] = 512
    candidates: Annotated[int, Field(gt=0)] = 100_000
    hidden: Annotated[int, Field(gt=0)] = 1024
    block: Block = "both"
    neighbourhood: Annotated[int, Field(gt=0)] = 3


class DiscriminatorScorer:
    """Keeps mean and spread of the channels, the adaptor and the head."""

    def __init__(self, options: DiscriminatorOptions, *, seed: int, device: str) -> None:
        self._options, self._seed, self._device = options, seed, device
        self._mean = self._spread = np.zeros(0, np.float32)
        self._network = nn.Sequential()  # adaptor and head

    @property
    def settings(self) -> Mapping[str, object]:
        return asdict(self._options) | {"seed": self._seed}

    @property
    def size_bytes(self) -> int:
        return 2 * self._mean.nbytes + sum(int(weight.nbytes) for weight in self._network.state_dict().values())

    def learn(self, images: TrainingFeatures) -> None:
        options = self._options
        vectors = sample_described(images, self._described, options.candidates, np.random.default_rng(self._seed))
        self._mean, spread = vectors.mean(axis=0), vectors.std(axis=0)
        self._spread = np.where(spread > 0, spread, np.float32(1))
        self._network = untrained(vectors.shape[1], options.hidden, seed=self._seed).to(self._device)
        adaptor, head = self._network
        normal = torch.from_numpy((vectors - self._mean) / self._spread)
        groups = [{"params": part.parameters(), "lr": rate} for part, rate in zip((adaptor, head), RATES, strict=True)]
        optimiser = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
        generator = torch.Generator().manual_seed(self._seed)  # of the processor: the same draws on every device
        for _ in range(options.steps):
            drawn = normal[torch.randint(len(normal), (options.patches,), generator=generator)]
            noise = options.noise * torch.randn(drawn.shape, generator=generator)
            adapted = adaptor(drawn.to(self._device))
            outputs = head(torch.cat([adapted, adapted + noise.to(self._device)]))[:, 0]
            optimiser.zero_grad()
            separation_loss(*outputs.split(options.patches)).backward()
            optimiser.step()
        self._network.eval()

    @torch.inference_mode()
    def patch_scores(self, blocks: Sequence[Features]) -> Features:
        described = (self._described(blocks) - self._mean) / self._spread
        patches = torch.from_numpy(described.reshape(-1, described.shape[-1])).to(self._device)
        outputs: Features = self._network(patches).cpu().numpy()
        return outputs.reshape(described.shape[:-1])

    def _described(self, blocks: Sequence[Features]) -> Features:
        return neighbourhood_mean(chosen_block(blocks, self._options.block), self._options.neighbourhood)


def untrained(dim: int, hidden: int, *, seed: int) -> nn.Sequential:
    """Adaptor, (N, dim) to (N, dim), and head, (N, dim) to (N, 1); the global generators are left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the processor's; `torch.manual_seed` would seed every device
        adaptor, first, last = nn.Linear(dim, dim, bias=False), nn.Linear(dim, hidden), nn.Linear(hidden, 1, bias=False)
        nn.init.xavier_normal_(adaptor.weight)
    return nn.Sequential(adaptor, nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(), last))


def separation_loss(normal: Tensor, noised: Tensor) -> Tensor:
    """Truncated L1 and focal loss of outputs (N,) that should be below zero and others that should be above."""
    wrong = torch.cat([normal, -noised])  # above zero on the wrong side
    return (torch.relu(wrong + MARGIN) + wrong.sigmoid() ** FOCUS * nn.functional.softplus(wrong)).mean()
