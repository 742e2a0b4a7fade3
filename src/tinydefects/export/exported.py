"""ExportedDetector: an exported folder as a detector; runs without torch."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.images import Channels, GivenImage, ImageLike, Images, require_channels
from tinydefects.data.sample import Prediction
from tinydefects.data.walk import EXPORT_FILE
from tinydefects.detector.patch_grid import image_size
from tinydefects.detector.settings import DetectorSettings, colour_scale, image_score
from tinydefects.errors import ModelFileError, ResolutionMismatchError, TinyDefectsError
from tinydefects.export.manifest import Interface, Session, read_manifest
from tinydefects.export.sessions import open_session


class ExportedDetector:
    """A model, and what belongs around it; `load` makes one from an exported folder.

    Attributes:
        interface: what the model is fed and answers.
        fingerprint: sha256 over the folder's manifest, which holds those of all files; `source` is named in errors.
    """

    def __init__(
        self, interface: Interface, session: Session, *, fingerprint: str = "", source: object = EXPORT_FILE
    ) -> None:
        self.interface = interface
        self.fingerprint = fingerprint
        self._session = session
        self._source = source

    @classmethod
    def load(cls, folder: str | Path, *, threads: int | None = None) -> Self:
        """The model of a folder that `tinydefects export` wrote, on the CPU; `threads` None is the runtime's choice.

        Raises:
            ModelFileError: a file is missing, damaged, or its runtime does not take it.
            MissingExtraError: its runtime is not installed.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        session = open_session(folder, manifest.target, manifest.precision, threads=threads)
        fingerprint = hashlib.sha256((folder / EXPORT_FILE).read_bytes()).hexdigest()
        return cls(manifest.interface, session, fingerprint=fingerprint, source=folder / EXPORT_FILE)

    @property
    def settings(self) -> DetectorSettings:
        """Of the detector that was exported."""
        return self.interface.settings

    @property
    def colour_scale(self) -> tuple[float, float]:
        """As that of the detector that was exported."""
        return colour_scale(self.interface.good_level)

    def predict(self, image: ImageLike, *, channels: Channels = "rgb") -> Prediction:
        """The (H, W) anomaly map of an image at its own size and its score; takes what `Detector.predict` takes.

        `channels` is **"bgr" for arrays that OpenCV read**.

        Raises:
            ImageReadError: it is no image, see `data.images.as_image`.
            ResolutionMismatchError: the model was exported for another image size, or the image is one patch wide.
        """
        require_channels(channels)
        return self._predict(GivenImage(image, self.settings.image_bits, channels))

    def predict_many(
        self, images: Iterable[ImageLike], *, channels: Channels = "rgb", batch_size: int = 1
    ) -> Iterator[Prediction]:
        """The prediction of every image, in order, one after the other.

        Raises:
            ImageReadError: they are a single image.
            TinyDefectsError: `batch_size` is not 1.
        """
        if batch_size != 1:
            raise TinyDefectsError(
                f"batch_size {batch_size}: an exported model takes one image or tile at a time; leave it out "
                "(--batch-size) or use the detector itself"
            )
        return map(self._predict, Images(images, bits=self.settings.image_bits, channels=channels).given())

    def _predict(self, given: GivenImage) -> Prediction:
        image = given.read()
        size = image_size(image)
        if self.interface.image_size is None:
            return self._predict_any_size(image)
        if size != self.interface.image_size:
            raise ResolutionMismatchError(
                f"the image is {size}, this model was exported for {self.interface.image_size}: "
                "export again with this --image-size, or without it for any size"
            )
        anomaly_map, score = self._run(image[None], (1, *size), (1,))
        return Prediction(anomaly_map[0], float(score[0]))

    def _predict_any_size(self, image: NDArray[np.uint8]) -> Prediction:
        plan = self.settings.passes(image_size(image), patch=self.interface.patch_size)
        if min(min(shape) for shape in plan.pass_shapes) < 2:
            raise ResolutionMismatchError(
                f"the image is {plan.grid.image_size}: one patch in a direction; an exported model needs two, "
                "use the detector itself"
            )
        views = plan.views(image)
        scores = (self._run(grid.to_pixels(pixels)[None], (1, *grid.shape))[0][0] for pixels, grid in views)
        anomaly_map = plan.grid.to_image(plan.merge(scores), stride=plan.stride)
        return Prediction(anomaly_map, image_score(anomaly_map, preset=self.settings.preset))

    def _run(self, batch: NDArray[np.uint8], *shapes: tuple[int, ...]) -> tuple[NDArray[np.float32], ...]:
        """What the model answers, which must be arrays of these shapes."""
        try:
            outputs = self._session(batch)
        except Exception as error:  # runtimes raise as they come
            reason = " ".join(str(error).split())[:300]
            raise ModelFileError(
                f"{self._source}: the model cannot run ({reason}); export the detector again"
            ) from error
        found = tuple(output.shape for output in outputs)
        if found != shapes:
            raise ModelFileError(
                f"{self._source}: says that the model answers {shapes}, it answers {found}; export the detector again"
            )
        return outputs
