"""The library anomalib at work in this process: what its networks start from, and what it would leave changed behind.

It replaces a function of timm, draws from the generators that all share, takes over what Ctrl-C and SIGTERM do, and
writes into the current folder unless told where. Whatever runs after it in the same process finds all of it as it was.
"""

import io
import logging
import random
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tinydefects.data.pixels import read_image
from tinydefects.detector.devices import seed_all
from tinydefects.detector.networks import load_timm
from tinydefects.errors import MissingExtraError
from tinydefects.privacy import without_reporting

_of_the_library: dict[str, Any] = {}  # what it has put in the place of functions of timm


def load_models() -> ModuleType:
    """The module `anomalib.models`.

    Raises:
        MissingExtraError: the library is not installed.
    """
    try:
        with quiet(), without_reporting():
            load_timm()  # repairs torchvision, which the library needs as well
            import anomalib.models
    except ImportError as error:
        raise MissingExtraError("a model of anomalib", "anomalib") from error
    models: ModuleType = anomalib.models
    return models


@contextmanager
def at_work(*, weights: str | None, pre_trained: bool, seed: int, device: str) -> Iterator[None]:
    """While the library works: its networks start from a file or from random weights where that is asked for.

    It also changes how timm resamples position embeddings, once and for the whole process. That is undone until it
    works again, or else our own teacher would see images in another way in every later job. What it draws depends on
    `seed` alone, not on what was drawn before, and what others draw later not on it.
    """
    timm: Any = load_timm()
    vision: Any = import_module("torchvision")
    vit, enum = timm.models.vision_transformer, vision.models.WeightsEnum
    before = timm.create_model, enum.get_state_dict, vision.io.read_image
    resample = vit.resample_abs_pos_embed

    def create_model(name: str, pretrained: bool = False, **more: object) -> object:
        if pretrained and weights is not None:
            more["pretrained_cfg_overlay"] = {"file": weights}
        return before[0](name, pretrained=pretrained and pre_trained, **more)

    def get_state_dict(wanted: Any, *arguments: object, **more: object) -> object:  # noqa: ANN401
        if weights is not None:
            return _state_in(weights)
        return before[1](wanted, *arguments, **more) if pre_trained else _random_state(vision.models, type(wanted))

    timm.create_model, enum.get_state_dict = create_model, get_state_dict
    vision.io.read_image = _read_picture
    vit.resample_abs_pos_embed = _of_the_library.get("resample", resample)
    try:
        with quiet(), own_chance(seed, device):
            yield
    finally:
        _of_the_library["resample"] = vit.resample_abs_pos_embed
        timm.create_model, enum.get_state_dict, vision.io.read_image = before
        vit.resample_abs_pos_embed = resample


@contextmanager
def own_chance(seed: int, device: str) -> Iterator[None]:
    """The generators of Python, numpy and torch start from `seed` in the block and are as they were after it.

    Those of all devices: torch seeds them together, whichever one is worked on.
    """
    python, arrays = random.getstate(), np.random.get_state()
    has_cards = device.startswith("cuda") or torch.cuda.is_initialized()
    cards = range(torch.cuda.device_count()) if has_cards else ()
    of_mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None  # `fork_rng` cannot
    try:
        with torch.random.fork_rng(devices=cards):
            seed_all(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        if of_mps is not None:
            torch.mps.set_rng_state(of_mps)


def fetch_nothing_later(model: Any, *, weights: str | None, pre_trained: bool) -> None:  # noqa: ANN401
    """EfficientAd and Dsr fetch their weights when training begins: a file is put in their place, or nothing."""
    if not hasattr(model, "prepare_pretrained_model") or (pre_trained and weights is None):
        return
    loads_itself = hasattr(model.model, "load_pretrained_discrete_model_weights")
    if weights is None or loads_itself:
        model.prepare_pretrained_model = lambda: weights
    else:
        state = _state_in(weights)
        model.prepare_pretrained_model = lambda: model.model.teacher.load_state_dict(state)
    if weights is None and loads_itself:
        model.model.load_pretrained_discrete_model_weights = lambda *_: None


def train_model(model: Any, batches: DataLoader[Any], *, epochs: int, device: str, folder: str) -> int:  # noqa: ANN401
    """Train in place with the library's Engine and return the epochs it took; `folder` takes what the library writes.

    There is no validation: the library's default takes the test images for it, and thresholds from there. Some models
    ask the trainer for a data module, and how many images its batches hold.

    Raises:
        KeyboardInterrupt: as without the library, which would end the whole program with an exit code of its own, and
            hear of SIGTERM only after an epoch.
    """
    from anomalib.engine import Engine

    lightning = import_module("lightning.pytorch")
    members = {"name": "", "category": "", "train_batch_size": batches.batch_sampler.batch}  # type: ignore[union-attr]
    members |= {"train_dataloader": lambda _: batches}
    data_module = type("TrainingData", (lightning.LightningDataModule,), members)()
    told_to_end = signal.getsignal(signal.SIGTERM)
    keeps_signals = {"on_train_start": lambda *_: _handle_termination(told_to_end)}

    kind, _, number = device.partition(":")
    engine = Engine(
        callbacks=[type("KeepsSignals", (lightning.Callback,), keeps_signals)()],
        accelerator="gpu" if kind == "cuda" else kind,
        devices=[int(number)] if number else 1,
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    try:
        with without_bars():
            engine.fit(model, datamodule=data_module)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise stop.__context__ from None
        raise
    return int(engine.trainer.current_epoch)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's hints on its own workings, which are of no use to whoever compares methods."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def without_bars() -> Iterator[None]:
    """Without what the library and tqdm write to standard error while they work."""
    with redirect_stderr(io.StringIO()):
        yield


def _handle_termination(handler: Any) -> None:  # noqa: ANN401
    if threading.current_thread() is threading.main_thread():  # no other may
        signal.signal(signal.SIGTERM, handler)


def _state_in(file: str) -> Any:  # noqa: ANN401
    """The weights in a file of torch or safetensors, by name; code in it is not run."""
    return load_timm().models.load_state_dict(file, use_ema=False, weights_only=True)


def _random_state(models: Any, kind: type) -> object:  # noqa: ANN401
    """The random weights that a network of torchvision starts from, by the class of those that it would fetch."""
    name = next(name for name in models.list_models() if models.get_model_weights(name) is kind)
    return models.get_model(name, weights=None).state_dict()


def _read_picture(path: str, *_: object, **__: object) -> Tensor:
    """(3, H, W) uint8, as torchvision reads it where it has been built with its decoders."""
    return torch.from_numpy(np.ascontiguousarray(read_image(Path(path)).transpose(2, 0, 1)))
