"""ONNX: one graph from token ids to unit vectors, with dynamic batch and length."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch

from export.encoder.reference import SentenceEncoder, load_backbone
from twinline.contract.encoder.specification import Pooling
from twinline.contract.encoder.tensors import ATTENTION_MASK, INPUT_IDS, SENTENCE_EMBEDDING

# A protobuf file ends at 2 GiB; larger weights go into a file beside it.
_ONE_FILE_LIMIT_BYTES = 1_900_000_000


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
    with _quiet():
        torch.onnx.export(
            graph,
            (example, example.clone()),
            target,
            input_names=[INPUT_IDS, ATTENTION_MASK],
            output_names=[SENTENCE_EMBEDDING],
            dynamic_shapes={INPUT_IDS: open_axes, ATTENTION_MASK: open_axes},
            dynamo=True,
            external_data=size > _ONE_FILE_LIMIT_BYTES,
            verbose=False,
        )
    _strip_traces(target)


def _strip_traces(path: Path) -> None:
    """Remove stack traces from the nodes: they name folders of this machine, so equal encoders would give unequal files."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        del node.metadata_props[:]
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes on optional packages and its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logger.setLevel(level)
