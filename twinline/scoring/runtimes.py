"""Run an exported file in this process, as its backend would run it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinline.contract.encoder.runtime import Runtime
from twinline.contract.encoder.tensors import ATTENTION_MASK, INPUT_IDS, SENTENCE_EMBEDDING


def open_onnxruntime(path: Path) -> Runtime:
    """Return the runtime of an ONNX file, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        outputs = session.run([SENTENCE_EMBEDDING], {INPUT_IDS: input_ids, ATTENTION_MASK: attention_mask})
        return np.asarray(outputs[0], dtype=np.float32)

    return run


def open_openvino(path: Path, hint: str) -> Runtime:
    """Return the runtime of an OpenVINO file, on the CPU, computed in the precision of OpenVINO's hint."""
    import openvino

    # Without the hint OpenVINO takes bfloat16 wherever the CPU has it, also for an fp32 format.
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()

    def run(input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        outputs = request.infer({INPUT_IDS: input_ids, ATTENTION_MASK: attention_mask})
        return np.array(outputs[SENTENCE_EMBEDDING], dtype=np.float32)

    return run
