"""Models of anomalib through the benchmark's door; needs the extra `anomalib`, no network and no weights."""

import hashlib
import importlib.util
import inspect
import random
import signal
import socket
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from method_samples import samples_of
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Sample
from tinydefects.detector.networks import load_timm
from tinydefects.detector.students import StudentPair
from tinydefects.errors import MissingExtraError, ScoreError, TinyDefectsError, TrainingError
from tinydefects.methods.anomalib_library import load_models, own_chance
from tinydefects.methods.anomalib_method import AnomalibMethod, AnomalibOptions, BatchesOfOneSize
from tinydefects.methods.catalog import parse_method
from tinydefects.methods.discriminator import untrained
from tinydefects.methods.known_methods import ANOMALIB_MODELS, NO_MAP, NOT_FROM_NORMALS, AnomalibModel
from tinydefects.methods.method import MethodInputs

installed = importlib.util.find_spec("anomalib") is not None
needs_anomalib = pytest.mark.skipif(not installed, reason="the extra 'anomalib' is not installed")
needs_its_absence = pytest.mark.skipif(installed, reason="anomalib is installed")
RUNNING = {  # the smallest that each takes
    "AnomalyDINO": "image_size=112",
    "Cfa": "backbone=resnet18:image_size=64",
    "Cflow": "backbone=resnet18",
    "Csflow": "image_size=128",
    "Dfm": "backbone=resnet18:image_size=64",
    "Dinomaly": "backbone=vit_small_patch14_reg4_dinov2:image_size=112:crop=98",
    "Draem": "pictures={pictures}:image_size=64",
    "Dsr": "image_size=64",
    "EfficientAd": "pictures={pictures}",
    "Fastflow": "image_size=64",
    "FoundAD": "backbone=dinov2_vit_small_14:image_size=112",
    "Fre": "",
    "GeneralAD": "image_size=112",  # reads the last of 24 blocks, so that its network can be no smaller
    "Glass": "image_size=64",
    "InpFormer": "backbone=vit_small_patch14_reg4_dinov2:image_size=112:crop=98",
    "L2BT": "image_size=112",
    "MHPatchcore": "backbone=resnet18",
    "Padim": "image_size=64",
    "Patchcore": "backbone=resnet18:image_size=64",
    "Patchflow": "image_size=64",
    "Rad": "backbone=vit_small_patch16_dinov3:image_size=64",
    "ReverseDistillation": "image_size=64",
    "Stfpm": "image_size=64",
    "SuperADD": "backbone=vit_small_patch16_dinov3",
    "Supersimplenet": "backbone=resnet18:image_size=128",
    "Uflow": "backbone=resnet18:image_size=64",
    "UniNet": "image_size=64",
}
PADIM = "anomalib:Padim:backbone=resnet18:pre_trained=false:image_size=64"


def no_teacher():
    raise AssertionError("a model of anomalib needs no teacher of ours")


def make(text: str, folder: Path, seed: int = 0) -> AnomalibMethod:
    kind, options = parse_method(text)
    inputs = MethodInputs(
        teacher=no_teacher, resolution=0, seed=seed, features_folder=folder, device="cpu", options=options
    )
    return kind.make(inputs)


class Brightness(torch.nn.Module):
    """Says that bright is anomalous, at the resolution of its input."""

    def forward(self, batch: torch.Tensor) -> object:
        from anomalib.data import InferenceBatch

        return InferenceBatch(anomaly_map=batch.mean(dim=1, keepdim=True))


@needs_anomalib
@pytest.mark.parametrize(
    "text",
    [
        "anomalib:Padim:pre_trained=false:image_size=128",
        "anomalib:Patchcore:backbone=resnet18:pre_trained=false:image_size=128:crop=112",
        "anomalib:Patchcore:backbone=resnet18:pre_trained=false:image_size=96:crop=64",
    ],
)
def test_a_white_spot_comes_back_at_its_place_through_the_model_s_own_preprocessing(text, tmp_path):
    size, centre = (150, 220), (60.0, 130.0)  # of the spot, from the upper left corner
    peer = make(text, tmp_path)
    peer.fit(samples_of(tmp_path, *[size] * 3))
    peer._model.model = Brightness()  # what is left of the model is its preprocessing
    path = tmp_path / "spot.png"
    image = np.zeros((*size, 3), np.uint8)
    image[56:64, 124:136] = 255
    write_png(path, image)
    (prediction,) = peer.predict([Sample(id="test/unknown/spot", image_path=path, label="unknown")])
    scores = prediction.anomaly_map.astype(np.float64) - prediction.anomaly_map.min()
    assert scores.shape == size
    rows, columns = (np.arange(length) + 0.5 for length in size)
    assert (scores.sum(1) * rows).sum() / scores.sum() == pytest.approx(centre[0], abs=0.25)
    assert (scores.sum(0) * columns).sum() / scores.sum() == pytest.approx(centre[1], abs=0.25)


@needs_anomalib
@pytest.mark.parametrize(
    "text",
    [
        PADIM,
        "anomalib:Patchcore:backbone=resnet18:pre_trained=false:image_size=96:crop=64",
        "anomalib:Fastflow:backbone=resnet18:pre_trained=false:image_size=64:epochs=2",
    ],
)
def test_models_learn_from_images_of_mixed_sizes_and_map_each_at_its_own(text, tmp_path):
    sizes = [(48, 64), (64, 48), (48, 64), (31, 90)]
    one, again = make(text, tmp_path), make(text, tmp_path)
    asked = samples_of(tmp_path, *sizes, seed=9)
    for peer in (one, again):
        peer.fit(samples_of(tmp_path, *sizes))
    predictions = one.predict(asked)
    assert [prediction.anomaly_map.shape for prediction in predictions] == sizes
    for first, second in zip(predictions, again.predict(asked), strict=True):
        np.testing.assert_array_equal(first.anomaly_map, second.anomaly_map)
    assert one.settings["trained_epochs"] == (2 if "epochs=2" in text else 1)
    assert one.settings["unseen_share"] == pytest.approx(0.56 if "crop" in text else 0.0, abs=0.02)
    assert one.size_bytes > 11e6 if "Padim" in text else one.size_bytes > 2e6


def test_every_model_that_is_not_excluded_is_run_here():
    assert {name for name, facts in ANOMALIB_MODELS.items() if not facts.excluded} == set(RUNNING)


@pytest.fixture
def asked_for(monkeypatch, tmp_path):
    """Addresses that anything in this process asks for; none is reached, nothing is found in a cache of the user's."""
    asked = []

    def refuse(host: object, *_: object, **__: object) -> None:
        asked.append(str(host))
        raise OSError("there is no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: refuse(address))
    for name in ("HOME", "TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    return asked


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@needs_anomalib
@pytest.mark.parametrize("name", RUNNING)
def test_models_run_from_random_weights_fetch_nothing_and_leave_nothing(name, tmp_path, monkeypatch, asked_for):
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (80, 80, 3), dtype=np.uint8)
        write_png(tmp_path / f"pictures/any/{number}.png", pixels)
    options = RUNNING[name].format(pictures=tmp_path / "pictures")
    text = ":".join(filter(None, ["anomalib", name, "pre_trained=false", "epochs=1", options]))
    train, test = samples_of(tmp_path, *[(96, 80)] * 3), samples_of(tmp_path, (96, 80), seed=9)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    load_models()  # matplotlib, which it brings, lists the fonts of this machine once; the command sees to that
    before = files_below(tmp_path)
    peer = make(text, tmp_path)
    peer.fit(train)
    (prediction,), (again,) = peer.predict(test), peer.predict(test)
    assert prediction.anomaly_map.shape == (96, 80)
    np.testing.assert_array_equal(prediction.anomaly_map, again.anomaly_map)
    assert asked_for == []
    assert files_below(tmp_path) == before


@pytest.mark.slow
@needs_anomalib
@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("Padim", "huggingface.co"),
        ("Cfa:backbone=resnet18", "download.pytorch.org"),
        ("EfficientAd:pictures={pictures}", "github.com"),
        ("Dsr:image_size=64", "github.com"),
    ],
)
def test_what_a_model_fetches_it_asks_for_where_the_list_says(name, host, tmp_path, monkeypatch, asked_for):
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "TINYDEFECTS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    write_png(tmp_path / "pictures/any/0.png", np.zeros((80, 80, 3), np.uint8))
    peer = make(f"anomalib:{name.format(pictures=tmp_path / 'pictures')}", tmp_path)
    facts = ANOMALIB_MODELS[name.partition(":")[0]]
    with pytest.raises(TrainingError, match="it fetches weights of") as caught:
        peer.fit(samples_of(tmp_path, (96, 80)))
    assert set(asked_for) == {host}
    assert facts.from_file in str(caught.value)
    assert ("Hugging Face" if "hugging" in host else host) in facts.fetches


@needs_anomalib
def test_the_weights_in_the_list_are_those_of_the_library_s_own_choice():
    """Also to the tag: the hub has several weights of one network, and a file of others would be another method."""
    from anomalib.models.image.foundad.components.encoder_loader import TIMM_MODEL_NAMES

    models, n_compared = load_models(), 0
    for name, facts in ANOMALIB_MODELS.items():
        taken = inspect.signature(getattr(models, name).__init__).parameters
        chosen = next((taken[one].default for one in ("backbone", "encoder_name") if one in taken), None)
        if facts.excluded or chosen in {None, "mcait"}:
            continue
        n_compared += 1
        named = facts.fetches.removeprefix("weights of ").split()[0]
        assert named == TIMM_MODEL_NAMES.get(chosen, chosen), name
    assert n_compared > 18


@needs_anomalib
def test_the_list_holds_every_model_of_the_library_and_what_it_takes():
    models = load_models()
    kinds = {name: getattr(models, name) for name in models.__all__ if inspect.isclass(getattr(models, name, None))}
    kinds = {name: kind for name, kind in kinds.items() if issubclass(kind, models.AnomalibModule)}
    assert set(kinds) - {"AnomalibModule"} == set(ANOMALIB_MODELS)
    for name, facts in ANOMALIB_MODELS.items():
        taken = inspect.signature(kinds[name].__init__).parameters
        assert not facts.pictures or facts.pictures in taken, name
        learning = inspect.getsource(inspect.getmodule(kinds[name]))
        assert (facts.excluded == NOT_FROM_NORMALS) == ("LearningType.ONE_CLASS" not in learning), name


@needs_anomalib
@pytest.mark.parametrize("name", ["Padim", "Cfa:backbone=resnet18"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_from_a_file_are_those_that_the_model_starts_from(name, suffix, tmp_path, asked_for):
    network = load_timm().create_model("resnet18", pretrained=False)
    torch.nn.init.normal_(network.conv1.weight)
    path = tmp_path / f"resnet18.{suffix}"
    if suffix == "pth":
        torch.save(network.state_dict(), path)
    else:
        save_file(network.state_dict(), path)
    peer = make(f"anomalib:{name}:image_size=64:epochs=1:weights={path}", tmp_path)
    peer.fit(samples_of(tmp_path, *[(48, 64)] * 2))
    held = [value for name, value in peer._model.state_dict().items() if name.endswith("conv1.weight")]
    assert any(torch.equal(value, network.conv1.weight) for value in held)
    assert peer.settings["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert asked_for == []


@needs_anomalib
def test_a_file_that_holds_no_weights_is_one_line(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"no weights")
    with pytest.raises(TrainingError, match=r"^anomalib:Padim cannot be trained: ") as caught:
        make(f"anomalib:Padim:image_size=64:weights={path}", tmp_path).fit(samples_of(tmp_path, (48, 64)))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@needs_anomalib
def test_the_library_leaves_timm_as_it_was(tmp_path):
    """It replaces how position embeddings are resampled, by which our teacher would see smaller images otherwise."""
    timm = load_timm()
    before = timm.create_model, timm.models.vision_transformer.resample_abs_pos_embed
    peer = make("anomalib:AnomalyDINO:pre_trained=false:image_size=112", tmp_path)
    peer.fit(samples_of(tmp_path, *[(48, 64)] * 2))
    peer.predict(samples_of(tmp_path, (48, 64)))
    assert (timm.create_model, timm.models.vision_transformer.resample_abs_pos_embed) == before


@needs_anomalib
def test_the_library_leaves_the_generators_that_all_share_as_they_were(tmp_path):
    def state() -> tuple[object, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    train = samples_of(tmp_path, *[(48, 64)] * 2)
    before = state()
    peer = make(PADIM, tmp_path)
    peer.fit(train)
    peer.predict(train[:1])
    assert state() == before


def test_what_is_drawn_depends_on_the_seed_alone():
    def drawn(seed: int) -> tuple[float, ...]:
        with own_chance(seed, "cpu"):
            return random.random(), np.random.random(), torch.rand(1).item()

    first = drawn(0)
    torch.rand(3)
    assert drawn(0) == first
    assert all(one != other for one, other in zip(drawn(1), first, strict=True))


def test_the_generator_of_an_mps_device_is_left_as_it_was(monkeypatch):
    """Of no real one: a generator stands in for that of the device, behind the functions by which torch reaches it."""
    generator = torch.Generator().manual_seed(7)
    for name, of_mps in (
        ("get_rng_state", generator.get_state),
        ("set_rng_state", generator.set_state),
        ("manual_seed", generator.manual_seed),
    ):
        monkeypatch.setattr(torch.mps, name, of_mps)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    def drawn(seed: int, device: str) -> float:
        with own_chance(seed, device):
            return torch.rand(1, generator=generator).item()

    before = generator.get_state()
    assert drawn(0, "mps") == drawn(0, "mps") != drawn(1, "mps")
    drawn(2, "cpu")  # seeds it as well
    assert torch.equal(generator.get_state(), before)
    untrained(4, 4, seed=3)
    StudentPair(4, seed=3)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.slow
@needs_anomalib
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_told_to_stop_while_a_model_trains_stops_at_once(number, tmp_path, monkeypatch):
    """The library would end the program with an exit code of its own, and keep SIGTERM to itself for an epoch."""
    read, readings, in_force = Sample.image, iter(range(100)), []

    def read_or_stop(sample: Sample) -> object:
        if next(readings) == 4:  # in the second epoch
            in_force.append(signal.getsignal(signal.SIGTERM))
            signal.raise_signal(number)
        return read(sample)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sample, "image", read_or_stop)
    peer = make("anomalib:Fastflow:pre_trained=false:image_size=64:epochs=3", tmp_path)
    train = samples_of(tmp_path, *[(48, 64)] * 2)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            peer.fit(train)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert in_force == [stop]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ganomaly", f"^anomalib:Ganomaly {NO_MAP}; choose another, see 'tinydefects methods'$"),
        ("WinClip", f"^anomalib:WinClip {NOT_FROM_NORMALS}; choose another"),
        ("Padim:weights=none.pth", "^none.pth: is not there; check the path behind anomalib:Padim:weights=$"),
        ("Padim:weights=none.pth:pre_trained=false", "^anomalib:Padim: weights and pre_trained=false exclude each"),
        ("Draem:weights=none.pth", "^anomalib:Draem: starts from no weights that could be given; leave them out$"),
        (
            "Padim:pictures=here",
            "^anomalib:Padim: learns from no pictures but the training images; leave out pictures$",
        ),
        ("EfficientAd", "^anomalib:EfficientAd: learns from pictures of other things, too; give pictures=FOLDER of"),
        ("Draem:pictures=here", "^here: is not there; check the path behind anomalib:Draem:pictures=$"),
    ],
)
def test_what_cannot_be_is_refused_before_the_library_is_asked(text, message, tmp_path):
    with pytest.raises(TinyDefectsError, match=message):
        make(f"anomalib:{text}", tmp_path)


@needs_anomalib
def test_fitting_opens_the_training_images_and_no_other(tmp_path, monkeypatch):
    opened = []
    read = Sample.image
    monkeypatch.setattr(Sample, "image", lambda sample: (opened.append(sample.image_path), read(sample))[1])
    train = samples_of(tmp_path, *[(48, 64)] * 3)
    make(PADIM, tmp_path).fit(train)
    assert set(opened) == {sample.image_path for sample in train}


@needs_anomalib
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("anomalib:Padime", r"^anomalib:Padime: there is no such model; did you mean Padim\?"),
        (f"{PADIM}:crop=32", r"^anomalib:Padim cannot be trained: .*center_crop_size"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_line(text, message, tmp_path):
    def use() -> None:
        peer = make(text, tmp_path)
        peer.fit(samples_of(tmp_path, *[(64, 64)] * 2))
        peer.predict(samples_of(tmp_path, (64, 64)))

    with pytest.raises(TinyDefectsError, match=message) as caught:
        use()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("facts", "options", "is_told"),
    [
        (ANOMALIB_MODELS["Padim"], {}, True),
        (ANOMALIB_MODELS["Padim"], {"weights": "w.pth"}, False),
        (ANOMALIB_MODELS["Padim"], {"pre_trained": False}, False),
        (AnomalibModel(summary=""), {}, False),  # of a later version: nobody knows what it fetches
    ],
)
def test_a_failure_names_what_would_be_fetched_only_where_something_would(facts, options, is_told):
    method = AnomalibMethod.__new__(AnomalibMethod)  # the library is not needed for a sentence
    method._facts, method._options = facts, AnomalibOptions(model="Padim", **options)
    with pytest.raises(TrainingError) as caught, method._named_failures():
        raise OSError("no space left")
    end = f"; it fetches {facts.fetches}: {facts.from_file}" if is_told else ""
    assert str(caught.value) == f"anomalib:Padim cannot be trained: no space left{end}"


@needs_anomalib
def test_a_map_that_is_no_number_is_told_of_the_model_and_of_what_it_has_learnt_from(tmp_path):
    """The variance of what one image shows at a place is nothing divided by nothing."""
    (one,) = samples_of(tmp_path, (64, 64))
    peer = make(PADIM, tmp_path)
    peer.fit([one])
    with pytest.raises(ScoreError, match=r"^anomalib:Padim: its map holds nan .* on 1 images; give it more of them"):
        peer.predict([one])


@needs_anomalib
def test_a_model_that_learns_nothing_from_normal_images_is_refused(tmp_path):
    from anomalib import LearningType

    peer = make(PADIM, tmp_path)
    peer._kind = lambda **_: SimpleNamespace(learning_type=LearningType.ZERO_SHOT)
    peer._options = replace(peer._options, image_size=None)
    with pytest.raises(TrainingError, match=r"^anomalib:Padim does not learn from normal images"):
        peer.fit(samples_of(tmp_path, (64, 64)))


@pytest.mark.slow
@needs_its_absence
def test_without_the_library_the_extra_is_named(tmp_path):
    with pytest.raises(MissingExtraError, match=r"needs the extra 'anomalib': pip install '\.\[anomalib\]'"):
        make(PADIM, tmp_path)


def test_the_model_s_name_is_part_of_the_method_s():
    assert parse_method("anomalib:Padim:epochs=3")[1] == {"model": "Padim", "epochs": "3"}
    with pytest.raises(TinyDefectsError, match=r"^anomalib: this method is written anomalib:MODEL$"):
        parse_method("anomalib")


def test_a_batch_holds_images_of_one_size_and_all_of_them_come_once():
    sizes = [(1, 1), (2, 2), (1, 1), (1, 1), (2, 2), (3, 3), (1, 1)]
    sampler = BatchesOfOneSize(sizes, 3, seed=0)
    first, second = list(sampler), list(sampler)
    for batches in (first, second):
        assert len(batches) == len(sampler) == 4
        assert all(len({sizes[place] for place in places}) == 1 for places in batches)
        assert sorted(place for places in batches for place in places) == list(range(7))
    assert first != second
    assert list(BatchesOfOneSize(sizes, 3, seed=0)) == first
