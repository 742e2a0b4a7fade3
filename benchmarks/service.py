"""The service beside `predict` in one process: photographs a second, time of an answer, memory over many requests.

    python benchmarks/service.py                            # built-in teacher at 518 px, 10,000 requests; 10 minutes
    python benchmarks/service.py --photographs 10 --rounds 1 --answers 20 --requests 200      # a look at it
    python benchmarks/service.py --parts memory --requests 1000000 --out soak.json            # a night

Service and callers share the machine. *predict* reads files ahead and predicts them in this process; *service* is sent
the same files by as many callers as it has readers and deciders, in turns with *predict*. Answers are timed at half the
rate that it sustains, one photograph after the other at an even pace, as a camera over a line takes them. Memory is
that of the service's process, with a model that takes the mean: seven of ten requests are one photograph, one is a form
of four, one a file that is none, one refused for its size.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from timing import Timing, photograph, write_times
from tinydefects.data.pixels import read_image, write_png
from tinydefects.data.read_ahead import read_ahead
from tinydefects.detector.detector import Detector
from tinydefects.detector.settings import DetectorSettings
from tinydefects.serve.running import run_service
from tinydefects.serve.service_settings import ServeSettings

PARTS = ("throughput", "latency", "memory")
CALLERS = 4
N_SAMPLES = 40  # of the memory
MOST_MEGABYTES = 16.0
QUICK = "mean"


class Predicts:
    """A detector whose decision is its score."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.settings, self.fingerprint = detector.settings, detector.fingerprint

    def decide(self, image: NDArray[np.uint8]) -> Mapping[str, Any]:
        """The score of a photograph."""
        return {"verdict": "unsure", "score": self.detector.predict(image).score}


class Mean:
    """Decides in no time."""

    settings, fingerprint = DetectorSettings(), QUICK

    def decide(self, image: NDArray[np.uint8]) -> Mapping[str, Any]:
        """The mean value of a photograph."""
        return {"verdict": "pass", "score": float(image.mean())}


def main() -> None:
    """Measure what is asked for and write it."""
    asked = options().parse_args()
    if asked.serve:
        decides = Mean() if asked.serve == QUICK else Predicts(Detector.load(asked.serve, device="cpu"))
        settings = ServeSettings(port=0, most_megabytes=MOST_MEGABYTES)
        run_service(lambda: {"m": decides}, settings, None, ready=lambda address: print(address, flush=True))
        return
    settings_told = {"image": asked.size, "resolution": asked.resolution, "callers": CALLERS, "rounds": asked.rounds}
    content: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        if {"throughput", "latency"} & {*asked.parts}:
            content |= time_detector(Path(folder), asked)
        if "memory" in asked.parts:
            content["memory"] = memory(Path(folder), asked.requests)
            print(content["memory"], flush=True)
    print(write_times("service", settings_told, content, asked.out))


def options() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--resolution", type=int, default=518, help="long side of the teacher's input in pixels")
    parser.add_argument("--size", default="1000x1500", help="of the photographs, height x width")
    parser.add_argument("--photographs", type=int, default=40, help="a round, for the throughput")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken, after one to warm up")
    parser.add_argument("--answers", type=int, default=400, help="that are timed at half load")
    parser.add_argument("--requests", type=int, default=10_000, help="over which memory is looked at")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    return parser


def time_detector(folder: Path, asked: argparse.Namespace) -> dict[str, object]:
    """Photographs a second in this process and through the service, and the time of an answer at half load."""
    height, width = map(int, asked.size.split("x"))
    files = [folder / f"{number}.png" for number in range(4)]
    for number, path in enumerate(files):
        write_png(path, photograph((height, width), seed=number))
    detector = Detector(teacher="builtin", resolution=asked.resolution, epochs=1, seed=0).fit(files)
    detector.save(folder / "model")
    each = list(itertools.islice(itertools.cycle(files), asked.photographs))
    with served(str(folder / "model")) as (address, _):
        variants: dict[str, Callable[[], object]] = {
            "predict": lambda: [Predicts(detector).decide(image) for image in read_ahead(read_image, each)],
            "service": lambda: send(address, each),
        }
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for number, (name, run) in itertools.product(range(asked.rounds + 1), variants.items()):
            start = time.perf_counter()
            run()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
        shares = [one / other for one, other in zip(seconds["predict"], seconds["service"], strict=True)]
        throughput = {
            "photographs_a_second": {
                name: {"median": len(each) / statistics.median(took), "all": [len(each) / one for one in took]}
                for name, took in seconds.items()
            },
            "service_share": {"median": statistics.median(shares), "lowest": min(shares), "highest": max(shares)},
        }
        print(throughput, flush=True)
        pace = 2 * statistics.median(seconds["service"]) / len(each)
        if "latency" not in asked.parts:
            return {"throughput": throughput}
        latency = answer_times(address, files, pace, asked.answers)
        print(latency, flush=True)
        return {"throughput": throughput, "latency": latency}


@contextmanager
def served(model: str) -> Iterator[tuple[str, int]]:
    """A service in a process of its own: its address and that process's id."""
    command = [sys.executable, __file__, "--serve", model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield (process.stdout.readline().strip() if process.stdout else ""), process.pid
        finally:
            process.terminate()


def send(address: str, files: Sequence[Path]) -> None:
    """Send all files, as many at once as there are callers."""
    contents = {path: path.read_bytes() for path in set(files)}
    with httpx2.Client(base_url=address, timeout=600) as client, ThreadPoolExecutor(CALLERS) as callers:
        for answer in callers.map(lambda path: post(client, contents[path]), files):
            answer.raise_for_status()


def post(client: httpx2.Client, content: bytes) -> httpx2.Response:
    """Ask for the decision of one photograph."""
    return client.post("/models/m/image", content=content, headers={"Content-Type": "image/png"})


def answer_times(address: str, files: Sequence[Path], pace: float, n: int) -> dict[str, object]:
    """How long each of `n` answers takes when a photograph is sent every `pace` seconds, whatever is still at hand."""
    contents, all_ms = [path.read_bytes() for path in files], []
    with httpx2.Client(base_url=address, timeout=600) as client, ThreadPoolExecutor(64) as callers:
        begin = time.perf_counter() + 0.1

        def ask(number: int) -> float:
            due = begin + number * pace
            time.sleep(max(0.0, due - time.perf_counter()))
            post(client, contents[number % len(contents)]).raise_for_status()
            return 1000 * (time.perf_counter() - due)  # what is late in sending counts, too

        all_ms = list(callers.map(ask, range(n)))
    median, p99 = statistics.median(all_ms), float(np.quantile(all_ms, 0.99))
    timing = Timing(median_ms=median, lowest_ms=min(all_ms), highest_ms=max(all_ms), all_ms=tuple(all_ms))
    return {"pace_ms": 1000 * pace, "p99_ms": p99, "p99_over_median": p99 / median, **asdict(timing)}


def memory(folder: Path, n_requests: int) -> dict[str, object]:
    """Megabytes of the service's process while it answers so many requests of all kinds."""
    write_png(folder / "small.png", photograph((120, 160)))
    small = (folder / "small.png").read_bytes()
    form = [("photographs", (f"{number}.png", small)) for number in range(4)]
    large = b"\0" * int(MOST_MEGABYTES * 1e6 + 1)
    step, sampled = max(1, n_requests // N_SAMPLES), []

    with served(QUICK) as (address, pid), httpx2.Client(base_url=address, timeout=600) as client:

        def ask(number: int) -> int:
            kind = number % 10
            if kind == 7:
                return client.post("/models/m/batch", files=form).status_code
            if kind == 8:
                return post(client, small[:100]).status_code
            if kind == 9:
                return post(client, large if number % 100 == 9 else b"").status_code
            return post(client, small).status_code

        statuses: dict[int, int] = {}
        start = time.perf_counter()
        with ThreadPoolExecutor(CALLERS) as callers:
            for first in range(0, n_requests, step):
                for status in callers.map(ask, range(first, min(first + step, n_requests))):
                    statuses[status] = statuses.get(status, 0) + 1
                sampled.append(resident_mb(pid))
        seconds = time.perf_counter() - start
    tenth = max(1, len(sampled) // 10)
    early, late = statistics.median(sampled[tenth : 2 * tenth] or sampled), statistics.median(sampled[-tenth:])
    return {
        "requests": n_requests,
        "requests_a_second": n_requests / seconds,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "second_tenth_mb": early,
        "last_tenth_mb": late,
        "growth": late / early - 1,
        "all_mb": sampled,
    }


def resident_mb(pid: int) -> float:
    """Memory of a process that lies in RAM, from Linux."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise ValueError(f"process {pid} has ended")


if __name__ == "__main__":
    main()
