"""OpenVINO: torch to a stateful intermediate representation, float32; int8 weights by NNCF.

The precision of the computation is chosen when the file is compiled, so one file serves fp32 and bf16. int8 is a file of its own.
"""

import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.generator.cached import ATTENTION_MASK, INPUT_IDS, LOGITS, POSITION_IDS, CachedModel, load_generator
from twinline.contract.errors import ContractError

_ROWS = "beam_idx"


def export_openvino(generator: Path, target: Path) -> None:
    """Write the generator of a folder to `target` (.xml, with the weights in a .bin beside it).

    Raises:
        ContractError: the folder holds no generator, or one that OpenVINO cannot convert.
    """
    import openvino

    graph = CachedModel(load_generator(generator)).eval()
    try:
        model = _converted(graph)
        _make_stateful(model, graph)
        target.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(model, target, compress_to_fp16=False)
    except (RuntimeError, ValueError, TypeError) as exc:
        raise ContractError(
            f"{generator}: OpenVINO {openvino.__version__} cannot convert this model ({exc}): use a llama-like model, or the "
            "versions of constraints.txt"
        ) from exc


def export_int8(exported: Path, target: Path) -> None:
    """Write the float32 file `exported` with weights of 8 bits to `target`; its activations stay as they are.

    Raises:
        ContractError: `exported` is missing, or NNCF cannot compress it.
    """
    import openvino

    if not exported.is_file():
        raise ContractError(f"{exported} does not exist: export the generator in float32 first")
    # NNCF reports progress on standard output, which carries a command's result.
    with redirect_stdout(sys.stderr):
        import nncf

        try:
            model = nncf.compress_weights(openvino.Core().read_model(exported), mode=nncf.CompressWeightsMode.INT8_ASYM)
            target.parent.mkdir(parents=True, exist_ok=True)
            openvino.save_model(model, target, compress_to_fp16=False)
        except (RuntimeError, ValueError, nncf.InternalError, nncf.ValidationError, nncf.UnsupportedModelError) as exc:
            raise ContractError(f"{exported}: NNCF cannot give it int8 weights ({exc}): serve it in fp32 or bf16") from exc


def _converted(graph: CachedModel) -> Any:
    import openvino

    with torch.inference_mode(), warnings.catch_warnings():
        # Shapes become constants only where they are constants of the model.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        traced = torch.jit.trace(graph, graph.example(), check_trace=False)  # type: ignore[no-untyped-call]
        model = openvino.convert_model(traced, example_input=graph.example())
    names = (INPUT_IDS, ATTENTION_MASK, POSITION_IDS, *graph.past_names())
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
        node = port.get_node()
        node.set_friendly_name(name)
        shape = [-1, graph.kv_heads, -1, graph.head_size] if name.startswith("past") else [-1, -1]
        node.set_partial_shape(openvino.PartialShape(shape))
    for port, name in zip(model.outputs, (LOGITS, *graph.present_names()), strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    model.validate_nodes_and_infer_types()
    return model


def _make_stateful(model: Any, graph: CachedModel) -> None:
    """Turn the inputs of keys and values into variables of the model, whose rows `beam_idx` picks."""
    from openvino import opset13 as ops
    from openvino._offline_transformations import apply_make_stateful_transformation

    rows = ops.parameter([-1], np.int32, name=_ROWS)
    rows.output(0).get_tensor().set_names({_ROWS})
    model.add_parameters([rows])
    for name in graph.past_names():
        past = model.input(name)
        consumers = past.get_target_inputs()
        picked = ops.gather(past, rows, ops.constant(np.int64(0)))
        for consumer in consumers:
            consumer.replace_source_output(picked.output(0))
    model.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(model, dict(zip(graph.past_names(), graph.present_names(), strict=True)))
    # An empty state has as many rows as the request that begins with it.
    batch = ops.gather(ops.shape_of(model.input(INPUT_IDS), output_type="i64"), ops.constant([0]), ops.constant(0))
    for operation in model.get_ops():
        if operation.get_type_name() != "ReadValue":
            continue
        shape = ops.concat([batch, ops.constant(np.array([graph.kv_heads, 0, graph.head_size], np.int64))], axis=0)
        empty = ops.broadcast(ops.constant(np.float32(0)), shape)
        operation.set_arguments([empty])
    model.validate_nodes_and_infer_types()
