import dataclasses
import json
from contextlib import ExitStack
from functools import partial

import numpy as np
import pytest

from random_category import random_pairs, random_samples
from tinydefects.benchmark.part_file import read_part, write_part
from tinydefects.errors import DatasetError, ResultError
from tinydefects.metrics.evaluation import evaluate, evaluate_gathered
from tinydefects.metrics.parts import gather_part, merge_parts, share_of
from tinydefects.metrics.size import SizeBins
from tinydefects.metrics.spool import ScoreSpool
from tinydefects.pixels import write_png
from tinydefects.sample import Prediction

SETTINGS = {
    "category": "any/one",
    "bins": SizeBins(unit="area_px", edges=(4, 20)),
    "threshold": 1.5,
    "image_threshold": 2.5,
    "n_resamples": 50,
    "fpr_limits": (0.3, 0.05, 0.001),
}
N_EXHIBITS = 6


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Nine good and nine defective images of a few scenes, one of them without a mark; many scores tie."""
    samples = random_samples(tmp_path_factory.mktemp("images"), n_good=9, n_defective=9, n_scenes=5)
    write_png(samples[12].mask_paths[0], np.zeros_like(samples[12].mask()))
    return [
        (sample, Prediction(np.round(one.anomaly_map, 1), round(one.score, 1))) for sample, one in random_pairs(samples)
    ]


def to_the_bit(value):
    """A form in which equal means that every bit is equal."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_the_bit(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, dict):
        return {name: to_the_bit(inner) for name, inner in value.items()}
    return [to_the_bit(inner) for inner in value] if isinstance(value, tuple) else repr(value)


def gather_in_memory(stack, pairs, positions, **changes):
    settings = {"n_images": len(pairs), "category": "any/one", "n_exhibits": N_EXHIBITS, "contrast": True, **changes}
    spool = stack.enter_context(ScoreSpool())
    return gather_part([pairs[position] for position in positions], spool, positions=positions, **settings)


def split(n_images, n_parts, random):
    """Any positions in any part, none of which is empty."""
    owner = random.permutation([*range(n_parts), *random.integers(0, n_parts, n_images - n_parts)])
    return [np.flatnonzero(owner == part).tolist() for part in range(n_parts)]


@pytest.mark.parametrize("n_parts", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "on disk"])
def test_parts_of_any_images_in_any_order_give_the_bits_of_one_pass(pairs, n_parts, stored, tmp_path):
    random = np.random.default_rng(n_parts)
    whole = evaluate(pairs, n_exhibits=N_EXHIBITS, contrast=True, **SETTINGS)
    assert 0 < len(whole.exhibits) <= N_EXHIBITS < len(whole.defects)
    assert whole.n_unmarked_images == 1
    for _ in range(1 if stored else 3):
        with ExitStack() as stack:
            parts = [gather_in_memory(stack, pairs, positions) for positions in split(len(pairs), n_parts, random)]
            if stored:
                folders = [write_part(part, tmp_path / str(number)) for number, part in enumerate(parts)]
                parts = [stack.enter_context(read_part(folder)) for folder in folders]
            random.shuffle(parts)
            merged = evaluate_gathered(partial(merge_parts, parts), **SETTINGS)
        assert to_the_bit(merged) == to_the_bit(whole)


def test_a_part_without_good_or_without_defective_images_is_a_part(pairs):
    whole = evaluate(pairs, n_exhibits=0, **SETTINGS)
    with ExitStack() as stack:
        good, defective = (
            gather_in_memory(stack, pairs, positions, n_exhibits=0, contrast=False)
            for positions in (range(9), range(9, 18))
        )
        merged = evaluate_gathered(partial(merge_parts, [defective, good]), **SETTINGS)
    assert to_the_bit(merged) == to_the_bit(whole)


def test_shares_hold_every_image_once_and_mix_the_types():
    assert [list(share_of(7, number, 3)) for number in (1, 2, 3)] == [[0, 3, 6], [1, 4], [2, 5]]
    for number, n_parts in ((0, 3), (4, 3), (8, 9)):
        with pytest.raises(DatasetError, match="7 test images make 7 parts at most"):
            share_of(7, number, n_parts)


def test_parts_that_do_not_make_a_whole_are_refused(pairs):
    with ExitStack() as stack:
        first, second = (gather_in_memory(stack, pairs, share_of(len(pairs), number, 2)) for number in (1, 2))
        other = gather_in_memory(stack, pairs, share_of(len(pairs), 2, 2), contrast=False)
        for parts, message in (
            ([], "there are no parts"),
            ([first], r"any/one: no part has images 1, 3, 5, 7, 9, … of 18"),
            ([first, second, first], "any/one: image 0 is in two parts"),
            ([first, other], "gather all alike"),
        ):
            with pytest.raises(ResultError, match=message):
                merge_parts(parts, stack.enter_context(ScoreSpool()))


def test_positions_ascend_and_are_as_many_as_images(pairs):
    with ScoreSpool() as spool:
        for positions in ([1, 0], [0, 0], [0, 18], [-1, 3]):
            with pytest.raises(DatasetError, match="ascend from 0 to 17"):
                gather_part(pairs[:2], spool, positions=positions, n_images=18)
        with pytest.raises(DatasetError, match="2 images came for 3 positions"):
            gather_part(pairs[:2], spool, positions=[0, 1, 2], n_images=18)


@pytest.fixture
def stored(pairs, tmp_path):
    with ExitStack() as stack:
        return write_part(gather_in_memory(stack, pairs, range(18)), tmp_path / "part")


def test_a_part_that_is_not_whole_is_refused(stored):
    def reason():
        with pytest.raises(ResultError) as refused, read_part(stored):
            pass
        return str(refused.value)

    for name in ("part.f32", "part.npz", "part.json"):
        whole = (stored / name).read_bytes()
        (stored / name).write_bytes(whole[:-8])
        assert reason().startswith(str(stored / name))
        (stored / name).unlink()
        assert reason().startswith(str(stored / name))
        (stored / name).write_bytes(whole)
    scores = (stored / "part.f32").read_bytes()
    (stored / "part.f32").write_bytes(scores[:40] + b"\x00" + scores[41:])
    assert "was changed after it was written" in reason()


def test_a_part_of_another_version_says_so(stored):
    header = json.loads((stored / "part.json").read_text())
    (stored / "part.json").write_text(json.dumps({**header, "format": 9}))
    with pytest.raises(ResultError, match="has format 9, this version reads 2"), read_part(stored):
        pass


def test_a_kill_while_a_part_is_written_over_leaves_the_earlier_one(stored, pairs, monkeypatch):
    before = {path.name: path.read_bytes() for path in stored.iterdir()}
    monkeypatch.setattr(np, "savez_compressed", lambda *arrays, **named: 1 / 0)
    with ExitStack() as stack, pytest.raises(ZeroDivisionError):
        write_part(gather_in_memory(stack, pairs, range(18)), stored)
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == before
    with read_part(stored) as part:
        assert part.n_images == 18
