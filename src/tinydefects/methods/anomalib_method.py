"""Models of anomalib as they are: their own preprocessing, their own training, on our images and our split.

Nothing but training images is ever shown before the predictions: no validation split, no thresholds, no normalisation
of scores. The map is brought back to the image's own pixels by undoing the model's own preprocessing, and the image
score is the one that all methods share.
"""

import inspect
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tinydefects.data.leftovers import scratch_folder
from tinydefects.data.map_files import file_sha256
from tinydefects.data.sample import Prediction, Sample, mean_of_highest
from tinydefects.datasets.folder import suggest
from tinydefects.detector.patch_grid import Size, image_size
from tinydefects.detector.teacher import best_device
from tinydefects.errors import OfflineError, ScoreError, TinyDefectsError, TrainingError
from tinydefects.methods.anomalib_library import at_work, fetch_nothing_later, load_models, train_model, without_bars
from tinydefects.methods.input_geometry import InputGeometry, Pixels, learn_geometry
from tinydefects.methods.known_methods import ANOMALIB_MODELS, AnomalibModel
from tinydefects.methods.method import MethodInputs
from tinydefects.privacy import announce, is_offline


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalibOptions:
    """Everything that is not named is the model's own default.

    Attributes:
        model: name of a class in anomalib.models.
        epochs: passes over the training images at most; models with a fixed number of their own keep it.
        batch: images a training step; 8, or the only number that the model takes.
        image_size: side of the square input in pixels; `crop` is the side of the centre that is cut out of it.
        pre_trained: false starts from random weights, which is of use in tests only.
        weights: a file to start from instead of what the library would fetch.
        pictures: a folder of images that are no parts, for the models that learn from such, too.
    """

    model: str
    epochs: Annotated[int, Field(gt=0)] = 10
    batch: Annotated[int, Field(gt=0)] | None = None
    image_size: Annotated[int, Field(gt=0)] | None = None
    crop: Annotated[int, Field(gt=0)] | None = None
    backbone: str | None = None
    pre_trained: bool = True
    weights: str | None = None
    pictures: str | None = None


class AnomalibMethod:
    """One model, built and trained when it is fitted."""

    def __init__(self, inputs: MethodInputs, options: AnomalibOptions) -> None:
        unknown = AnomalibModel(summary="")  # it came with a later version
        self._facts = ANOMALIB_MODELS.get(options.model, unknown)
        self._facts.require_use(f"anomalib:{options.model}", options.weights, options.pictures, options.pre_trained)
        self._kind = _model_class(options.model)
        self._options = options
        self._seed = inputs.seed
        self._clock = inputs.clock
        self._device = inputs.device or best_device()
        self._model: Any = None
        self._n_epochs = self._n_train = 0
        self._weights_sha256 = ""  # of the file that was given
        self._geometries: dict[Size, InputGeometry] = {}

    @property
    def settings(self) -> Mapping[str, object]:
        unseen = max((one.unseen_share for one in self._geometries.values()), default=0.0)
        return asdict(self._options) | {
            "batch": self._options.batch or self._facts.batch,
            "anomalib": version("anomalib"),
            "seed": self._seed,
            "trained_epochs": self._n_epochs,
            "preprocessing": " ".join(str(self._model.pre_processor.transform).split()) if self._model else "",
            "unseen_share": unseen,  # outside a centre crop: the lowest score of the map
            "weights_sha256": self._weights_sha256,
        }

    @property
    def size_bytes(self) -> int:
        """Every weight, the model's own backbone and memory bank among them."""
        if self._model is None:
            return 0
        return sum(value.numel() * value.element_size() for value in self._model.state_dict().values())

    def fit(self, samples: Sequence[Sample]) -> None:
        if not samples:
            raise TrainingError("there are no training images: give defect-free ones, a handful at least")
        options, self._n_train = self._options, len(samples)
        if would_fetch(self._facts, options) and not is_offline():
            announce(f"anomalib:{options.model}: anomalib fetches {self._facts.fetches}, if it has none yet")
        if options.weights:
            self._weights_sha256 = file_sha256(Path(options.weights))
        with self._named_failures(), self._at_work(), scratch_folder(Path(tempfile.gettempdir())) as folder:
            self._model = self._build()
            self._train(samples, str(folder))
        self._model.eval().to(self._device)
        self._geometry(image_size(samples[0].image()))  # what cannot be undone shows now

    def _train(self, samples: Sequence[Sample], folder: str) -> None:
        n_batch, resize = self._options.batch or self._facts.batch, _resizing(self._model)
        n_held = max(1, len(samples) // 10) if self._facts.holds_out and len(samples) > 1 else 0
        shown = random.Random(self._seed).sample(samples, len(samples)) if n_held else list(samples)
        batches = training_batches(shown[n_held:], n_batch, self._seed, resize)
        self._n_epochs = train_model(
            self._model, batches, epochs=self._options.epochs, device=self._device, folder=folder
        )
        if n_held:
            held = training_batches(shown[:n_held], n_batch, self._seed, resize)
            self._model.eval().to(self._device)
            with without_bars():
                self._model.model.quantiles.update(self._model.map_norm_quantiles(held))

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """While the clock runs, samples of equal size are one batch."""
        with self._clock("decode"):
            images = [sample.image() for sample in samples]
        groups = [[place] for place in range(len(samples))]
        if self._clock.running:
            sizes = [image_size(image) for image in images]
            groups = [[place for place, size in enumerate(sizes) if size == one] for one in dict.fromkeys(sizes)]
        found: dict[int, Prediction] = {}
        for places in groups:
            found.update(zip(places, self._score([images[place] for place in places]), strict=True))
        return [found[place] for place in range(len(samples))]

    def _score(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        geometry = self._geometry(image_size(images[0]))
        with torch.inference_mode():
            with self._clock("transfer"):
                batch = torch.stack([as_tensor(image) for image in images]).to(self._device)
            with self._clock("resize"):
                batch = self._preprocessed(batch)
            with self._clock("method"), self._at_work():
                maps = self._model.model(batch).anomaly_map
            if maps is None:
                raise TinyDefectsError(
                    f"anomalib:{self._options.model} gives an image score and no map; choose a model that localises"
                )
        with self._clock("map"):
            drawn = [geometry.to_image(one.reshape(one.shape[-2:]).float().cpu().numpy()) for one in maps]
            if not all(np.isfinite(one).all() for one in drawn):
                raise ScoreError(
                    f"anomalib:{self._options.model}: its map holds nan or infinity, after training on "
                    f"{self._n_train} images; give it more of them, or other options"
                )
            return [Prediction(anomaly_map, mean_of_highest(anomaly_map)) for anomaly_map in drawn]

    def _geometry(self, size: Size) -> InputGeometry:
        if size not in self._geometries:
            try:
                self._geometries[size] = learn_geometry(self._preprocessed_array, size)
            except TinyDefectsError as error:
                raise TinyDefectsError(f"anomalib:{self._options.model}: {error}") from error
        return self._geometries[size]

    def _preprocessed_array(self, pixels: Pixels) -> Pixels:
        with torch.inference_mode():
            return np.asarray(self._preprocessed(torch.from_numpy(pixels)[None])[0].numpy())

    def _preprocessed(self, batch: Tensor) -> Tensor:
        transform = self._model.pre_processor.transform
        return batch if transform is None else transform(batch)

    def _build(self) -> Any:  # noqa: ANN401
        options, known = self._options, inspect.signature(self._kind).parameters
        settings: dict[str, object] = {}
        if options.backbone is not None:
            settings["encoder_name" if "encoder_name" in known else "backbone"] = options.backbone
        if options.pictures is not None:
            settings[self._facts.pictures] = options.pictures
        if options.image_size or options.crop:
            settings["pre_processor"] = _pre_processor(self._kind, options.image_size, options.crop)
        side = options.crop or options.image_size
        if side and "input_shape" in known:
            settings["input_shape"] = (side, side)
        model = self._kind(**settings, post_processor=False, evaluator=False, visualizer=False)
        fetch_nothing_later(model, weights=options.weights, pre_trained=options.pre_trained)
        if model.learning_type.value != "one_class":
            raise TrainingError(f"anomalib:{options.model} does not learn from normal images; choose one that does")
        return model

    def _at_work(self) -> AbstractContextManager[None]:
        options = self._options
        return at_work(weights=options.weights, pre_trained=options.pre_trained, seed=self._seed, device=self._device)

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        """An option it does not have, weights that cannot be had, a batch it does not like: it raises as it comes."""
        try:
            yield
        except Exception as error:
            if isinstance(error, TinyDefectsError) and not isinstance(error, OfflineError):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            is_missing = would_fetch(self._facts, self._options) and _is_of_network(error)
            remedy = f"; it fetches {self._facts.fetches}: {self._facts.from_file}" if is_missing else ""
            raise TrainingError(f"anomalib:{self._options.model} cannot be trained: {reason}{remedy}") from error


def would_fetch(facts: AnomalibModel, options: AnomalibOptions) -> bool:
    """Whether the library fetches something before this model trains, as far as the list of models knows."""
    return bool(facts.fetches) and options.pre_trained and not options.weights


def _is_of_network(error: BaseException | None) -> bool:
    """Whether something could not be fetched, as far as errors tell."""
    return error is not None and (
        isinstance(error, OSError | OfflineError) or _is_of_network(error.__cause__ or error.__context__)
    )


def _resizing(model: Any) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    """The resizing that the model's preprocessing begins with, which the library does while it loads images."""
    transform = model.pre_processor.transform
    first = next(iter(getattr(transform, "transforms", [transform])))
    return first if type(first).__name__ == "Resize" else lambda image: image


def _pre_processor(kind: Any, image_px: int | None, crop_px: int | None) -> object:  # noqa: ANN401
    """The model's own preprocessing at another size; the crop's parameter goes by two names."""
    crops: dict[str, object] = {}
    if crop_px is not None:
        known = inspect.signature(kind.configure_pre_processor).parameters
        crops = {"crop_size": crop_px} if "crop_size" in known else {"center_crop_size": (crop_px, crop_px)}
    return kind.configure_pre_processor(image_size=(image_px, image_px) if image_px else None, **crops)


def _model_class(name: str) -> Any:  # noqa: ANN401
    models = load_models()
    base = models.AnomalibModule
    known = [one for one in dir(models) if isinstance(kind := getattr(models, one), type) and issubclass(kind, base)]
    known.remove("AnomalibModule")
    if name not in known:
        raise TinyDefectsError(f"anomalib:{name}: there is no such model; {suggest(name, known)}")
    return getattr(models, name)


def training_batches(
    samples: Sequence[Sample], batch: int, seed: int, resize: Callable[[Tensor], Tensor]
) -> DataLoader[Any]:
    """The samples as the library's batches, each of images of one size: it would resize others to fit together."""
    from anomalib.data import ImageBatch

    sizes = [image_size(sample.image()) for sample in samples]
    sampler = BatchesOfOneSize(sizes, batch, seed)
    return DataLoader(_TrainingImages(samples, resize), batch_sampler=sampler, collate_fn=ImageBatch.collate)


class BatchesOfOneSize:
    """Places of images of equal size, at most `batch` of them, in another order every epoch."""

    def __init__(self, sizes: Sequence[Size], batch: int, seed: int) -> None:
        self._by_size: dict[Size, list[int]] = defaultdict(list)
        for place, size in enumerate(sizes):
            self._by_size[size].append(place)
        self.batch = batch
        self._chance = random.Random(seed)

    def __len__(self) -> int:
        return sum(-(-len(places) // self.batch) for places in self._by_size.values())

    def __iter__(self) -> Iterator[list[int]]:
        batches = []
        for places in self._by_size.values():
            shuffled = self._chance.sample(places, len(places))
            batches += [shuffled[start : start + self.batch] for start in range(0, len(shuffled), self.batch)]
        self._chance.shuffle(batches)
        return iter(batches)


def as_tensor(image: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 as (3, H, W) float32 in [0, 1], as the library reads images."""
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255.0)


class _TrainingImages(Dataset[Any]):
    """The training images in the library's own form, read as all methods read them."""

    def __init__(self, samples: Sequence[Sample], resize: Callable[[Tensor], Tensor]) -> None:
        self._samples = samples
        self._resize = resize

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, place: int) -> Any:  # noqa: ANN401
        from anomalib.data import ImageItem

        sample = self._samples[place]
        image = self._resize(as_tensor(sample.image()))
        no_defect = torch.zeros(image.shape[1:], dtype=torch.uint8)
        label = torch.tensor(0)
        return ImageItem(image=image, gt_mask=no_defect, gt_label=label, image_path=str(sample.image_path))
