"""The same vectors on a GPU as on the CPU: the training framework, ONNX Runtime with CUDA, TensorRT."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export.encoder.to_onnx import export_onnx
from export.encoder.to_tensorrt import export_tensorrt, open_plan, plan_path, why_unavailable
from train.encoder.pairs import read_pairs
from train.encoder.torch_encoder import TorchEncoder
from twinline.contract.encoder.golden import GOLDEN_TEXTS, PARITY_LIMITS
from twinline.contract.encoder.pooling import cosine_distance
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import Role
from twinline.contract.encoder.tensors import ATTENTION_MASK, INPUT_IDS, SENTENCE_EMBEDDING

BUCKETS = (16, 64, 256)
MAX_BATCH = 32
# batch and length: one token, odd sizes, the longest
SHAPES = [(1, 3), (1, 256), (7, 33), (32, 16), (17, 128), (32, 256)]
Runtime = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]


@pytest.fixture(scope="module")
def texts(pairs_file: Path, preprocessor: Preprocessor) -> list[str]:
    """Golden texts, and real ones of all lengths."""
    pairs = read_pairs(pairs_file, preprocessor)
    return [golden.text for golden in GOLDEN_TEXTS] + pairs.queries[:64] + pairs.documents[:128]


@pytest.fixture(scope="module")
def on_gpu(base: Path, preprocessor: Preprocessor) -> TorchEncoder:
    return TorchEncoder.load(base, preprocessor)


@pytest.fixture(scope="module")
def on_cpu(base: Path, preprocessor: Preprocessor) -> TorchEncoder:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("train.encoder.torch_encoder.device", lambda: torch.device("cpu"))
        return TorchEncoder.load(base, preprocessor)


def test_the_two_encoders_run_where_they_are_said_to(on_gpu: TorchEncoder, on_cpu: TorchEncoder) -> None:
    places = [next(encoder._backbone.parameters()).device.type for encoder in (on_gpu, on_cpu)]
    assert places == ["cuda", "cpu"]
    assert on_gpu.space == on_cpu.space


@pytest.mark.parametrize("role", ["query", "document"])
def test_float32_on_the_gpu_is_within_parity_of_the_cpu(
    role: Role, texts: list[str], on_gpu: TorchEncoder, on_cpu: TorchEncoder
) -> None:
    found, expected = on_gpu.embed(texts, role), on_cpu.embed(texts, role)
    assert np.array_equal(found.token_counts, expected.token_counts)
    assert found.token_counts.min() < 8
    assert found.token_counts.max() > 240  # close to as long as the encoder reads
    worst = cosine_distance(found.vectors, expected.vectors).max()
    print(f"fp32 {role}: worst distance {worst:.2e}")
    assert worst <= PARITY_LIMITS["fp32"]


def test_a_text_alone_has_the_vector_that_it_has_in_a_batch(texts: list[str], on_gpu: TorchEncoder) -> None:
    together = on_gpu.embed(texts, "document").vectors
    alone = np.concatenate([on_gpu.embed([text], "document").vectors for text in texts])
    assert cosine_distance(together, alone).max() <= PARITY_LIMITS["fp32"]


def test_half_precision_on_the_gpu_is_within_its_own_limit_and_is_not_float32(
    texts: list[str], on_gpu: TorchEncoder, on_cpu: TorchEncoder
) -> None:
    expected = on_cpu.embed(texts, "document").vectors
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = on_gpu.embed(texts, "document").vectors
    distances = cosine_distance(found, expected)
    print(f"bf16: worst distance {distances.max():.2e}, median {np.median(distances):.2e}")
    assert distances.max() <= PARITY_LIMITS["bf16"]
    assert distances.max() > PARITY_LIMITS["fp32"], "this was not computed in bfloat16"


@pytest.fixture(scope="module")
def onnx_file(base: Path, preprocessor: Preprocessor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed, which exporting to ONNX needs")
    target = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(base, preprocessor.contract.vector.pooling, target)
    return target


def batches() -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return ids and masks of each shape; rows are of different lengths, the first one fills its row."""
    random = np.random.default_rng(5)
    found = []
    for rows, length in SHAPES:
        ids = random.integers(1_000, 20_000, (rows, length))
        lengths = np.concatenate([[length], random.integers(2, length + 1, rows - 1)])
        found.append((ids, (np.arange(length) < lengths[:, None]).astype(np.int64)))
    return found


def worst_distance(runtime: Runtime, encoder: TorchEncoder, pooling: Any) -> float:
    from twinline.contract.encoder.pooling import normalize, pool

    worst = 0.0
    for ids, mask in batches():
        with torch.inference_mode():
            hidden = encoder._backbone(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
        worst = max(worst, float(cosine_distance(runtime(ids, mask), normalize(pool(hidden.numpy(), mask, pooling))).max()))
    return worst


def session(onnx_file: Path, provider: Any) -> Runtime:
    import onnxruntime

    opened = onnxruntime.InferenceSession(onnx_file, providers=[provider])
    # Where a provider cannot be loaded, ONNX Runtime goes on with the CPU's and only logs it.
    assert opened.get_providers()[0] == (provider if isinstance(provider, str) else provider[0])

    def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(opened.run([SENTENCE_EMBEDDING], {INPUT_IDS: ids, ATTENTION_MASK: mask})[0], dtype=np.float32)

    return run


def test_the_file_exported_beside_a_gpu_is_within_parity(
    onnx_file: Path, on_cpu: TorchEncoder, preprocessor: Preprocessor
) -> None:
    found = worst_distance(session(onnx_file, "CPUExecutionProvider"), on_cpu, preprocessor.contract.vector.pooling)
    assert found <= PARITY_LIMITS["fp32"]


def test_onnx_runtime_on_the_gpu_is_within_parity(onnx_file: Path, on_cpu: TorchEncoder, preprocessor: Preprocessor) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDAExecutionProvider: pip install onnxruntime-gpu in place of onnxruntime")
    runtime = session(onnx_file, ("CUDAExecutionProvider", {"use_tf32": "0"}))
    found = worst_distance(runtime, on_cpu, preprocessor.contract.vector.pooling)
    print(f"ONNX Runtime, CUDA: worst distance {found:.2e}")
    assert found <= PARITY_LIMITS["fp32"]


def test_a_tensorrt_plan_is_within_parity_at_every_profile(
    onnx_file: Path, on_cpu: TorchEncoder, preprocessor: Preprocessor, tmp_path: Path
) -> None:
    if reason := why_unavailable():
        pytest.skip(reason)
    target = plan_path(tmp_path)
    export_tensorrt(onnx_file, target, BUCKETS, MAX_BATCH)
    found = worst_distance(open_plan(target), on_cpu, preprocessor.contract.vector.pooling)
    print(f"TensorRT fp16: worst distance {found:.2e}")
    assert found <= PARITY_LIMITS["fp16"]
