"""From the traced ONNX file to what a target and a precision ask for: OpenVINO's format, and int8 by NNCF."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.errors import ExportError, MissingExtraError
from tinydefects.export.manifest import FLOAT32_PARTS, MODEL_FILES, Precision, Target
from tinydefects.export.sessions import import_openvino
from tinydefects.privacy import without_reporting

Batches = Sequence[NDArray[np.uint8]]  # inputs of the model, (1, H, W, 3) each


def convert(source: Path, folder: Path, target: Target, precision: Precision, calibration: Batches) -> None:
    """Write the traced ONNX file as the model of an `onnx` or `openvino` folder.

    Numbers are as wide as in the traced file; OpenVINO would halve them unless told not to.

    Raises:
        MissingExtraError: the packages for it are not installed.
    """
    path = folder / MODEL_FILES[target][0]
    if target == "openvino":
        openvino = import_openvino()
        model = openvino.Core().read_model(source)
        if precision == "int8":
            model = quantise(model, model.input(0).any_name, calibration)
        openvino.save_model(model, path, compress_to_fp16=False)
    elif precision == "int8":
        import onnx

        model = onnx.load(source)
        onnx.save(quantise(model, model.graph.input[0].name, calibration), path)
    else:
        for part in source.parent.glob(f"{source.name}*"):  # weights above 2 GB lie in a file of their own
            part.rename(folder / part.name.replace(source.name, path.name))


def quantise(model: Any, name: str, calibration: Batches) -> Any:  # noqa: ANN401
    """The model with int8 products; ranges come from the calibration inputs, given to the input of that name.

    Post-training quantisation with the settings NNCF has for transformers, smooth quantisation included.

    Raises:
        MissingExtraError: nncf is not installed.
        ExportError: NNCF cannot do it.
    """
    try:
        with _silence():
            import nncf

            return nncf.quantize(
                model,
                nncf.Dataset([{name: batch} for batch in calibration]),
                model_type=nncf.ModelType.TRANSFORMER,
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(calibration),
                ignored_scope=nncf.IgnoredScope(patterns=[f"{part}[.].*" for part in FLOAT32_PARTS], validate=False),
            )
    except ModuleNotFoundError as error:
        raise MissingExtraError("int8", "export") from error
    except Exception as error:  # NNCF raises as it comes on graphs it was not made for
        raise ExportError(f"NNCF cannot quantise this detector ({error}); choose another --precision") from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """NNCF reports nothing to its maker, prints nothing, and leaves Python's logging as it was."""
    logger_class = logging.getLoggerClass()
    with (
        without_reporting(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.setLoggerClass(logger_class)
