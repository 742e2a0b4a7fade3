"""An exported model as a function of arrays, run by ONNX Runtime or OpenVINO; torch is not imported.

Neither reports anything to its maker or writes to the user's home, see `privacy`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tinydefects.errors import MissingExtraError, ModelFileError
from tinydefects.export.manifest import MODEL_FILES, Precision, Session, Target
from tinydefects.privacy import silence_reports, without_reporting

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
    open_with = {"onnx": _open_onnx, "openvino": _open_openvino}[target]
    try:
        return open_with(path, precision, threads)
    except MissingExtraError:
        raise
    except Exception as error:  # runtimes raise as they come on files they cannot run
        reason = " ".join(str(error).split())[:300]
        raise ModelFileError(f"{path}: {target} cannot run it ({reason}); export the detector again") from error


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
    silence_reports()
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingExtraError("a detector exported to ONNX", "runtime") from error
    onnxruntime.disable_telemetry_events()  # in case it was imported before, by somebody else
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings are about the optimiser's own choices
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: tuple(np.asarray(output, np.float32) for output in session.run(None, {name: batch}))


def _open_openvino(path: Path, precision: Precision, threads: int | None) -> Session:
    openvino = import_openvino()
    with path.open("rb") as file:
        if file.read(5) != b"<?xml":  # OpenVINO reads other formats under this name, too, with files of their own
            raise ValueError("not in OpenVINO's own format")
    settings = {"INFERENCE_PRECISION_HINT": OPENVINO_HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    model = openvino.Core().compile_model(path, "CPU", settings)
    return lambda batch: tuple(np.array(output, np.float32) for output in model(batch).values())
