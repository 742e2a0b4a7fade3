"""The second round of the study: what its candidates do, and that its results leave those of the first alone."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

RUNS = Path(__file__).resolve().parents[1] / "runs"
SIDE_PX, PATCH_PX = 64, 8


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(RUNS))
    import study_candidates
    import study_tables

    yield study_candidates, study_tables
    for name in ("study", "study_candidates", "study_tables"):
        sys.modules.pop(name, None)


def picture_of(candidates, image):
    from tinydefects.detector.patch_grid import PatchGrid

    grid = PatchGrid.proportional((SIDE_PX, SIDE_PX), patch=PATCH_PX, resolution=SIDE_PX)
    patches = np.full(grid.shape, 0.1, dtype=np.float32)
    patches[3, 4] = 1.0
    return candidates.Picture(image=image, grid=grid, patches=patches)


def test_the_guided_ratio_moves_a_score_to_where_the_picture_differs_and_no_further(scripts):
    candidates, _ = scripts
    image = np.full((SIDE_PX, SIDE_PX, 3), 120, dtype=np.uint8)
    flat = picture_of(candidates, image)
    (same,) = candidates.maps_of("guided: ratio", [[flat]], [[]], [])
    np.testing.assert_allclose(same, flat.anomaly_map, rtol=1e-2)  # where nothing differs, nothing moves

    marked = image.copy()
    marked[26:30, 34:38] = 240
    (moved,) = candidates.maps_of("guided: ratio", [[picture_of(candidates, marked)]], [[]], [])
    gain = moved / flat.anomaly_map
    assert gain[26:30, 34:38].mean() > 1.05
    np.testing.assert_allclose(gain[:8], 1, rtol=1e-2)  # far from the mark


def test_a_tail_goes_on_where_good_patches_end(scripts):
    candidates, _ = scripts
    rng = np.random.default_rng(0)
    good = candidates.Good([rng.exponential(1.0, (200, 200)) for _ in range(5)])
    shares = good.share_above(np.array([0.5, 5.0, 8.0, 12.0]))
    assert (np.diff(shares) < 0).all()
    assert shares[0] == pytest.approx(np.exp(-0.5), abs=0.02)
    assert shares[2] == pytest.approx(np.exp(-8.0), rel=0.5)


def test_every_peer_finds_what_it_has_learnt_less_odd_than_what_it_has_not(scripts):
    study = importlib.import_module("study")
    generator = torch.Generator().manual_seed(0)
    images = [{block: torch.randn(3, 4, 8, generator=generator).half() for block in (3, 5)} for _ in range(4)]
    odd = {block: 5 + features for block, features in images[0].items()}
    scene = SimpleNamespace(learn=images, test=[images[0], odd])
    for name in study.PEERS:
        usual, higher = study.peer_scores(scene, name, 0)
        assert usual.shape == higher.shape == (3, 4), name
        assert usual.mean() < 0.8 * higher.mean(), name


def test_results_of_the_second_round_leave_the_first_as_it_was(scripts, tmp_path, monkeypatch):
    _, tables = scripts
    file = tmp_path / "study.json"
    file.write_text(json.dumps({"provenance": {}, "choosing": [1], "blind": [2], "differences": [3]}))
    monkeypatch.setattr(tables, "FILE", file)
    lines = tmp_path / "out/second/shipped/leather.jsonl"
    lines.parent.mkdir(parents=True)
    lines.write_text(json.dumps({"candidate": "as it is", "seed": 0, "seconds": 1.0, "aupro_30": 0.5}) + "\n")
    tables.collect(tmp_path / "out")
    found = json.loads(file.read_text())
    assert (found["choosing"], found["blind"], found["differences"]) == ([1], [2], [3])
    row = {"teacher": "shipped", "category": "leather", "candidate": "as it is", "seed": 0, "aupro_30": 0.5}
    assert found["second"]["rows"] == [row]
