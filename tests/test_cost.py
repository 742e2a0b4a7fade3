import gc
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tinydefects.benchmark.cost import measure_cost
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Sample
from tinydefects.datasets.catalog import load_category
from tinydefects.detector.devices import DeviceMemory, memory_of
from tinydefects.detector.teacher import load_teacher
from tinydefects.errors import TinyDefectsError
from tinydefects.methods.catalog import parse_method
from tinydefects.methods.method import MethodInputs, StageClock

PLENTY = DeviceMemory(reset_peak=lambda: None, peak_bytes=lambda: 7000, free_bytes=lambda: 10**12)


@pytest.fixture(autouse=True)
def plenty(monkeypatch):
    """A device whose memory says the same whatever else the tests hold."""
    monkeypatch.setattr("tinydefects.benchmark.cost.memory_of", lambda device: PLENTY)


class SteadyPeer:
    """Takes seconds that are known beforehand, on a clock that stands still in between."""

    size_bytes = 321
    settings: dict[str, object] = {}  # noqa: RUF012 - a stand-in

    def __init__(self, monkeypatch, *, seconds=lambda batch: 0.01 * batch):
        self.now, self.seconds, self.shown = 0.0, seconds, []
        self.clock = StageClock()
        watch = SimpleNamespace(perf_counter=lambda: self.now)
        for module in ("methods.method", "benchmark.cost"):
            monkeypatch.setattr(f"tinydefects.{module}.time", watch)

    def fit(self, samples):
        raise AssertionError("a fitted method is timed")

    def predict(self, samples):
        assert self.clock.running
        self.shown.append([sample.id for sample in samples])
        seconds = self.seconds(len(samples))
        with self.clock("teacher"):
            self.now += 0.75 * seconds
        with self.clock("map"):
            self.now += 0.25 * seconds
        return []


def samples_of(folder, *sides):
    for number, side in enumerate(sides):
        write_png(folder / f"{number}.png", np.zeros((side, 20), dtype=np.uint8))
    paths = [folder / f"{number}.png" for number in range(len(sides))]
    return [Sample(id=f"train/good/{n}", image_path=path, label="good") for n, path in enumerate(paths)]


def measure(method, samples, **options):
    return measure_cost(method, samples, clock=method.clock, device="cpu", threads=1, teacher_bytes=5, **options)


def test_stages_add_up_to_end_to_end(monkeypatch, tmp_path):
    sheet = measure(SteadyPeer(monkeypatch), samples_of(tmp_path, 8))
    assert list(sheet.stages) == ["teacher", "map"]
    assert sheet.stages["teacher"].median_ms == pytest.approx(7.5)
    assert sheet.end_to_end.median_ms == pytest.approx(sum(one.median_ms for one in sheet.stages.values()))
    assert (sheet.end_to_end.n, sheet.n_warmup) == (10, 3)
    assert (sheet.device, sheet.threads, sheet.teacher_bytes, sheet.method_bytes) == ("cpu", 1, 5, 321)
    assert (sheet.image_size, sheet.peak_memory_bytes) == ((8, 20), 7000)


def test_the_median_and_quartiles_are_those_of_the_passes_after_the_warm_up(monkeypatch, tmp_path):
    seconds = iter([9.0, 9.0, 9.0, *(0.001 * n for n in range(1, 11)), *[9.0] * 100])
    sheet = measure(SteadyPeer(monkeypatch, seconds=lambda batch: next(seconds)), samples_of(tmp_path, 8))
    assert sheet.end_to_end.median_ms == pytest.approx(5.5)
    assert (sheet.end_to_end.low_ms, sheet.end_to_end.high_ms) == pytest.approx((3.25, 7.75))


@pytest.mark.parametrize(
    ("seconds", "sizes", "best"),
    [
        (lambda batch: 0.01 * batch, [1, 2], 1),
        (lambda batch: 0.01 + 0.002 * batch, [1, 2, 4, 8, 16], 16),
        (lambda batch: 0.01 + 0.002 * batch + 0.01 * (batch > 4) * batch, [1, 2, 4, 8], 4),
    ],
)
def test_batches_grow_while_an_image_gets_cheaper(monkeypatch, tmp_path, seconds, sizes, best):
    sheet = measure(SteadyPeer(monkeypatch, seconds=seconds), samples_of(tmp_path, 8))
    assert list(sheet.by_batch) == sizes
    assert sheet.best_batch == best
    assert sheet.by_batch[2].median_ms == pytest.approx(1000 * seconds(2) / 2)


def test_batches_stop_growing_before_memory_ends(monkeypatch, tmp_path):
    held = iter([100, 600])
    tight = DeviceMemory(reset_peak=lambda: None, peak_bytes=lambda: next(held), free_bytes=lambda: 1900)
    monkeypatch.setattr("tinydefects.benchmark.cost.memory_of", lambda device: tight)
    peer = SteadyPeer(monkeypatch, seconds=lambda batch: 0.01 + 0.002 * batch)
    assert list(measure(peer, samples_of(tmp_path, 8)).by_batch) == [1, 2]  # four images of 500 bytes do not fit


def test_only_images_of_the_most_frequent_size_are_timed(monkeypatch, tmp_path):
    peer = SteadyPeer(monkeypatch)
    assert measure(peer, samples_of(tmp_path, 9, 8, 7, 8)).image_size == (8, 20)
    assert {name for batch in peer.shown for name in batch} == {"train/good/1", "train/good/3"}
    assert peer.shown[13] == ["train/good/1", "train/good/3"]  # the first batch of two


def test_mvtecs_protocol_warms_up_with_a_thousand_images_and_times_a_thousand(monkeypatch, tmp_path):
    peer = SteadyPeer(monkeypatch)
    sheet = measure(peer, samples_of(tmp_path, 8), mode="mvtec")
    assert (sheet.n_warmup, sheet.end_to_end.n) == (1000, 1000)
    assert sum(len(batch) == 1 for batch in peer.shown) == 2000


def test_the_clock_is_left_stopped_even_by_a_peer_that_fails(monkeypatch, tmp_path):
    peer = SteadyPeer(monkeypatch, seconds=lambda batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure(peer, samples_of(tmp_path, 8))
    assert not peer.clock.running


def test_the_device_has_finished_before_the_clock_is_read(monkeypatch, tmp_path):
    peer = SteadyPeer(monkeypatch)

    def synchronise():
        peer.now += 1.0

    peer.clock.synchronise = synchronise
    sheet = measure(peer, samples_of(tmp_path, 8))
    assert sheet.stages["map"].median_ms == pytest.approx(1002.5)
    assert sheet.end_to_end.median_ms == pytest.approx(3010)


def test_no_image_and_an_unknown_protocol_are_refused(monkeypatch, tmp_path):
    with pytest.raises(TinyDefectsError, match="no training image"):
        measure(SteadyPeer(monkeypatch), [])
    with pytest.raises(TinyDefectsError, match="quick or mvtec, not 'slow'"):
        measure(SteadyPeer(monkeypatch), samples_of(tmp_path, 8), mode="slow")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("local_contrast", {"decode", "map"}),
        ("subspace", {"decode", "resize", "transfer", "teacher", "method", "map"}),
        ("fbft", {"decode", "resize", "transfer", "teacher", "method", "map"}),
    ],
)
def test_a_real_peer_is_timed_at_every_stage_it_has(tmp_path, name, stages):
    scene = load_category("synthetic/brushed_metal", root=tmp_path, size=64, n_train=2, n_good=1, n_defect=1)
    clock = StageClock()
    kind, _ = parse_method(name)
    inputs = MethodInputs(
        teacher=lambda: load_teacher("builtin", device="cpu"),
        resolution=64,
        seed=0,
        features_folder=tmp_path / "features",
        clock=clock,
    )
    peer = kind.make(inputs)
    peer.fit(scene.train)
    sheet = measure_cost(peer, scene.train, clock=clock, device="cpu", threads=1, teacher_bytes=0)
    assert set(sheet.stages) >= stages
    assert sheet.by_batch.keys() >= {1, 2}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak")
def test_the_peak_is_what_was_held_since_the_reset():
    memory = memory_of("cpu")
    memory.reset_peak()
    before = memory.peak_bytes()
    block = np.ones(40_000_000, dtype=np.uint8)
    assert memory.peak_bytes() - before > 30e6
    del block
    gc.collect()
    memory.reset_peak()
    assert memory.peak_bytes() - before < 10e6
    assert memory.free_bytes() > 0
