"""The export stage: an encoder folder in, files of every wanted format out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from export.encoder.formats import Export, ExportedFormat, known_format, write_export
from export.encoder.params import ExportParams, served_buckets
from twinline.contract.encoder.encoder_record import check_encoder
from twinline.contract.encoder.space import hash_safetensors, space_id
from twinline.contract.encoder.specification import Contract, Pooling
from twinline.contract.errors import ContractError, MismatchError
from twinline.contract.release.manifest import DroppedFormat

WEIGHTS_FILE = "model.safetensors"

Calibration: TypeAlias = Sequence[Sequence[int]]
"""token ids of texts, special tokens included"""


def export_encoder(encoder: Path, target: Path, params: ExportParams, calibration: Calibration = ()) -> Export:
    """Write every wanted format below `target`, and the list of the formats.

    Args:
        encoder: a transformers folder with the contract beside the weights.
        target: the export's folder, made if need be.
        params: the wanted formats, and the shapes of a TensorRT plan.
        calibration: token ids of texts as served; without them no int8 format is made.

    Raises:
        MismatchError: weights and contract do not belong together.
        ContractError: a float32 format cannot be made.
    """
    contract = load_encoder_contract(encoder)
    target.mkdir(parents=True, exist_ok=True)
    wanted = [known_format(name) for name in params.formats]
    # Every other format is made from the ONNX graph.
    onnx_file = target / known_format("onnx_fp32").file
    _write_onnx(encoder, contract.vector.pooling, onnx_file)
    made: list[ExportedFormat] = []
    dropped: list[DroppedFormat] = []
    for entry in wanted:
        try:
            made.append(_build(entry, onnx_file, target, params, contract.vector.max_tokens, calibration))
        except ContractError as exc:
            if entry.precision == "fp32":
                raise
            dropped.append(DroppedFormat(entry.name, str(exc)))
    export = Export(encoder_space(encoder, contract), tuple(made), tuple(dropped))
    write_export(target, export)
    return export


def load_encoder_contract(encoder: Path) -> Contract:
    """Return the contract beside the weights: the first of the doors.

    Raises:
        MismatchError: contract and weights were not trained together, or cannot fit.
    """
    contract, _ = Contract.load(encoder)
    config = json.loads((encoder / "config.json").read_bytes())
    dimension = config.get("hidden_size") or config.get("dim")
    if dimension != contract.vector.dimension:
        raise MismatchError(
            f"{encoder}: contract {contract.vector_fingerprint[:12]} says dimension {contract.vector.dimension}, the "
            f"weights have {dimension}: use the contract that was saved with these weights"
        )
    positions = config.get("max_position_embeddings")
    if positions and positions < contract.vector.max_tokens:
        raise MismatchError(
            f"{encoder}: contract {contract.vector_fingerprint[:12]} allows {contract.vector.max_tokens} tokens, the "
            f"weights have {positions} positions: set train.max_tokens to at most {positions}"
        )
    check_encoder(encoder, contract, hash_safetensors(encoder / WEIGHTS_FILE))
    return contract


def encoder_space(encoder: Path, contract: Contract) -> str:
    """Return the space of the encoder in a folder."""
    return space_id(contract.vector_fingerprint, hash_safetensors(encoder / WEIGHTS_FILE))


def _write_onnx(encoder: Path, pooling: Pooling, target: Path) -> None:
    from export.encoder.to_onnx import export_onnx

    export_onnx(encoder, pooling, target)


def _build(
    entry: ExportedFormat, onnx_file: Path, target: Path, params: ExportParams, max_tokens: int, calibration: Calibration
) -> ExportedFormat:
    if entry.backend == "openvino" and entry.precision == "int8":
        return _build_int8(entry, onnx_file, target, calibration)
    if entry.backend == "openvino":
        return _build_openvino(entry, onnx_file, target)
    if entry.backend == "tensorrt":
        buckets = served_buckets(params.length_buckets, max_tokens)
        return _build_tensorrt(entry, onnx_file, target, buckets, params.max_batch_size)
    return entry


def _build_openvino(entry: ExportedFormat, onnx_file: Path, target: Path) -> ExportedFormat:
    from export.encoder.to_openvino import export_openvino, has_bf16

    if entry.precision == "bf16" and not has_bf16():
        raise ContractError("this CPU has no bfloat16 arithmetic (AVX512-BF16 or AMX)")
    if not (target / entry.file).is_file():
        export_openvino(onnx_file, target / entry.file)
    return entry


def _build_int8(entry: ExportedFormat, onnx_file: Path, target: Path, calibration: Calibration) -> ExportedFormat:
    from export.encoder.to_int8 import export_int8

    if not calibration:
        raise ContractError(
            "an int8 format needs texts of the corpus for its calibration, and there are none: set export.calibration_chunks"
        )
    export_int8(onnx_file, target / entry.file, calibration)
    return entry


def _build_tensorrt(
    entry: ExportedFormat, onnx_file: Path, target: Path, buckets: Sequence[int], max_batch_size: int
) -> ExportedFormat:
    from export.encoder.to_tensorrt import export_tensorrt, plan_path, why_unavailable

    if reason := why_unavailable():
        raise ContractError(reason)
    plan = plan_path((target / entry.file).parent)
    export_tensorrt(onnx_file, plan, buckets, max_batch_size)
    return ExportedFormat(entry.name, entry.backend, entry.precision, plan.relative_to(target).as_posix())
