"""What methods take beside a pass of the teacher: to learn from an image, to score one, and once.

    python benchmarks/efforts.py                  # about three minutes on one core
    python benchmarks/efforts.py --methods rad,procon --rounds 1

Seconds of the processor, on one thread, so that what else runs on the machine counts for little; each is divided by a
pass of the built-in teacher over the same image in the same round, and the median of the rounds is kept. Features lie
on the disk already, as in a benchmark, where the first method leaves them to the others.

`learning` is what 16 images take, by image; a bank that is thinned grows until it is full, and takes more an image the
more there are. `once` are the steps of a network that is trained for a fixed number of them, from a few steps and more.
`against` is by how much scoring grows with each image that was learnt from.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from timing import photograph, write_times
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Sample
from tinydefects.detector.devices import limited_threads
from tinydefects.detector.patch_grid import PatchGrid
from tinydefects.detector.teacher import Teacher, load_teacher
from tinydefects.methods.catalog import parse_method
from tinydefects.methods.method import Method, MethodInputs

SIDE_PX, FEW, MORE, ROUNDS = 384, 4, 16, 3
METHODS = "gaussian,subspace,patchcore,procon,mh_patchcore,rad,noise_discriminator"
NETWORK, STEPS, FEW_STEPS, MORE_STEPS = "noise_discriminator", 1000, 20, 80


def seconds(run: Callable[[], object]) -> float:
    """Of the processor."""
    start = time.process_time()
    run()
    return time.process_time() - start


class Bench:
    """Images and their features in a folder, and a teacher."""

    def __init__(self, folder: Path, teacher: Teacher) -> None:
        self.folder, self.teacher = folder, teacher
        self.images = [self._sample(number) for number in range(MORE + 1)]
        grid = PatchGrid.proportional((SIDE_PX, SIDE_PX), patch=teacher.patch_size, resolution=SIDE_PX)
        self.patches = teacher.normalise(grid.to_pixels(photograph((SIDE_PX, SIDE_PX)))[None])
        warm = self.make("gaussian")
        warm.fit(self.images[:MORE])
        warm.predict(self.images[MORE:])

    def _sample(self, number: int) -> Sample:
        path = self.folder / f"{number}.png"
        write_png(path, photograph((SIDE_PX, SIDE_PX), seed=number))
        return Sample(id=f"train/good/{number}", image_path=path, label="good")

    def make(self, text: str) -> Method:
        kind, options = parse_method(text)
        inputs = MethodInputs(
            teacher=lambda: self.teacher,
            resolution=SIDE_PX,
            seed=0,
            features_folder=self.folder / "features",
            device="cpu",
            options=options,
        )
        return kind.make(inputs)

    def effort(self, name: str) -> dict[str, float]:
        """One round: seconds of `learning`, `scoring`, `once` and `against`, in passes of the teacher."""
        one_pass = min(seconds(lambda: self.teacher.features(self.patches)) for _ in range(3))
        trained = name == NETWORK
        runs = [(f"{name}:steps={FEW_STEPS}" if trained else name, n_images) for n_images in (FEW, MORE)]
        runs += [(f"{name}:steps={MORE_STEPS}", MORE)] if trained else []
        learnt, scored = [], []
        for text, n_images in runs:
            method = self.make(text)
            learnt.append(seconds(partial(method.fit, self.images[:n_images])) / one_pass)
            scored.append(min(seconds(partial(method.predict, self.images[MORE:])) for _ in range(2)) / one_pass)
        a_step = (learnt[-1] - learnt[1]) / (MORE_STEPS - FEW_STEPS)  # nothing where there are none
        learning = (learnt[1] - FEW_STEPS * a_step) / MORE
        once = STEPS * a_step
        against = max(0.0, (scored[1] - scored[0]) / (MORE - FEW)) if name == "rad" else 0.0
        scoring = scored[1] - MORE * against
        return {"pass_ms": 1000 * one_pass, "learning": learning, "scoring": scoring, "once": once, "against": against}


def measure(names: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    """By method, the median of each number over the rounds; a round goes through all methods."""
    with tempfile.TemporaryDirectory() as folder, limited_threads(1):
        bench = Bench(Path(folder), load_teacher("builtin", device="cpu"))
        all_rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for number in range(rounds):
            for name in names:
                all_rounds[name].append(bench.effort(name))
                print(number, name, {key: round(value, 3) for key, value in all_rounds[name][-1].items()}, flush=True)
    return {name: {key: median(one[key] for one in each) for key in each[0]} for name, each in all_rounds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="default: results/benchmarks/efforts.json")
    asked = parser.parse_args()
    efforts = measure(asked.methods.split(","), asked.rounds)
    settings = {"teacher": "builtin", "resolution": SIDE_PX, "few": FEW, "more": MORE, "rounds": asked.rounds}
    print(write_times("efforts", {**settings, "device": "cpu", "timed": "processor"}, {"passes": efforts}, asked.out))


if __name__ == "__main__":
    main()
