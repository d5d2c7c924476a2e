"""TensorRT: a plan for one GPU architecture and one TensorRT version, with a profile for each served length.

It needs an NVIDIA GPU and the `gpu` extra. Where they are missing it names the reason, and the ONNX file serves instead.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinline.contract.encoder.runtime import Runtime
from twinline.contract.encoder.tensors import ATTENTION_MASK, INPUT_IDS, SENTENCE_EMBEDDING
from twinline.contract.errors import ContractError, SettingsError

_WORKSPACE_BYTES = 4 << 30
_TIMING_CACHE = "timing.cache"


def why_unavailable() -> str | None:
    """Return why no plan can be built here, or None."""
    import torch

    if importlib.util.find_spec("tensorrt") is None:
        return "the package tensorrt is not installed: `pip install 'twinline[gpu]'`"
    if not torch.cuda.is_available():
        return "there is no NVIDIA GPU that torch can use: a plan must be built on the GPU that runs it"
    return None


def plan_path(folder: Path) -> Path:
    """Return the path of this machine's plan, keyed by GPU and TensorRT version: `sm_90-trt_10.9.0.34/model.plan`."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    return folder / f"sm_{major}{minor}-trt_{_tensorrt().__version__}" / "model.plan"


def export_tensorrt(onnx_file: Path, target: Path, buckets: Sequence[int], max_batch_size: int) -> None:
    """Build a plan in float16 from `onnx_file`.

    Args:
        onnx_file: the float32 graph.
        target: the plan; a timing cache beside it makes the next build for this GPU quick.
        buckets: the served lengths. Each has an optimisation profile of its own, because kernels are chosen per profile.
        max_batch_size: the largest batch.

    Raises:
        SettingsError: there is no GPU or no TensorRT.
        ContractError: TensorRT cannot read or build the graph.
    """
    if reason := why_unavailable():
        raise SettingsError(f"no TensorRT plan can be built: {reason}; the ONNX format serves instead")
    trt = _tensorrt()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_file)):
        problems = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise ContractError(f"TensorRT {trt.__version__} cannot read {onnx_file}: {problems}")
    target.parent.mkdir(parents=True, exist_ok=True)
    config = _build_config(trt, builder, target.parent / _TIMING_CACHE)
    _keep_reductions_in_float32(trt, network)
    _add_profiles(builder, config, sorted(buckets), max_batch_size)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ContractError(f"TensorRT {trt.__version__} built no plan from {onnx_file}: see its log above")
    target.write_bytes(plan)
    (target.parent / _TIMING_CACHE).write_bytes(config.get_timing_cache().serialize())


def open_plan(path: Path) -> Runtime:
    """Return a runtime over a plan, for parity."""
    import torch

    if reason := why_unavailable():
        raise SettingsError(f"{path} cannot be opened: {reason}")
    trt = _tensorrt()
    engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise ContractError(f"{path} does not open under TensorRT {trt.__version__}: build it again on this machine")
    context = engine.create_execution_context()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    dimension = engine.get_tensor_shape(SENTENCE_EMBEDDING)[-1]

    def run(input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.cuda.stream(stream):
            inputs = {
                INPUT_IDS: torch.from_numpy(input_ids).cuda(),
                ATTENTION_MASK: torch.from_numpy(attention_mask).cuda(),
            }
            output = torch.empty((len(input_ids), dimension), dtype=torch.float32, device="cuda")
            context.set_optimization_profile_async(_profile_for(engine, input_ids.shape), stream.cuda_stream)
            for name, tensor in inputs.items():
                context.set_input_shape(name, tuple(tensor.shape))
                context.set_tensor_address(name, tensor.data_ptr())
            context.set_tensor_address(SENTENCE_EMBEDDING, output.data_ptr())
            if not context.execute_async_v3(stream.cuda_stream):
                raise ContractError(f"{path}: TensorRT refused a batch of shape {input_ids.shape}")
        stream.synchronize()
        return np.asarray(output.cpu().numpy())

    return run


def _tensorrt() -> ModuleType:
    return importlib.import_module("tensorrt")


def _build_config(trt: ModuleType, builder: Any, timing_cache: Path) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    config.set_flag(trt.BuilderFlag.FP16)
    # Without it TensorRT may ignore the constraints below.
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    cached = timing_cache.read_bytes() if timing_cache.is_file() else b""
    config.set_timing_cache(config.create_timing_cache(cached), ignore_mismatch=False)
    return config


def _keep_reductions_in_float32(trt: ModuleType, network: Any) -> None:
    """Keep sums, softmax and normalisation in float32: over a few hundred terms float16 overflows or loses digits."""
    sensitive = {trt.LayerType.REDUCE, trt.LayerType.SOFTMAX, trt.LayerType.NORMALIZATION}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type in sensitive:
            layer.precision = trt.float32
            for output in range(layer.num_outputs):
                layer.set_output_type(output, trt.float32)


def _add_profiles(builder: Any, config: Any, buckets: Sequence[int], max_batch_size: int) -> None:
    shortest = 1
    for length in buckets:
        profile = builder.create_optimization_profile()
        for name in (INPUT_IDS, ATTENTION_MASK):
            typical = (max(1, max_batch_size // 4), length)
            profile.set_shape(name, (1, shortest), typical, (max_batch_size, length))
        config.add_optimization_profile(profile)
        shortest = length + 1


def _profile_for(engine: Any, shape: tuple[int, ...]) -> int:
    for index in range(engine.num_optimization_profiles):
        least, _, most = engine.get_tensor_profile_shape(INPUT_IDS, index)
        if all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True)):
            return index
    raise ContractError(f"a batch of shape {shape} fits no profile of the plan: build it again with this release's buckets")
