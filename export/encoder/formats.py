"""The formats of an exported encoder: a table, not a hierarchy."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from twinline.contract.encoder.runtime import Backend, Precision
from twinline.contract.errors import ContractError, MismatchError, SettingsError
from twinline.contract.release.manifest import DroppedFormat, hash_files

FORMATS_FILE: Final = "formats.json"


@dataclass(frozen=True, slots=True)
class ExportedFormat:
    """One way to run an encoder: file, backend and precision. `file` is relative to the export."""

    name: str
    backend: Backend
    precision: Precision
    file: str


@dataclass(frozen=True, slots=True)
class Export:
    """The formats that one export stage made of the encoder of one space, and the formats that it dropped."""

    space: str
    formats: tuple[ExportedFormat, ...]
    dropped: tuple[DroppedFormat, ...] = ()


KNOWN_FORMATS: Final[Mapping[str, ExportedFormat]] = {
    entry.name: entry
    for entry in (
        ExportedFormat("onnx_fp32", "onnxruntime", "fp32", "onnx/model.onnx"),
        ExportedFormat("openvino_fp32", "openvino", "fp32", "openvino/model.xml"),
        # the same file, compiled for another precision
        ExportedFormat("openvino_bf16", "openvino", "bf16", "openvino/model.xml"),
        # calibrated on the corpus; its operations that stay exact run in bfloat16 where the CPU has it
        ExportedFormat("openvino_int8", "openvino", "int8", "openvino_int8/model.xml"),
        # the true file name carries GPU architecture and TensorRT version: see to_tensorrt.plan_path
        ExportedFormat("tensorrt_fp16", "tensorrt", "fp16", "tensorrt/model.plan"),
    )
}


def known_format(name: str) -> ExportedFormat:
    """Return the entry of one format.

    Raises:
        SettingsError: the table has no such name.
    """
    if name not in KNOWN_FORMATS:
        raise SettingsError(f"format {name!r} is not known: choose from {', '.join(KNOWN_FORMATS)}")
    return KNOWN_FORMATS[name]


def write_export(folder: Path, export: Export) -> None:
    """Write the list of formats beside the exported files, with the files' hashes; call this last."""
    content = {**asdict(export), "files": _hashes(folder)}
    (folder / FORMATS_FILE).write_text(json.dumps(content, indent=2) + "\n")


def read_export(folder: Path, space: str) -> Export:
    """Read the list from `write_export`.

    Args:
        folder: the export's.
        space: of the encoder that it must have been made from.

    Raises:
        ContractError: the folder holds no export.
        MismatchError: it was made from another encoder, or a file was changed since.
    """
    path = folder / FORMATS_FILE
    if not path.is_file():
        raise ContractError(f"{path} does not exist: run `python -m export export` first")
    value = json.loads(path.read_bytes())
    if value.get("space") != space:
        raise MismatchError(
            f"{folder} was exported from the encoder of space {value.get('space')}, this encoder is of space {space}: export it "
            "again (`dvc repro encoder-export`)"
        )
    found, expected = _hashes(folder), value["files"]
    changed = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    if changed:
        raise MismatchError(
            f"{folder}: {', '.join(changed[:5])} changed after the export: export again (`dvc repro encoder-export`)"
        )
    return Export(
        space=space,
        formats=tuple(ExportedFormat(**entry) for entry in value["formats"]),
        dropped=tuple(DroppedFormat(**entry) for entry in value["dropped"]),
    )


def export_sha256(folder: Path) -> str:
    """Return the hash of an export's record, which names the space and the hash of every file."""
    return hashlib.sha256((folder / FORMATS_FILE).read_bytes()).hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in hash_files(folder).items() if name != FORMATS_FILE}
