"""The common part of the embedded backends: run the requests from Triton as one batch, and answer each of them.

Native backends do this in C++. A request that fails gets its own error, and the other requests are answered.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]
Run = Callable[[Tensors], NDArray[np.float32]]


class TensorNames:
    """Input names, output names and parameters of a served model, from its config."""

    def __init__(self, model_config: str) -> None:
        config = json.loads(model_config)
        self.inputs = [entry["name"] for entry in config["input"]]
        self.output = str(config["output"][0]["name"])
        self.file = str(config["default_model_filename"])
        self.parameters = {key: entry["string_value"] for key, entry in config.get("parameters", {}).items()}


def answer(requests: Sequence[Any], names: TensorNames, run: Run) -> list[Any]:
    """Return one response a request, in order; requests of equal length run as one batch."""
    responses: list[Any] = [None] * len(requests)
    groups: dict[int, list[tuple[int, Tensors]]] = {}
    for place, request in enumerate(requests):
        tensors = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names.inputs}
        shapes = {array.shape for array in tensors.values()}
        if len(shapes) != 1:
            responses[place] = _error(f"{' and '.join(names.inputs)} must have one shape, these have {sorted(shapes)}")
        else:
            groups.setdefault(shapes.pop()[1], []).append((place, tensors))
    for group in groups.values():
        for place, response in _run_group(group, names, run):
            responses[place] = response
    return responses


def _run_group(group: list[tuple[int, Tensors]], names: TensorNames, run: Run) -> list[tuple[int, Any]]:
    try:
        # A single request, the usual case for a query, needs no copy.
        merged = (
            group[0][1]
            if len(group) == 1
            else {name: np.concatenate([tensors[name] for _, tensors in group]) for name in names.inputs}
        )
        output = run(merged)
    # Each runtime has its own error types; any of them belongs in the answer and must not end the server.
    except Exception as exc:  # noqa: BLE001
        if len(group) == 1:
            return [(group[0][0], _error(f"{type(exc).__name__}: {exc}"))]
        # One bad request may have failed the batch, so each runs again alone.
        return [answered for entry in group for answered in _run_group([entry], names, run)]
    sizes = [len(next(iter(tensors.values()))) for _, tensors in group]
    parts = np.split(output, np.cumsum(sizes)[:-1])
    return [
        (place, pb_utils.InferenceResponse([pb_utils.Tensor(names.output, np.ascontiguousarray(part))]))
        for (place, _), part in zip(group, parts, strict=True)
    ]


def _error(message: str) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message))
