"""The numbers of `evaluate` as a torchmetrics metric; needs the extra `torchmetrics`, and is imported by nothing else.

The numbers are of all images together and no mean over batches, so all images are kept until `reset`: maps in a file
of the temporary folder, four bytes a pixel, masks in memory, packed.
"""

import math
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinydefects.data.sample import Prediction
from tinydefects.errors import MissingExtraError, TinyDefectsError
from tinydefects.metrics.arrays import ArraySample, array_pairs
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.groups import short
from tinydefects.metrics.scores import FPR_LIMITS, Evaluation, metrics_of
from tinydefects.metrics.spool import write_all

try:
    import torch
    from torchmetrics import Metric
except ModuleNotFoundError as error:
    raise MissingExtraError("EvaluationMetric", "torchmetrics") from error

LIMITED = ("aupro", "aupro_Q1", "rho")
WHOLE = ("pixel_auroc", "pixel_average_precision", "aupimo", "image_auroc", "image_average_precision")


class EvaluationMetric(Metric):
    """What `evaluate_arrays` says of all images since `reset`, as a dictionary of scalar tensors.

    `update(maps, masks)` takes a batch, maps first as torchmetrics has predictions first: tensors (B, H, W) or
    (B, 1, H, W), or lists of images of any sizes; values as in `functional.py`. Tensors on a GPU are brought to the CPU
    and detached. `compute()` gives `aupro@0.3`, `aupro_Q1@0.3` (the smallest quarter of the defects) and `rho@0.3` for
    each limit, `pixel_auroc`, `pixel_average_precision`, `aupimo`, `image_auroc` and `image_average_precision`, in
    [0, 1] but nan where undefined, in the metric's precision and on its device. Calling the metric does both: it
    returns the numbers of this batch alone, and scores it for them.

    Lightning logs a metric only if it is one tensor: name it with `only` and pass it to `self.log`, or pass
    `metric.compute()` to `self.log_dict` at the end of an epoch and reset.

    Args:
        only: one of the names above; `compute` then gives this scalar tensor alone.
        fpr_limits: of AUPRO and rho, in (0, 1].
        kwargs: those of every torchmetrics metric. Maps of other processes are not fetched: in a group of several
            processes the first `update` is refused, unless `sync_on_compute=False` says that each process wants the
            numbers of its own images.

    Raises:
        TinyDefectsError: an unknown name, several processes, a full temporary folder; for images as `evaluate_arrays`.
            A batch that is refused leaves the metric as it was.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = True

    def __init__(
        self,
        *,
        only: str | None = None,
        fpr_limits: Sequence[float] = FPR_LIMITS,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.only, self.fpr_limits = only, tuple(fpr_limits)
        if not self.fpr_limits or not all(0 < limit <= 1 for limit in self.fpr_limits):
            raise TinyDefectsError(f"fpr_limits are {self.fpr_limits}; give false-positive rates in (0, 1]")
        names = (*(f"{name}@{short(limit)}" for name in LIMITED for limit in self.fpr_limits), *WHOLE)
        if only is not None and only not in names:
            raise TinyDefectsError(f"only={only!r}: there is no such number here; choose from {', '.join(names)}")
        self._names = names if only is None else (only,)
        self._images = _Images()

    def update(
        self,
        maps: torch.Tensor | Iterable[ArrayLike],
        masks: torch.Tensor | Iterable[ArrayLike | None],
        scores: torch.Tensor | Iterable[float] | None = None,
    ) -> None:
        """Take in a batch: B maps, their masks, and B image scores if the maps' own are not meant."""
        if self.sync_on_compute:
            self._require_one_process()
        on_cpu = None if scores is None else _on_cpu(scores)
        pairs = array_pairs(_on_cpu(masks), _on_cpu(maps), scores=on_cpu, n_before=len(self._images))
        self._images.add(list(pairs))

    def compute(self) -> dict[str, torch.Tensor] | torch.Tensor:
        """The numbers of all images since `reset`."""
        return self._chosen(self.evaluate(n_resamples=0))

    def evaluate(self, **settings: Any) -> Evaluation:  # noqa: ANN401
        """The full evaluation of all images since `reset`; `settings` are those of `evaluate`, such as `bins`."""
        return evaluate(self._images.pairs(), **{"n_crops": 0, "fpr_limits": self.fpr_limits, **settings})

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor] | torch.Tensor:  # noqa: ANN401
        """Take in a batch as `update` does, and return the numbers of this batch alone."""
        first = len(self._images)
        self.update(*args, **kwargs)
        batch = evaluate(self._images.pairs(first), n_crops=0, fpr_limits=self.fpr_limits, n_resamples=0)
        numbers = self._chosen(batch)
        vars(self)["_forward_cache"] = numbers  # what Lightning logs of a step
        return numbers

    def reset(self) -> None:
        """Forget all images and give their disk space back."""
        super().reset()
        self._images.clear()

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any = None,  # noqa: ANN401
        should_sync: bool = True,
        distributed_available: Callable[[], bool] | None = None,
    ) -> None:
        """Nothing is fetched from other processes; see the class.

        Raises:
            TinyDefectsError: there are others.
        """
        if should_sync:
            self._require_one_process()

    def _require_one_process(self) -> None:
        if not self.distributed_available_fn():
            return
        n_processes = torch.distributed.get_world_size(self.process_group)
        if n_processes > 1:
            raise TinyDefectsError(
                f"EvaluationMetric: the maps of {n_processes} processes are not brought together; score in one "
                "process, or pass sync_on_compute=False for the numbers of each process's own images"
            )

    def _chosen(self, evaluation: Evaluation) -> dict[str, torch.Tensor] | torch.Tensor:
        values = metrics_of(evaluation)
        chosen = {name: torch.tensor(values[name], dtype=self.dtype, device=self.device) for name in self._names}
        return chosen if self.only is None else chosen[self.only]


class _Images:
    """Images in the order they came: samples with scores in memory, maps one after the other in a file without a name.

    A copy, pickled or not, has a file of its own; to make one, all maps are read into memory.
    """

    def __init__(self) -> None:
        self._samples: list[ArraySample] = []
        self._scores: list[float] = []
        self._ends = [0]  # where each map ends in the file, in bytes, after the start of the first
        self._open()

    def _open(self) -> None:
        self._file: FileIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with its owner
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, pairs: Sequence[tuple[ArraySample, Prediction]]) -> None:
        """Append images, all or none.

        Raises:
            TinyDefectsError: the temporary folder is full.
        """
        ends = [self._ends[-1]]
        self._file.seek(ends[0])
        for _, prediction in pairs:
            self._write(np.ascontiguousarray(prediction.anomaly_map).data.cast("B"))
            ends.append(ends[-1] + prediction.anomaly_map.nbytes)
        self._samples += [sample for sample, _ in pairs]
        self._scores += [prediction.score for _, prediction in pairs]
        self._ends += ends[1:]

    def pairs(self, first: int = 0) -> Iterator[tuple[ArraySample, Prediction]]:
        """The images from number `first` on, one map in memory at a time."""
        parts = (self._samples[first:], self._scores[first:], self._ends[first:-1])
        for sample, score, start in zip(*parts, strict=True):
            self._file.seek(start)
            scores = np.fromfile(self._file, dtype=np.float32, count=math.prod(sample.size))
            yield sample, Prediction(scores.reshape(sample.size), score)

    def clear(self) -> None:
        """Forget all."""
        self._samples, self._scores, self._ends = [], [], [0]
        self._file.truncate(0)

    def _write(self, rest: memoryview) -> None:
        write_all(self._file, rest, "the maps", room="eight bytes a pixel")

    def __getstate__(self) -> dict[str, Any]:
        self._file.seek(0)
        state = {name: value for name, value in self.__dict__.items() if name != "_file"}
        return state | {"maps": self._file.readall()[: self._ends[-1]]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        maps = state.pop("maps")
        self.__dict__.update(state)
        self._open()
        self._write(memoryview(maps))


def _on_cpu(values: Any) -> Any:  # noqa: ANN401
    """The same values where NumPy can read them: tensors detached, on the CPU, and bfloat16 as float32."""
    if isinstance(values, torch.Tensor):
        local = values.detach().cpu()
        return local.float() if local.dtype == torch.bfloat16 else local
    return (_on_cpu(value) if isinstance(value, torch.Tensor) else value for value in values)
