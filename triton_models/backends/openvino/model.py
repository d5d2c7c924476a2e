"""Serve `backend: "openvino"` in the embedded server; a full Triton has this backend built in."""

import os
import sys
from pathlib import Path
from typing import Any

# No usage reports of the converter.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import openvino
from merging import TensorNames, Tensors, answer
from numpy.typing import NDArray

_PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "bf16"}


class TritonPythonModel:
    """One inference request over all cores, in each of two processes, so that a query runs at once beside a document."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compile the model's file at the precision that its config names."""
        self._names = TensorNames(args["model_config"])
        path = Path(args["model_repository"], args["model_version"], self._names.file)
        precision = self._names.parameters["precision"]
        core = openvino.Core()
        # Without a hint OpenVINO takes bfloat16 wherever the CPU has it, also for a release judged in fp32.
        hint = _PRECISION_HINTS[precision]
        if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            # It would be emulated, far slower than fp32.
            hint = "f32"
        options = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(len(os.sched_getaffinity(0))),
            # Broker, store and search share the machine: a thread pinned to a busy core would hold up all others.
            "ENABLE_CPU_PINNING": "NO",
        }
        self._request = core.compile_model(path, "CPU", options).create_infer_request()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests of one batch."""
        responses: list[Any] = answer(requests, self._names, self._run)
        return responses

    def _run(self, tensors: Tensors) -> NDArray[np.float32]:
        # A copy: the request's own memory is overwritten by the next batch.
        return np.array(self._request.infer(dict(tensors), share_inputs=True)[self._names.output])
