"""The part of docs/study.md that is chosen on: python runs/study.py DATA OUT; the blind part is `runs/study_blind.sh`.

DATA is what `runs/study_data.py` made; drawn families are drawn below OUT. Every candidate of every category and seed
is a line of OUT/<teacher>/<category>.jsonl, and those that are there are not computed again: stop it and start it as
you like. Categories are independent of each other: two processes may share the work by `--categories`. Hours on two
cores. `runs/study_tables.py` makes one result file of them.

Features of a category are computed once a teacher and lie in memory (3 GB for the boards); one training of the students
gives the candidates that differ in steps alone.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from study_tables import read_lines
from torch import Tensor, nn

from tinydefects.data.sample import Sample
from tinydefects.datasets.catalog import load_category
from tinydefects.detector.patch_grid import Blur, PatchGrid, Size, image_size
from tinydefects.detector.students import StudentPair, disagreement, pair_loss
from tinydefects.detector.teacher import Teacher, load_teacher
from tinydefects.errors import TinyDefectsError
from tinydefects.methods.gaussian import GaussianOptions, GaussianScorer
from tinydefects.methods.memory_bank import AnomalyDinoOptions, AnomalyDinoScorer, PatchCoreOptions, PatchCoreScorer
from tinydefects.methods.patches import Features, PatchScorer, TrainingFeatures
from tinydefects.metrics import evaluate_arrays

HERE = Path(__file__).resolve().parents[1]
TEACHERS = {
    "shipped": None,
    "two_minutes": HERE / "training" / "candidates" / "two_minutes.safetensors",
    "six_minutes": HERE / "training" / "candidates" / "six_minutes.safetensors",
}
DRAWN = {"size": 384, "n_train": 24, "n_good": 16, "n_defect": 24}
RESOLUTION = {"tiles": 320, "boards": 640, "drawn": 384}
CHOOSING = ("tiles_A", "boards_A", "circuit_board", "leather", "granite")
DRAWN_SEED = 11  # that of the blind families is another
SEEDS = (0, 1, 2)
BLOCKS = (1, 2, 3, 4, 5)  # read of the built-in teacher's six; FBFT's own are 3 and 5
EPOCHS = 50  # of today's default
UNBLURRED = ":unblurred"  # behind the name of a candidate


@dataclass(frozen=True, kw_only=True)
class Students:
    """How students learn and score; what is not said is today's default.

    Attributes:
        steps: after which they are scored; 0 is after 50 epochs.
        pairs: of blocks; scores are averaged over them.
        patches: of one step, drawn from all images; 0 is all of four images.
        width: of the hidden layers, times that of today.
        noise, dropout: on the features that a student reads; noise in units of their standard deviation.
        decay: of the weights. falling: whether the learning rate falls to zero along a cosine.
        members: students trained from other seeds, scores averaged.
    """

    steps: tuple[int, ...] = (200,)
    pairs: tuple[tuple[int, int], ...] = ((3, 5),)
    learning_rate: float = 1e-3
    patches: int = 0
    width: float = 1.0
    noise: float = 0.0
    dropout: float = 0.0
    decay: float = 0.0
    falling: bool = False
    members: int = 1


MIXED = Students(patches=4096)
STUDENTS = {
    "plain": Students(),
    "steps": Students(steps=(120, 400)),
    "today": Students(steps=(0,)),
    "falling": Students(falling=True),
    "mixed": MIXED,
    "mixed_steps": replace(MIXED, steps=(100, 400)),
    "mixed_1024": Students(patches=1024),
    "mixed_falling": replace(MIXED, falling=True),
    "mixed_decay": replace(MIXED, decay=0.1),
    "mixed_noise": replace(MIXED, noise=0.3),
    "mixed_dropout": replace(MIXED, dropout=0.1),
    "mixed_narrow": replace(MIXED, width=0.5),
    "mixed_blocks_2_4": replace(MIXED, pairs=((2, 4),)),
    "mixed_blocks_1_3": replace(MIXED, pairs=((1, 3),)),
    "mixed_blocks_1_5": replace(MIXED, pairs=((1, 5),)),
    "mixed_two_pairs": replace(MIXED, pairs=((3, 5), (1, 3))),
    "mixed_ensemble": replace(MIXED, members=3),
}
PEERS: dict[str, Callable[[int], PatchScorer]] = {
    "gaussian": lambda seed: GaussianScorer(GaussianOptions()),
    "anomalydino": lambda seed: AnomalyDinoScorer(AnomalyDinoOptions(), seed=seed),
    "patchcore": lambda seed: PatchCoreScorer(PatchCoreOptions(neighbourhood=1), seed=seed),
}


class Wide(nn.Module):
    """A pair of students of another width."""

    def __init__(self, dim: int, width: float, seed: int) -> None:
        super().__init__()
        hidden = round(dim * width)
        torch.manual_seed(seed)
        self.to_earlier, self.to_later = (
            nn.Sequential(
                nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, dim)
            )
            for _ in range(2)
        )

    def forward(self, earlier: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        return self.to_earlier(later), self.to_later(earlier)


class Scene:
    """A category seen by one teacher: features of blocks, by number, of images to learn from and to test on."""

    def __init__(
        self, learn: Sequence[Sample], test: Sequence[Sample], teacher: Teacher, resolution: int, kept: Path
    ) -> None:
        self.dim = teacher.dim
        if not kept.is_file():
            features = [[_features(sample, teacher, resolution) for sample in samples] for samples in (learn, test)]
            kept.parent.mkdir(parents=True, exist_ok=True)
            torch.save(features, kept.with_suffix(".part"))
            kept.with_suffix(".part").replace(kept)
        self.learn, self.test = torch.load(kept)
        self.grids = [grid_of(image_size(sample.image()), teacher, resolution) for sample in test]
        self.masks = [sample.mask() for sample in test]
        self.labels = [int(sample.label != "good") for sample in test]

    @cached_property
    def gaussian(self) -> list[Tensor]:
        """Scores (h, w) of each test image."""
        return peer_scores(self, "gaussian", 0)

    def batches(self, pair: tuple[int, int], how: Students, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Features (N, C) of both blocks, without end."""
        shuffle = torch.Generator().manual_seed(seed)
        flat = [tuple(image[block].flatten(0, 1) for block in pair) for image in self.learn]
        if how.patches:
            both = [torch.cat([image[place] for image in flat]) for place in (0, 1)]
            while True:
                chosen = torch.randint(len(both[0]), (how.patches,), generator=shuffle)
                yield both[0][chosen].float(), both[1][chosen].float()
        while True:
            order = torch.randperm(len(flat), generator=shuffle).tolist()
            for places in (order[start : start + 4] for start in range(0, len(order), 4)):
                earlier, later = (torch.cat([flat[place][side] for place in places]) for side in (0, 1))
                yield earlier.float(), later.float()

    def n_steps(self, steps: int) -> int:
        return steps or EPOCHS * math.ceil(len(self.learn) / 4)


def grid_of(size: Size, teacher: Teacher, resolution: int) -> PatchGrid:
    return PatchGrid.proportional(size, patch=teacher.patch_size, resolution=resolution)


def _features(sample: Sample, teacher: Teacher, resolution: int) -> dict[int, Tensor]:
    image = sample.image()
    pixels = grid_of(image_size(image), teacher, resolution).to_pixels(image)
    blocks = teacher.features(teacher.normalise(pixels[None]))
    return {number: block[0].half() for number, block in zip(teacher.blocks, blocks, strict=True)}


def train(scene: Scene, pair: tuple[int, int], how: Students, seed: int) -> Iterator[tuple[int, nn.Module, float]]:
    """After every number of steps that is asked for: that number, the students, seconds of learning."""
    students = StudentPair(scene.dim, seed=seed) if how.width == 1 else Wide(scene.dim, how.width, seed)
    optimizer: torch.optim.Optimizer
    if how.decay:
        optimizer = torch.optim.AdamW(students.parameters(), lr=how.learning_rate, weight_decay=how.decay)
    else:
        optimizer = torch.optim.Adam(students.parameters(), lr=how.learning_rate, fused=True)
    torch.manual_seed(seed)
    marks = {scene.n_steps(steps): steps for steps in how.steps}
    seconds, last = 0.0, max(marks)
    for step, (earlier, later) in zip(range(1, last + 1), scene.batches(pair, how, seed), strict=False):
        begun = time.perf_counter()
        if how.falling:
            for group in optimizer.param_groups:
                group["lr"] = how.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - 1) / last))
        read = [_disturbed(block, how) for block in (earlier, later)]
        loss = pair_loss(earlier, later, *students(*read))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds += time.perf_counter() - begun
        if step in marks:
            yield marks[step], students, seconds


def _disturbed(features: Tensor, how: Students) -> Tensor:
    if how.noise:
        features = features + how.noise * features.std(dim=0) * torch.randn_like(features)
    return F.dropout(features, how.dropout) if how.dropout else features


@torch.inference_mode()
def expected(students: nn.Module, blocks: dict[int, Tensor], pair: tuple[int, int]) -> list[Tensor]:
    """Of one image (h, w, C): both blocks, and what the students expect them to be."""
    earlier, later = (blocks[block].float() for block in pair)
    return [earlier, later, *students(earlier, later)]


def student_scores(scene: Scene, how: Students, seed: int) -> Iterator[tuple[int, dict[str, list[Tensor]], float]]:
    """For every number of steps the scores (h, w) of each test image by way of combining, and seconds."""
    trainings = [train(scene, pair, how, seed + 1000 * member) for pair in how.pairs for member in range(how.members)]
    pairs = [pair for pair in how.pairs for _ in range(how.members)]
    for together in zip(*trainings, strict=True):
        found: dict[str, list[Tensor]] = {"product": [], "sum": [], "with_gaussian": []}
        for blocks, distance in zip(scene.test, scene.gaussian, strict=True):
            seen = [expected(students, blocks, pair) for (_, students, _), pair in zip(together, pairs, strict=True)]
            for combine in ("product", "sum"):
                each = [disagreement(*one, combine=combine) for one in seen]
                found[combine].append(torch.stack(each).mean(dim=0))
            found["with_gaussian"].append(found["product"][-1] * distance)
        yield together[0][0], found, sum(seconds for _, _, seconds in together)


def peer_scores(scene: Scene, name: str, seed: int) -> list[Tensor]:
    def read(image: dict[int, Tensor]) -> list[Features]:
        return [image[block].float().numpy() for block in (3, 5)]

    scorer = PEERS[name](seed)
    shapes = [(image[3].shape[0], image[3].shape[1]) for image in scene.learn]
    scorer.learn(TrainingFeatures(lambda place: read(scene.learn[place]), shapes))
    return [
        torch.from_numpy(scorer.patch_scores([features[None] for features in read(image)])[0]) for image in scene.test
    ]


def measured(scene: Scene, scores: Sequence[Tensor], blur: Blur) -> dict[str, float]:
    """The numbers of docs/study.md, and image AUROC for other scores of an image."""
    drawn = zip(scene.grids, scores, strict=True)
    maps = [replace(grid, blur=blur).to_image(one.numpy()) for grid, one in drawn]
    image_scores = {
        "highest": [one.max() for one in maps],
        "highest_1_percent": [np.sort(one, axis=None)[-max(1, one.size // 100) :].mean() for one in maps],
        "highest_patch": [one.max() for one in scores],
    }
    return measured_maps(scene.masks, maps, scene.labels) | {
        f"image_auroc_{name}": float(roc_auc_score(scene.labels, given)) for name, given in image_scores.items()
    }


def measured_maps(
    masks: Sequence[NDArray[np.bool_]], maps: Sequence[NDArray[np.float32]], labels: Sequence[int]
) -> dict[str, float]:
    """The numbers of docs/study.md."""
    found = evaluate_arrays(masks, maps, labels=labels, n_resamples=0, fpr_limits=(0.3, 0.05))
    smallest = found.cumulative[0].aupro
    return {
        "aupro_30": found.overall.aupro[0],
        "aupro_5": found.overall.aupro[1],
        "aupro_Q1_30": smallest[0],
        "aupro_Q1_5": smallest[1],
        "rho_30": found.rho[0],
        "image_auroc": found.image_auroc,
    }


def category(name: str, data: Path, drawn: Path) -> tuple[Sequence[Sample], Sequence[Sample], int]:
    """Samples to learn from and to test on, and the long side in pixels at which they are seen."""
    kind = name.split("_")[0]
    if kind in ("tiles", "boards"):
        found = load_category(f"folder/{name}", root=data)
        return found.train, found.test, RESOLUTION[kind]
    found = load_category(f"synthetic/{name}", root=drawn, seed=DRAWN_SEED, **DRAWN)
    return found.train, found.test, RESOLUTION["drawn"]


class Book:
    """The lines of one category with one teacher."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = read_lines(path) if path.is_file() else []
        self._known = {(one["candidate"], one["seed"]) for one in lines}

    def lacks(self, candidate: str, seed: int) -> bool:
        return (candidate, seed) not in self._known

    def write(self, candidate: str, seed: int, **values: object) -> None:
        self._known.add((candidate, seed))
        with self._path.open("a") as file:
            file.write(json.dumps({"candidate": candidate, "seed": seed, **values}) + "\n")
        told = [values.get(name) for name in ("aupro_30", "aupro_Q1_5", "image_auroc")]
        print(self._path.parent.name, self._path.stem, candidate, seed, *told, flush=True)


def write(scene: Scene, book: Book, candidate: str, seed: int, scores: Sequence[Tensor], seconds: float) -> None:
    drawn: tuple[tuple[str, Blur], ...] = (("", "reflect"), (UNBLURRED, "none"))
    for name, blur in drawn:
        book.write(candidate + name, seed, seconds=seconds, **measured(scene, scores, blur))


def study(scene: Scene, book: Book, candidates: Sequence[str], seeds: Sequence[int]) -> None:
    """Every candidate and seed that the book lacks."""
    for seed in seeds:
        for name in candidates:
            if name in PEERS:
                if book.lacks(name + UNBLURRED, seed) and seed == 0:
                    begun = time.perf_counter()
                    scores = peer_scores(scene, name, seed)
                    write(scene, book, name, seed, scores, time.perf_counter() - begun)
                continue
            how = STUDENTS[name]
            left = tuple(steps for steps in how.steps if book.lacks(f"{name}:{steps}:product{UNBLURRED}", seed))
            for steps, ways, seconds in student_scores(scene, replace(how, steps=left), seed) if left else ():
                for combine in reversed(ways):  # the product is last: its line says that all are there
                    write(scene, book, f"{name}:{steps}:{combine}", seed, ways[combine], seconds)


def some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Reads names between commas."""

    def names(text: str) -> list[str]:
        found = text.split(",")
        for name in set(found) - set(known):
            raise argparse.ArgumentTypeError(f"no {name!r}; there are {', '.join(known)}")
        return found

    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--teachers", type=some_of(TEACHERS), default=",".join(TEACHERS))
    parser.add_argument("--categories", type=some_of(CHOOSING), default=",".join(CHOOSING))
    parser.add_argument("--candidates", type=some_of((*STUDENTS, *PEERS)), default=",".join(("plain", *PEERS)))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for teacher_name in given.teachers:
        for name in given.categories:
            book = Book(given.out / teacher_name / f"{name}.jsonl")
            teacher = load_teacher("builtin", weights=TEACHERS[teacher_name], blocks=BLOCKS, device="cpu")
            learn, test, resolution = category(name, given.data, given.out)
            kept = given.out / "features" / f"{teacher_name}_{name}.pt"
            study(Scene(learn, test, teacher, resolution, kept), book, given.candidates, given.seeds)


if __name__ == "__main__":
    try:
        main()
    except TinyDefectsError as error:
        sys.stderr.write(f"study: {error}\n")
        sys.exit(2)
