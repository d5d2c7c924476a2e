"""Run an exported file in this process, as its backend would run it, for the comparison with the reference."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from export.encoder.formats import ExportedFormat
from export.encoder.to_openvino import has_bf16
from twinline.contract.encoder.runtime import Precision, Runtime
from twinline.scoring.runtimes import open_onnxruntime, open_openvino

# OpenVINO's hints; also in triton_models/backends/openvino/model.py, which stands alone. The exact operations of an int8 file run
# in bfloat16.
OPENVINO_HINTS: Final[Mapping[Precision, str]] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "bf16"}


def openvino_hint(precision: Precision) -> str:
    """Return OpenVINO's precision hint for this machine's CPU.

    A CPU with AVX-512 and without bfloat16 would emulate it, far slower than fp32: there fp32 takes its place.
    """
    hint = OPENVINO_HINTS[precision]
    return "f32" if hint == "bf16" and not has_bf16() else hint


def open_runtime(exported: Path, entry: ExportedFormat) -> Runtime:
    """Return the runtime of one exported format; `exported` is the export's folder."""
    path = exported / entry.file
    if entry.backend == "onnxruntime":
        return open_onnxruntime(path)
    if entry.backend == "openvino":
        return open_openvino(path, openvino_hint(entry.precision))
    from export.encoder.to_tensorrt import open_plan

    return open_plan(path)
