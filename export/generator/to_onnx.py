"""ONNX: one graph with the keys and values so far as inputs, and with the new ones beside them as outputs."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch

from export.generator.cached import ATTENTION_MASK, INPUT_IDS, LOGITS, POSITION_IDS, CachedModel, load_generator
from twinline.contract.errors import ContractError

# A protobuf file ends at 2 GiB; larger weights go into a file beside it.
_ONE_FILE_LIMIT_BYTES = 1_900_000_000


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
        with _quiet(), torch.inference_mode():
            torch.onnx.export(
                graph,
                graph.example(),
                target,
                input_names=[INPUT_IDS, ATTENTION_MASK, POSITION_IDS, *graph.past_names()],
                output_names=[LOGITS, *graph.present_names()],
                dynamic_shapes=(open_axes, open_axes, open_axes, tuple(cache for _ in graph.past_names())),
                dynamo=True,
                external_data=size > _ONE_FILE_LIMIT_BYTES,
                verbose=False,
            )
        _strip_traces(target)
    except (RuntimeError, ValueError, TypeError, torch.onnx.OnnxExporterError) as exc:
        raise ContractError(
            f"{generator}: torch {torch.__version__} cannot export this model to ONNX ({exc}): serve OpenVINO"
        ) from exc


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
