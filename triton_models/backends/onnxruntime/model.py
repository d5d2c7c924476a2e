"""Serve `backend: "onnxruntime"` in the embedded server; a full Triton has this backend built in."""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import onnxruntime
from merging import TensorNames, Tensors, answer
from numpy.typing import NDArray


class TritonPythonModel:
    """One session over all cores, in each of two processes, so that a query runs at once beside a document."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model's file."""
        self._names = TensorNames(args["model_config"])
        path = Path(args["model_repository"], args["model_version"], self._names.file)
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        # Threads that spin between batches take the cores from the broker, the store and the tokenizer.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests of one batch."""
        responses: list[Any] = answer(requests, self._names, self._run)
        return responses

    def _run(self, tensors: Tensors) -> NDArray[np.float32]:
        output: NDArray[np.float32] = self._session.run([self._names.output], dict(tensors))[0]
        return output
