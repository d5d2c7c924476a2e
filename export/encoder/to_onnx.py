"""ONNX: one graph from token ids to unit vectors, with dynamic batch and length."""

from pathlib import Path

import torch

from export.encoder.reference import SentenceEncoder, load_backbone
from export.onnx_graph import ONE_FILE_LIMIT_BYTES, quiet_exporter, strip_traces
from twinline.contract.encoder.specification import Pooling
from twinline.contract.encoder.tensors import ATTENTION_MASK, INPUT_IDS, SENTENCE_EMBEDDING


def export_onnx(encoder: Path, pooling: Pooling, target: Path) -> None:
    """Write the encoder in folder `encoder` as the ONNX file `target`, weights included where one file can hold them."""
    # Plain products and a softmax, because a runtime fuses them into one kernel. The fused operator of torch is exported as more
    # operations, with guards against fully masked rows, and OpenVINO does not fuse them: 5 to 15 % more time on a CPU.
    graph = SentenceEncoder(load_backbone(encoder, attention="eager"), pooling)
    # The exporter restores the mode that it found. A new wrapper is in training mode and would keep dropout.
    graph.eval()
    example = torch.ones((2, 16), dtype=torch.int64)
    open_axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    size = sum(parameter.numel() * parameter.element_size() for parameter in graph.parameters())
    target.parent.mkdir(parents=True, exist_ok=True)
    with quiet_exporter():
        torch.onnx.export(
            graph,
            (example, example.clone()),
            target,
            input_names=[INPUT_IDS, ATTENTION_MASK],
            output_names=[SENTENCE_EMBEDDING],
            dynamic_shapes={INPUT_IDS: open_axes, ATTENTION_MASK: open_axes},
            dynamo=True,
            external_data=size > ONE_FILE_LIMIT_BYTES,
            verbose=False,
        )
    strip_traces(target)
