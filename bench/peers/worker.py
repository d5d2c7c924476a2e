"""One encoder in a process of its own: `worker.py NAME OPTIONS_AS_JSON`, then a line of JSON in, a line of JSON out.

    ready  <-  {"ready": true, "versions": {...}}
    in     ->  {"texts": [...], "vectors": PATH or null}
    out    <-  {"seconds": s}                              vectors (n, dim) in the order of the texts, as .npy

The Python of a peer's own environment runs it too, so nothing of ours is imported at the top, and the same few lines time every
encoder.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

Encode = Callable[[list[str]], Any]
Options = dict[str, Any]


def sentence_transformers(options: Options) -> Encode:
    """Return `SentenceTransformer.encode`; `backend` is torch, onnx or openvino, `bf16` casts the torch model."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(options["threads"])
    backend = options.get("backend", "torch")
    extra: Options = {"model_kwargs": {"provider": "CPUExecutionProvider"}} if backend == "onnx" else {}
    model = SentenceTransformer(options["model"], device="cpu", backend=backend, **extra)
    if options.get("bf16"):
        model = model.bfloat16()
    # The limit of the model card and of the contract; under another limit a peer would do other work.
    model.max_seq_length = options["max_tokens"]
    return lambda texts: model.encode(
        texts, batch_size=options["batch"], normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
    )


def fastembed(options: Options) -> Encode:
    """Return fastembed's `embed` over our own ONNX file, which includes pooling and normalisation."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name = "twinline/bench"
    TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.DISABLED,
        normalization=False,
        sources=ModelSource(hf=name),
        dim=options["dimension"],
        model_file="model.onnx",
    )
    model = TextEmbedding(name, specific_model_path=options["model"], threads=options["threads"])
    return lambda texts: list(model.embed(texts, batch_size=options["batch"]))


def infinity(options: Options) -> Encode:
    """Return infinity's engine, called by its Python API."""
    import asyncio

    import torch
    from infinity_emb import AsyncEngineArray, EngineArgs

    torch.set_num_threads(options["threads"])
    arguments = EngineArgs(
        model_name_or_path=options["model"], engine="torch", device="cpu", batch_size=options["batch"], model_warmup=False
    )
    engines = AsyncEngineArray.from_args([arguments])
    loop = asyncio.new_event_loop()
    loop.run_until_complete(engines[0].astart())
    return lambda texts: loop.run_until_complete(engines[0].embed(sentences=texts))[0]


def bare_onnxruntime(options: Options) -> Encode:
    """Return a plain loop over ONNX Runtime: sorted by length, padded to the longest text of a batch."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = options["threads"], 1
    session = onnxruntime.InferenceSession(options["onnx"], settings, providers=["CPUExecutionProvider"])
    return _sorted_batches(options, lambda feeds: session.run(None, feeds)[0])


def bare_openvino(options: Options) -> Encode:
    """Return a plain loop over OpenVINO at a precision, sorted by length; one request after the other."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": options["precision"],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(options["threads"]),
        "ENABLE_CPU_PINNING": "NO",
    }
    request = openvino.Core().compile_model(options["openvino"], "CPU", settings).create_infer_request()
    return _sorted_batches(options, lambda feeds: request.infer(feeds, share_inputs=True)[0].copy())


def streams_openvino(options: Options) -> Encode:
    """Return OpenVINO with one stream a core, batches in flight together, tokenisation beside inference."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import numpy as np
    import openvino
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(options["tokenizer"])
    settings = {
        "INFERENCE_PRECISION_HINT": options["precision"],
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(options["threads"]),
        "INFERENCE_NUM_THREADS": str(options["threads"]),
        "ENABLE_CPU_PINNING": "NO",
    }
    compiled = openvino.Core().compile_model(options["openvino"], "CPU", settings)

    def encode(texts: list[str]) -> Any:
        vectors = np.empty((len(texts), options["dimension"]), np.float32)
        queue = openvino.AsyncInferQueue(compiled, options["threads"])

        def keep(request: Any, rows: list[int]) -> None:
            vectors[rows] = request.get_output_tensor(0).data

        queue.set_callback(keep)
        for rows, feeds in _batches(texts, tokenizer, options["batch"]):
            queue.start_async(feeds, rows)
        queue.wait_all()
        return vectors

    return encode


def _sorted_batches(options: Options, run: Callable[[dict[str, Any]], Any]) -> Encode:
    import numpy as np
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(options["tokenizer"])

    def encode(texts: list[str]) -> Any:
        vectors = np.empty((len(texts), options["dimension"]), np.float32)
        for rows, feeds in _batches(texts, tokenizer, options["batch"]):
            vectors[rows] = run(feeds)
        return vectors

    return encode


def _batches(texts: Sequence[str], tokenizer: Any, size: int) -> Any:
    import numpy as np

    encoded = [found.ids for found in tokenizer.encode_batch(list(texts))]
    by_length = sorted(range(len(texts)), key=lambda row: -len(encoded[row]))
    for start in range(0, len(texts), size):
        rows = by_length[start : start + size]
        ids = np.zeros((len(rows), len(encoded[rows[0]])), np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(encoded[row])] = encoded[row]
            mask[place, : len(encoded[row])] = 1
        yield rows, {"input_ids": ids, "attention_mask": mask}


ENCODERS: dict[str, Callable[[Options], Encode]] = {
    "sentence_transformers": sentence_transformers,
    "fastembed": fastembed,
    "infinity": infinity,
    "bare_onnxruntime": bare_onnxruntime,
    "bare_openvino": bare_openvino,
    "streams_openvino": streams_openvino,
}
_PACKAGES = ("sentence-transformers", "torch", "transformers", "onnxruntime", "openvino", "fastembed", "infinity-emb")


def main() -> None:
    """Load one encoder and answer until standard input ends."""
    name, options = sys.argv[1], json.loads(sys.argv[2])
    # Libraries print to standard output, so the answers get a pipe of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    encode = ENCODERS[name](options)
    encode(["warm"] * options["batch"])
    versions = {package: metadata.version(package) for package in _PACKAGES if _is_installed(package)}
    print(json.dumps({"ready": True, "versions": versions}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        vectors = encode(request["texts"])
        seconds = time.perf_counter() - started
        if request["vectors"]:
            import numpy as np

            np.save(request["vectors"], np.asarray(vectors, dtype=np.float32))
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
