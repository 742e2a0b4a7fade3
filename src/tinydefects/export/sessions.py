"""An exported model as a function of arrays, run by ONNX Runtime, OpenVINO or torch; only the last one imports torch.

OpenVINO's Python package reports its imports to its maker unless the reporting package is missing; here it is made to
look missing while OpenVINO is imported, so nothing is sent and nothing is written to the user's home.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tinydefects.errors import MissingExtraError, ModelFileError
from tinydefects.export.manifest import MODEL_FILES, Precision, Session, Target

REPORTING_PACKAGE = "openvino_telemetry"
OPENVINO_HINTS: dict[Precision, str] = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}


def open_session(folder: Path, target: Target, precision: Precision, *, threads: int | None = None) -> Session:
    """The model of a folder, on the CPU: a (1, H, W, 3) uint8 batch of one image to its outputs, all float32.

    Args:
        folder: where the model's files are.
        target: what it was exported to.
        precision: of its arithmetic.
        threads: None is the runtime's own choice.

    Raises:
        MissingExtraError: its runtime is not installed.
        ModelFileError: the runtime does not take the file.
    """
    path = folder / MODEL_FILES[target][0]
    open_with = {"onnx": _open_onnx, "openvino": _open_openvino, "torch": _open_torch}[target]
    try:
        return open_with(path, precision, threads)
    except MissingExtraError:
        raise
    except Exception as error:  # runtimes raise as they come on files they cannot run
        reason = " ".join(str(error).split())[:300]
        raise ModelFileError(f"{path}: {target} cannot run it ({reason}); export the detector again") from error


@contextlib.contextmanager
def without_reporting() -> Iterator[None]:
    """OpenVINO and NNCF that are first imported inside send nothing and keep no identifier in the user's home."""
    before = sys.modules.get(REPORTING_PACKAGE)
    sys.modules[REPORTING_PACKAGE] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[REPORTING_PACKAGE]
        if before is not None:
            sys.modules[REPORTING_PACKAGE] = before


def import_openvino() -> Any:  # noqa: ANN401
    """The openvino module, silent.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        with without_reporting():
            import openvino
    except ModuleNotFoundError as error:
        raise MissingExtraError("a detector exported to OpenVINO", "runtime") from error
    return openvino


def _open_onnx(path: Path, precision: Precision, threads: int | None) -> Session:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingExtraError("a detector exported to ONNX", "runtime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings are about the optimiser's own choices
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: tuple(np.asarray(output, np.float32) for output in session.run(None, {name: batch}))


def _open_openvino(path: Path, precision: Precision, threads: int | None) -> Session:
    openvino = import_openvino()
    settings = {"INFERENCE_PRECISION_HINT": OPENVINO_HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    model = openvino.Core().compile_model(path, "CPU", settings)
    return lambda batch: tuple(np.array(output, np.float32) for output in model(batch).values())


def _open_torch(path: Path, precision: Precision, threads: int | None) -> Session:
    try:
        from tinydefects.export.torch_graph import open_program
    except ModuleNotFoundError as error:
        raise MissingExtraError("a detector exported to torch", "detector") from error
    return open_program(path, threads)
