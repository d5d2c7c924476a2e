"""Run an exported file in this process, as its backend would run it, for the comparison with the reference."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from export.encoder.formats import ExportedFormat
from export.encoder.to_openvino import has_bf16
from twinline.contract.encoder.runtime import Precision, Runtime
from twinline.contract.encoder.tensors import ATTENTION_MASK, INPUT_IDS, SENTENCE_EMBEDDING

# OpenVINO's hints; also in triton_models/backends/openvino/model.py, which stands alone. The exact operations of an int8 file run
# in bfloat16.
OPENVINO_HINTS: Final[Mapping[Precision, str]] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "bf16"}


def openvino_hint(precision: Precision) -> str:
    """Return OpenVINO's precision hint for this machine's CPU.

    A CPU with AVX-512 and without bfloat16 would emulate it, far slower than fp32: there fp32 takes its place.
    """
    hint = OPENVINO_HINTS[precision]
    return "f32" if hint == "bf16" and not has_bf16() else hint


def open_runtime(exported: Path, entry: ExportedFormat) -> Runtime:
    """Return the runtime of one exported format; `exported` is the export's folder."""
    path = exported / entry.file
    if entry.backend == "onnxruntime":
        return _onnxruntime(path)
    if entry.backend == "openvino":
        return _openvino(path, entry.precision)
    from export.encoder.to_tensorrt import open_plan

    return open_plan(path)


def _onnxruntime(path: Path) -> Runtime:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        outputs = session.run([SENTENCE_EMBEDDING], {INPUT_IDS: input_ids, ATTENTION_MASK: attention_mask})
        return np.asarray(outputs[0], dtype=np.float32)

    return run


def _openvino(path: Path, precision: Precision) -> Runtime:
    import openvino

    # Without the hint OpenVINO takes bfloat16 wherever the CPU has it, also for an fp32 format.
    compiled = openvino.Core().compile_model(
        path, "CPU", {"INFERENCE_PRECISION_HINT": openvino_hint(precision), "PERFORMANCE_HINT": "LATENCY"}
    )
    request = compiled.create_infer_request()

    def run(input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        outputs = request.infer({INPUT_IDS: input_ids, ATTENTION_MASK: attention_mask})
        return np.array(outputs[SENTENCE_EMBEDDING], dtype=np.float32)

    return run
