"""ONNX: one graph with the keys and values so far as inputs, and with the new ones beside them as outputs."""

from pathlib import Path

import torch

from export.generator.cached import ATTENTION_MASK, INPUT_IDS, LOGITS, POSITION_IDS, CachedModel, load_generator
from export.onnx_graph import ONE_FILE_LIMIT_BYTES, quiet_exporter, strip_traces
from twinline.contract.errors import ContractError


def export_onnx(generator: Path, target: Path) -> None:
    """Write the generator of a folder as the ONNX file `target`, float32, weights included where one file can hold them.

    Raises:
        ContractError: the folder holds no generator, or one that the exporter cannot convert.
    """
    graph = CachedModel(load_generator(generator)).eval()
    size = sum(parameter.numel() * parameter.element_size() for parameter in graph.parameters())
    # The mask is as long as past and new ids together, which the exporter finds out by itself.
    open_axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    cache = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with quiet_exporter(), torch.inference_mode():
            torch.onnx.export(
                graph,
                graph.example(),
                target,
                input_names=[INPUT_IDS, ATTENTION_MASK, POSITION_IDS, *graph.past_names()],
                output_names=[LOGITS, *graph.present_names()],
                dynamic_shapes=(open_axes, open_axes, open_axes, tuple(cache for _ in graph.past_names())),
                dynamo=True,
                external_data=size > ONE_FILE_LIMIT_BYTES,
                verbose=False,
            )
        strip_traces(target)
    except (RuntimeError, ValueError, TypeError, torch.onnx.OnnxExporterError) as exc:
        raise ContractError(
            f"{generator}: torch {torch.__version__} cannot export this model to ONNX ({exc}): serve OpenVINO"
        ) from exc
