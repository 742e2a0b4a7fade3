"""What every method of the benchmark must do, whichever it is."""

import re
import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from method_samples import samples_of
from tiny_teachers import counting_teacher, tiny_vit, write_weights
from tinydefects.benchmark.estimate import CategorySizes
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Prediction, Sample, mean_of_highest
from tinydefects.detector.settings import DetectorSettings
from tinydefects.detector.teacher import freeze_teacher, load_teacher
from tinydefects.errors import MissingExtraError, ScoreError, TinyDefectsError, TrainingError
from tinydefects.methods.catalog import METHODS, parse_method
from tinydefects.methods.method import STAGES, Method, MethodInputs, StageClock, read_settings
from tinydefects.methods.patches import PatchSource

pytestmark = pytest.mark.slow  # every method learns

TEXTS = {name: name for name, kind in METHODS.items() if not kind.argument}
TEXTS |= {name: f"{name}:epochs=2" for name in METHODS if name.startswith("fbft")}
TEXTS |= {"patchcore": "patchcore:coreset=0.3", "patchcore_hnsw": "patchcore_hnsw:coreset=0.3"}
TEXTS |= {"anomalydino": "anomalydino:n_shot=2", "procon": "procon:coreset=0.3"}
TEXTS |= {"noise_discriminator": "noise_discriminator:steps=100:patches=64:hidden=64"}
ON_PATCHES = [name for name in TEXTS if METHODS[name].uses_teacher]
every_peer = pytest.mark.parametrize("name", TEXTS)


def with_red_spot(sample: Sample) -> Sample:
    image = sample.image()
    image[16:24, 40:48] = (255, 0, 0)
    path = sample.image_path.with_name("spot.png")
    write_png(path, image)
    return replace(sample, image_path=path)


def make(text: str, folder: Path, **inputs) -> Method:
    kind, options = parse_method(text)
    given = {"teacher": counting_teacher, "resolution": 64, "seed": 0, "features_folder": folder / "features"} | inputs
    return kind.make(MethodInputs(**given, options=options))


def fitted(name: str, folder: Path, **inputs) -> Method:
    """Fitted to four textures of 48 x 64 px by a teacher of 8 px patches that costs nothing."""
    peer = make(TEXTS[name], folder, **inputs)
    peer.fit(samples_of(folder, *[(48, 64)] * 4))
    return peer


def equal(one: Prediction, other: Prediction) -> bool:
    return np.array_equal(one.anomaly_map, other.anomaly_map) and one.score == other.score


@every_peer
def test_a_red_spot_is_the_highest_place_of_the_map_and_raises_the_score(name, tmp_path):
    peer = fitted(name, tmp_path)
    (good,) = samples_of(tmp_path, (48, 64), seed=9)
    unlike, like = peer.predict([with_red_spot(good), good])
    row, column = np.unravel_index(unlike.anomaly_map.argmax(), (48, 64))
    assert 12 <= row < 28
    assert 36 <= column < 52
    assert unlike.score > like.score


@every_peer
@pytest.mark.parametrize("learnt", ["one pixel", "all sizes", "one colour"])
def test_images_of_odd_sizes_give_maps_of_their_own_size_or_a_line_that_names_them(name, learnt, tmp_path):
    sizes = [(1, 1), (1, 400), (2, 200), (3, 3), (48, 64)]
    *tiny, usual = samples_of(tmp_path, *sizes)
    write_png(usual.image_path, np.full((48, 64, 3), 90, np.uint8))
    peer = make(TEXTS[name], tmp_path)
    peer.fit({"one pixel": tiny[:1], "all sizes": [*tiny, usual], "one colour": [usual]}[learnt])
    for sample, size in zip([*tiny, usual], sizes, strict=True):
        if name == "fbft_published" and sample in tiny:
            with pytest.raises(ScoreError, match=f"^{re.escape(str(sample.image_path))}: .*take the preset default"):
                peer.predict([sample])
        else:
            (prediction,) = peer.predict([sample])  # which would refuse what is not finite
            assert prediction.anomaly_map.shape == size


@every_peer
def test_the_same_seed_gives_the_same_map_bit_by_bit(name, tmp_path):
    one, again = fitted(name, tmp_path / "one"), fitted(name, tmp_path / "again")
    asked = samples_of(tmp_path, (48, 64), seed=9)
    assert equal(one.predict(asked)[0], again.predict(asked)[0])
    assert dict(one.settings) == dict(again.settings)
    assert one.size_bytes == again.size_bytes


@every_peer
def test_another_seed_changes_the_map_of_those_that_say_so(name, tmp_path):
    asked = samples_of(tmp_path, (48, 64), seed=9)
    one, other = (fitted(name, tmp_path, seed=seed).predict(asked)[0] for seed in (0, 1))
    assert equal(one, other) != METHODS[name].uses_seed


@every_peer
def test_images_of_mixed_sizes_come_back_at_their_own_and_in_their_order_also_under_the_clock(name, tmp_path):
    sizes = [(48, 64), (64, 48), (48, 64), (31, 90)]
    clock = StageClock()
    peer = make(TEXTS[name], tmp_path, clock=clock)
    peer.fit(samples_of(tmp_path, (48, 64), (64, 48), (20, 30)))
    asked = samples_of(tmp_path, *sizes, seed=9)
    alone = [peer.predict([sample])[0] for sample in asked]
    clock.running = True
    together = peer.predict(asked)
    assert [one.anomaly_map.shape for one in together] == sizes
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, rtol=1e-3, atol=1e-4)
    assert {"decode", "map"} <= set(clock.take()) <= set(STAGES)


@every_peer
def test_one_image_is_enough_to_fit(name, tmp_path):
    peer = make(TEXTS[name], tmp_path)
    peer.fit(samples_of(tmp_path, (48, 64)))
    assert peer.predict(samples_of(tmp_path, (48, 64), seed=9))[0].anomaly_map.shape == (48, 64)


@every_peer
def test_what_cannot_do_without_the_search_for_neighbours_says_so(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    without = pytest.raises(MissingExtraError, match="needs the extra 'benchmark'")
    with without if METHODS[name].extra == "benchmark" else nullcontext():
        fitted(name, tmp_path)


@pytest.mark.parametrize("name", ON_PATCHES)
def test_no_image_is_refused_in_one_line(name, tmp_path):
    with pytest.raises(TrainingError, match="there are no training images"):
        make(TEXTS[name], tmp_path).fit([])


@every_peer
def test_the_teacher_is_loaded_only_by_those_that_say_so(name, tmp_path):
    loaded = []

    def teacher():
        loaded.append(name)
        return counting_teacher()

    fitted(name, tmp_path, teacher=teacher).predict(samples_of(tmp_path, (48, 64)))
    assert bool(loaded) == METHODS[name].uses_teacher


@every_peer
def test_the_image_score_is_the_same_function_of_the_map_for_all(name, tmp_path):
    (prediction,) = fitted(name, tmp_path).predict(samples_of(tmp_path, (48, 64), seed=9))
    assert prediction.score == mean_of_highest(prediction.anomaly_map)


@pytest.mark.parametrize("name", ON_PATCHES)
def test_the_teacher_looks_at_each_image_once_for_all_methods(name, tmp_path):
    teacher = counting_teacher()
    asked = samples_of(tmp_path, *[(48, 64)] * 2, seed=9)
    for seed in (0, 1):
        fitted(name, tmp_path, teacher=lambda: teacher, seed=seed).predict(asked)
    assert teacher.model.passes == 4 + 2


@every_peer
def test_the_settings_name_every_option_and_are_text_or_numbers(name, tmp_path):
    _, options = parse_method(TEXTS[name])
    settings = fitted(name, tmp_path).settings
    assert set(options) <= set(settings)
    assert all(isinstance(value, (str, int, float, bool, tuple, type(None))) for value in settings.values())


@pytest.mark.parametrize(
    "name",
    [
        *("fbft:epochs=2", "patchcore", "procon:coreset=0.3", "mh_patchcore", "gaussian", "subspace"),
        "noise_discriminator:steps=20:patches=32:hidden=16",
    ],
)
def test_methods_take_tiles_and_strides_and_name_them_also_under_the_clock(name, tmp_path):
    clock = StageClock()
    peer = make(f"{name}:tile=32:stride=4", tmp_path, clock=clock)
    peer.fit(samples_of(tmp_path, *[(48, 64)] * 3))
    asked = samples_of(tmp_path, (48, 64), (64, 48), (48, 64), seed=9)
    alone = peer.predict(asked)
    assert (peer.settings["tile"], peer.settings["stride"]) == (32, 4)
    assert not equal(alone[0], make_and_fit(name, tmp_path).predict(asked[:1])[0])
    clock.running = True
    for one, other in zip(alone, peer.predict(asked), strict=True):
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, rtol=1e-3, atol=1e-4)
        assert one.score == pytest.approx(other.score, rel=1e-3)


def test_methods_learn_from_every_tile(tmp_path):
    given = {"teacher": counting_teacher, "resolution": 64, "seed": 0, "features_folder": tmp_path / "features"}
    source = PatchSource(MethodInputs(**given, options={"tile": "32"}))
    learnt = source.training(samples_of(tmp_path, (48, 64)))
    tiles = [grid.shape for grid in DetectorSettings(tile=32, resolution=64).passes((48, 64), patch=8).grids]
    assert [earlier.shape[:2] for earlier, _ in learnt] == tiles
    assert len(tiles) == 6


def make_and_fit(text: str, folder: Path) -> Method:
    peer = make(text, folder)
    peer.fit(samples_of(folder, *[(48, 64)] * 3))
    return peer


def test_what_compares_places_of_whole_images_takes_no_tiles(tmp_path):
    with pytest.raises(TinyDefectsError, match="per_position=true compares the same place of whole images"):
        make("gaussian:per_position=true:tile=32", tmp_path)


@pytest.mark.parametrize("name", ["fbft", "patchcore"])
def test_a_real_vit_of_another_patch_size_and_normalisation_serves_as_well(name, tmp_path):
    weights = write_weights(tiny_vit(), tmp_path / "tiny.safetensors")
    peer = fitted(name, tmp_path, teacher=lambda: load_teacher("test_vit", weights=weights, device="cpu"))
    assert peer.predict(samples_of(tmp_path, (48, 64), seed=9))[0].anomaly_map.shape == (48, 64)


@pytest.mark.parametrize("method", ["patchcore:coreset=0.5", "gaussian", "anomalydino"])
def test_methods_on_patches_read_any_number_of_blocks(method, tmp_path):
    """Which of them are scored, `block` says: the first, the last or all, whichever those are."""
    vit = freeze_teacher("test_vit", tiny_vit(), blocks=(3, 5), device="cpu")
    train, asked = samples_of(tmp_path, *[(48, 64)] * 3), samples_of(tmp_path, (48, 64), seed=9)

    def map_of(options: str) -> list[list[float]]:
        peer = make(f"{method}:{options}", tmp_path, teacher=lambda: vit)
        peer.fit(train)
        assert f"blocks={'-'.join(map(str, peer.settings['blocks']))}" in options
        return peer.predict(asked)[0].anomaly_map.tolist()

    assert map_of("blocks=1-3-5:block=earlier") == map_of("blocks=1:block=both")
    assert map_of("blocks=1-3-5:block=later") == map_of("blocks=5:block=earlier")
    maps = [map_of(f"block=both:blocks={blocks}") for blocks in ("1-3-5", "1-5", "3-5", "0-1-3-5")]
    assert all(one != other for one, other in combinations(maps, 2))


def test_the_room_foretold_is_that_of_the_blocks_that_are_read(tmp_path):
    vit = freeze_teacher("test_vit", tiny_vit(), blocks=(3, 5), device="cpu")
    make("subspace:blocks=1-3-5", tmp_path, teacher=lambda: vit).fit(samples_of(tmp_path, *[(48, 64)] * 3))
    _, options = parse_method("subspace:blocks=1-3-5")
    sizes = CategorySizes(train=[(48, 64)] * 3, validation=[], test=[])
    foretold = sizes.workload(vit, read_settings(options, resolution=64)).feature_bytes
    assert foretold == sum(path.stat().st_size for path in (tmp_path / "features").rglob("*.npy"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patchkore", r"^patchkore: no such method; did you mean patchcore\? there are fbft, "),
        ("patchcore:coreste=0.1", r"^patchcore:coreste=0.1: coreste: no such option; did you mean coreset\?"),
        ("patchcore:coreset=2", r"^patchcore:coreset=2: option coreset: .* less than or equal to 1 \(got '2'\)$"),
        ("procon:banks=0", r"^procon:banks=0: option banks: .* greater than 0 \(got '0'\)$"),
        ("procon:coreset=0", r"^procon:coreset=0: option coreset: .* greater than 0 \(got '0'\)$"),
        ("procon:neighbours=5", r"^procon:neighbours=5: neighbours: no such option; .*bank_per_block"),
        ("mh_patchcore:variance=1", r"^mh_patchcore:variance=1: option variance: .* less than 1 \(got '1'\)$"),
        ("mh_patchcore:shrinkage=-1", r"^mh_patchcore:shrinkage=-1: option shrinkage: .* equal to 0 \(got '-1'\)$"),
        (
            "gaussian:channels=9",
            r"^gaussian:channels=9: channels are those of per_position=true: give it, or leave them",
        ),
        ("rad:k_image=0", r"^rad:k_image=0: option k_image: .* greater than 0 \(got '0'\)$"),
        ("rad:radius=-1", r"^rad:radius=-1: option radius: .* equal to 0 \(got '-1'\)$"),
        ("rad:tile=64", r"^rad:tile=64: tile: no such option"),
        ("noise_discriminator:noise=0", r"^noise_discriminator:noise=0: option noise: .* greater than 0 \(got '0'\)$"),
        (
            "noise_discriminator:noise=inf",
            r"^noise_discriminator:noise=inf: option noise: .* finite number \(got 'inf'\)$",
        ),
        ("noise_discriminator:epochs=3", r"^noise_discriminator:epochs=3: epochs: no such option; .*steps"),
        ("patchcore:block=middle", r"option block: .*'earlier', 'later' or 'both'"),
        ("fbft:blocks=7,11", r"option blocks: give blocks from 0, ascending: 7-11"),
        ("fbft:blocks=11", r"^fbft:blocks=11: blocks 11: the students translate two blocks into each other"),
        ("fbft_sum:blocks=3-7-11", r"^fbft_sum:blocks=3-7-11: blocks 3-7-11: the students translate two blocks"),
        ("patchcore:blocks=7-3", r"^patchcore:blocks=7-3: option blocks: give blocks from 0, ascending"),
        ("fbft:epochs=0", r"option epochs: .* greater than 0"),
        ("fbft:tile=0", r"^fbft:tile=0: option tile: .* greater than 0 \(got '0'\)$"),
        ("fbft:overlap=8", r"^fbft:overlap=8: an overlap of 8 px is that of tiles: give a tile"),
        ("fbft_published:tile=64", r"the preset published is one pass over a square"),
        ("fbft:precision=fp8", r"option precision: .*'float16' \(got 'fp8'\)$"),
        ("fbft:preset=published", r"preset: no such option"),
        ("fbft:resolution=64", r"resolution: no such option"),
        ("patchcore:epochs=3", r"epochs: no such option; .*coreset.*tile"),
        ("anomalydino:tile=64", r"tile: no such option"),
        ("local_contrast:tile=64", r"tile: no such option; there are none$"),
        ("local_contrast:sigma=3", r"sigma: no such option; there are none$"),
        ("patchcore:k=1:coreset=0.1:k=3", r"^patchcore:k=1:coreset=0.1:k=3: k is given twice; leave one out$"),
        ("maps:here:folder=there", r"^maps:here:folder=there: folder is given twice; leave one out$"),
        ("anomalib:Padim:model=Patchcore", r"model is given twice; leave one out$"),
        ("subspace:", r"^subspace:: this method is written subspace or subspace:option=value$"),
        ("subspace::block=later", r"this method is written subspace or subspace:option=value$"),
        ("subspace:0.9", r"^subspace:0.9: this method is written subspace or subspace:option=value$"),
    ],
)
def test_a_method_that_cannot_be_is_refused_in_one_line(text, message):
    with pytest.raises(TinyDefectsError, match=message) as caught:
        parse_method(text)
    assert "\n" not in str(caught.value)


def test_options_stand_behind_the_name():
    kind, options = parse_method("patchcore:coreset=0.01:k=3")
    assert kind is METHODS["patchcore"]
    assert options == {"coreset": "0.01", "k": "3"}


@pytest.mark.parametrize("name", ["patchcore", "patchcore_hnsw"])
def test_threads_of_the_neighbour_search_are_those_of_torch_which_keeps_its_own(name, tmp_path):
    """A bank is built by one thread; were that left so, the teacher would be slower with banks than without."""
    faiss = pytest.importorskip("faiss")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        peer = fitted(name, tmp_path)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        peer.predict(samples_of(tmp_path, (48, 64)))
        assert faiss.omp_get_max_threads() == 1
        torch.set_num_threads(2)
        peer.predict(samples_of(tmp_path, (48, 64)))
        assert faiss.omp_get_max_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_guide_lists_every_method():
    guide = (Path(__file__).parents[1] / "docs/compare_methods.md").read_text(encoding="utf-8")
    assert not [name for name in METHODS if f"`{name}`" not in guide and not name.startswith("fbft_")]
