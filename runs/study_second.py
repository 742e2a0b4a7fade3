"""The second round of docs/study.md: python runs/study_second.py DATA OUT, both as for runs/study.py.

First the scores of all patches, of every method, size of input and seed, kept below OUT/scores; then the candidates of
`study_candidates.py`, which are made of them and of the pictures, as lines of OUT/second/<teacher>/<category>.jsonl.
What is there is not computed again.
"""

import argparse
import copy
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from sklearn.metrics import roc_auc_score
from study import (
    CHOOSING,
    MIXED,
    SEEDS,
    TEACHERS,
    Book,
    Scene,
    category,
    expected,
    grid_of,
    measured_maps,
    peer_scores,
    some_of,
    train,
)
from study_candidates import MAPS, Good, Picture, image_scores, maps_of
from torch import Tensor

from tinydefects.data.sample import Sample
from tinydefects.detector.patch_grid import image_size
from tinydefects.detector.students import disagreement
from tinydefects.detector.teacher import Teacher, load_teacher
from tinydefects.errors import TinyDefectsError

PAIR = (3, 5)
METHODS = ("fbft", "gaussian")
Scored = dict[str, list[Tensor]]  # patches (h, w) of images: test; good ones seen while learning; good ones unseen


def learn_and_score(scene: Scene, method: str, seed: int, *, held_out: bool) -> Scored:
    """Scores of all images; `unseen` is every other good one, by what the rest of them taught."""

    def judged(learn: Sequence[dict[int, Tensor]], images: Sequence[dict[int, Tensor]]) -> list[Tensor]:
        part = copy.copy(scene)
        part.learn, part.test = learn, images
        if method == "gaussian":
            return peer_scores(part, "gaussian", seed)
        *_, (_, students, _) = train(part, PAIR, MIXED, seed)
        return [disagreement(*expected(students, blocks, PAIR)) for blocks in images]

    good, n_test = list(scene.learn), len(scene.test)
    both = judged(good, [*scene.test, *good])
    unseen = judged(good[::2], good[1::2]) if held_out else []
    return {"test": both[:n_test], "seen": both[n_test:], "unseen": unseen}


class Place:
    """One teacher and category."""

    def __init__(self, data: Path, out: Path, teacher: str, name: str) -> None:
        self.out, self.teacher, self.name = out, teacher, name
        self.learn, self.test, self.resolution = category(name, data, out)
        self._scenes: dict[float, Scene] = {}

    def scored(self, method: str, seed: int, size: float = 1.0) -> Scored:
        """Patch scores of one method, computed once; `size` is that of the input, 1 that of the first round."""
        at = "" if size == 1 else f"_x{size:g}"
        path = self.out / "scores" / f"{self.teacher}_{self.name}{at}_{method}_{seed}.pt"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            found = learn_and_score(self._scene(size, at), method, seed, held_out=size == 1 and seed == 0)
            torch.save(found, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
            print(time.strftime("%H:%M:%S"), path.stem, flush=True)
        scored: Scored = torch.load(path)
        return scored

    def pictures(self, samples: Sequence[Sample], scores: Sequence[Tensor], size: float = 1.0) -> list[Picture]:
        """What candidates are made of, image by image."""
        teacher, found = self._teacher(), []
        for sample, one in zip(samples, scores, strict=True):
            image = sample.image()
            grid = grid_of(image_size(image), teacher, round(size * self.resolution))
            found.append(Picture(image=image, grid=grid, patches=one.numpy()))
        return found

    def _teacher(self) -> Teacher:
        return load_teacher("builtin", weights=TEACHERS[self.teacher], blocks=PAIR, device="cpu")

    def _scene(self, size: float, at: str) -> Scene:
        if size not in self._scenes:
            self._scenes.clear()  # features of one size at a time: gigabytes
            kept = self.out / "features" / f"{self.teacher}_{self.name}{at}.pt"
            resolution = round(size * self.resolution)
            self._scenes[size] = Scene(self.learn, self.test, self._teacher(), resolution, kept)
        return self._scenes[size]


def write_scores(place: Place, book: Book, method: str, seed: int) -> None:
    """Image AUROC of every score of an image, in one line."""
    name = f"scores of {method}"
    if not book.lacks(name, seed):
        return
    scored = place.scored(method, seed)
    good = Good([one.numpy() for one in scored["unseen"]]) if scored["unseen"] else None
    pictures = place.pictures(place.test, scored["test"])
    found = [image_scores(one, good) for one in pictures]
    labels = [int(sample.label != "good") for sample in place.test]
    book.write(name, seed, **{rule: float(roc_auc_score(labels, [one[rule] for one in found])) for rule in found[0]})


def write_maps(place: Place, book: Book, method: str, candidates: Sequence[str], seed: int) -> None:
    """The numbers of every kind of map that is asked for, a line each."""
    of_method = "" if method == "fbft" else f" ({method})"
    masks = [sample.mask() for sample in place.test]
    labels = [int(sample.label != "good") for sample in place.test]
    for name in candidates:
        if book.lacks(name + of_method, seed):
            sizes = [1.0, *MAPS[name]]
            scored = [place.scored(method, seed, size) for size in sizes]
            pictures = [place.pictures(place.test, one["test"], size) for one, size in zip(scored, sizes, strict=True)]
            begun = time.perf_counter()
            maps = maps_of(name, pictures, [one["seen"] for one in scored], place.learn)
            seconds = time.perf_counter() - begun
            book.write(name + of_method, seed, seconds=seconds, **measured_maps(masks, maps, labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--teachers", type=some_of(TEACHERS), default="six_minutes,shipped")
    parser.add_argument("--categories", type=some_of(CHOOSING), default=",".join(CHOOSING))
    parser.add_argument("--methods", type=some_of(METHODS), default=",".join(METHODS))
    parser.add_argument("--maps", type=some_of(("none", *MAPS)), default=",".join(MAPS))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for teacher in given.teachers:
        for name in given.categories:
            place = Place(given.data, given.out, teacher, name)
            book = Book(given.out / "second" / teacher / f"{name}.jsonl")
            for seed in given.seeds:
                for method in given.methods:
                    if method == "fbft" or seed == 0:  # a Gaussian is the same for every seed
                        write_scores(place, book, method, seed)
                        write_maps(place, book, method, [one for one in given.maps if one != "none"], seed)


if __name__ == "__main__":
    try:
        main()
    except TinyDefectsError as error:
        sys.stderr.write(f"study_second: {error}\n")
        sys.exit(2)
