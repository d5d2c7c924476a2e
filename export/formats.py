"""The formats that an encoder can be exported to: a table, not a hierarchy."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from contract.errors import ContractError, SettingsError
from contract.manifest import DroppedFormat

Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "int8"]
Backend: TypeAlias = Literal["onnxruntime", "openvino", "tensorrt"]

FORMATS_FILE: Final = "formats.json"


@dataclass(frozen=True, slots=True)
class ExportedFormat:
    """One way to run an encoder: a file, what runs it, and at which precision. `file` is relative to the export."""

    name: str
    backend: Backend
    precision: Precision
    file: str


@dataclass(frozen=True, slots=True)
class Export:
    """What one export stage made, and what it had to leave out."""

    formats: tuple[ExportedFormat, ...]
    dropped: tuple[DroppedFormat, ...] = ()


KNOWN_FORMATS: Final[Mapping[str, ExportedFormat]] = {
    entry.name: entry
    for entry in (
        ExportedFormat("onnx_fp32", "onnxruntime", "fp32", "onnx/model.onnx"),
        ExportedFormat("openvino_fp32", "openvino", "fp32", "openvino/model.xml"),
        # the same file, compiled for another precision
        ExportedFormat("openvino_bf16", "openvino", "bf16", "openvino/model.xml"),
        # the true file name carries GPU architecture and TensorRT version: see to_tensorrt.plan_path
        ExportedFormat("tensorrt_fp16", "tensorrt", "fp16", "tensorrt/model.plan"),
    )
}


def known_format(name: str) -> ExportedFormat:
    """Return the entry of one format.

    Raises:
        SettingsError: for a name that is not in the table.
    """
    if name not in KNOWN_FORMATS:
        raise SettingsError(f"format {name!r} is not known: choose from {', '.join(KNOWN_FORMATS)}")
    return KNOWN_FORMATS[name]


def write_export(folder: Path, export: Export) -> None:
    """Write the list of formats beside the exported files."""
    (folder / FORMATS_FILE).write_text(json.dumps(asdict(export), indent=2) + "\n")


def read_export(folder: Path) -> Export:
    """Read what `write_export` wrote.

    Raises:
        ContractError: when the folder holds no export.
    """
    path = folder / FORMATS_FILE
    if not path.is_file():
        raise ContractError(f"{path} does not exist: run `python -m export export` first")
    value = json.loads(path.read_bytes())
    return Export(
        formats=tuple(ExportedFormat(**entry) for entry in value["formats"]),
        dropped=tuple(DroppedFormat(**entry) for entry in value["dropped"]),
    )
