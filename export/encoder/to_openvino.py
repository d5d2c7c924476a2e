"""OpenVINO: the ONNX graph as intermediate representation, weights kept in float32."""

from pathlib import Path


def export_openvino(onnx_file: Path, target: Path) -> None:
    """Convert `onnx_file` to `target` (.xml, with the weights in a .bin beside it).

    The weights stay float32: the precision is chosen at compile time, so one file serves fp32 and bf16.
    """
    import openvino

    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(openvino.convert_model(onnx_file), target, compress_to_fp16=False)


def has_bf16() -> bool:
    """Return whether this machine's CPU computes in bfloat16 (AVX512-BF16 or AMX)."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_vnni() -> bool:
    """Return whether this machine's CPU adds products of 8 bits in 32 bits, without overflow (VNNI or AMX)."""
    import torch

    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))
