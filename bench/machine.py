"""The machine behind a figure: its description, and its own limits, measured in the same run."""

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.encoder.to_openvino import has_bf16
from twinline.contract.canonical import JSON
from twinline.contract.encoder.runtime import Precision

_PACKAGES: Final = (
    *("numpy", "torch", "sentence-transformers", "transformers", "onnxruntime", "openvino"),
    *("qdrant-edge-py", "kafka-python"),
)
# The flags that decide the speed of a matrix product.
_TELLING_FLAGS: Final = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_SIZE: Final = 2048
_COPIED_BYTES: Final = 1 << 28


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, JSON]:
    """Return processor, flags, memory, load and versions."""
    info = Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in info.split("\n\n", 1)[0].splitlines() if ":" in line)
    found = {name.strip(): value.strip() for name, value in fields.items()}
    flags = found.get("flags", "").split()
    return {
        "processor": found.get("model name", platform.processor()),
        "cores": cores(),
        "flags": [flag for flag in _TELLING_FLAGS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        # A load above the number of cores means that the machine had other work during this run.
        "load_before": round(os.getloadavg()[0], 2),
        "python": sys.version.split()[0],
        "versions": {package: _version(package) for package in _PACKAGES},
    }


def _version(package: str) -> str:
    """Return a version; a machine for training alone has no store and no broker."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def limits(seconds: float = 1.0) -> dict[str, Any]:
    """Return the machine's limits: matrix-multiply peak by precision in GFLOP/s, and memory bandwidth in GB/s."""
    # Without bfloat16 the runtimes emulate it, far slower than fp32.
    precisions = ("f32", "bf16", "int8") if has_bf16() else ("f32", "int8")
    peaks = {f"matmul_{precision}_gflops": _matmul(precision, seconds) for precision in precisions}
    return {**peaks, "memory_gb_per_second": _bandwidth(seconds)}


def peak_gflops(measured: Mapping[str, Any], precision: Precision) -> float:
    """Return the machine's peak for a served precision."""
    names: Mapping[Precision, str] = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "int8"}
    return float(measured[f"matmul_{names[precision]}_gflops"])


def _matmul(precision: str, seconds: float) -> float:
    """Return the best rate that OpenVINO reaches on a square product, on all cores."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino
    from openvino import opset13 as ops

    left = ops.parameter([_SIZE, _SIZE], np.float32)
    weights = np.random.default_rng(0).uniform(-1, 1, (_SIZE, _SIZE)).astype(np.float32)
    one: Any = left
    other: Any = ops.constant(weights)
    if precision == "int8":
        # The plug-in turns these into an integer product where the processor has one.
        low, high = np.float32(-1), np.float32(1)
        one = ops.fake_quantize(left, low, high, low, high, 256)
        other = ops.fake_quantize(other, low, high, low, high, 255)
    model = openvino.Model([ops.matmul(one, other, False, False)], [left])
    options = {"INFERENCE_PRECISION_HINT": "f32" if precision == "int8" else precision, "INFERENCE_NUM_THREADS": str(cores())}
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    given = np.ones((_SIZE, _SIZE), np.float32)
    best = _best(lambda: request.infer([given], share_inputs=True, share_outputs=True), seconds)
    return round(2 * _SIZE**3 / best / 1e9, 1)


def _bandwidth(seconds: float) -> float:
    """Return the rate at which all cores together copy memory; a byte read and written counts as two."""
    parts = np.array_split(np.ones(_COPIED_BYTES, np.uint8), cores())
    targets = [np.empty_like(part) for part in parts]
    with ThreadPoolExecutor(len(parts)) as pool:
        best = _best(lambda: list(pool.map(np.copyto, targets, parts)), seconds)
    return round(2 * _COPIED_BYTES / best / 1e9, 1)


def _best(call: Callable[[], object], seconds: float) -> float:
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return best
