"""An exported ONNX graph as a file: how large one may be, without traces of this machine, and a quiet exporter."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import onnx

# A protobuf file ends at 2 GiB; larger weights go into a file beside it.
ONE_FILE_LIMIT_BYTES: Final = 1_900_000_000


def strip_traces(path: Path) -> None:
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
def quiet_exporter() -> Iterator[None]:
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
