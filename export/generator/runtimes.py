"""Run an exported generator in this process: OpenVINO in the engine that serves it, ONNX in a plain loop."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.generator.cached import ATTENTION_MASK, INPUT_IDS, LOGITS, POSITION_IDS
from export.generator.reference import Decode, Decoded, Prompt
from triton_models.generator.engine.requests import Decoding, Gathered, Generation, Generator, Request
from twinline.contract.errors import ContractError

_TIMEOUT_SECONDS = 3600.0


def decode_with(engine: Generator, rows: int) -> Decode:
    """Return the greedy decoding of an engine, so many prompts at a time.

    Raises, when it is called:
        ContractError: an answer ends by anything but stop or length.
    """

    def decode(prompts: Sequence[Prompt], max_tokens: int, stop_ids: frozenset[int]) -> list[Decoded]:
        found: list[Decoded] = []
        decoding = Decoding(max_tokens, stop_ids)
        for start in range(0, len(prompts), rows):
            sinks = []
            for prompt in prompts[start : start + rows]:
                sinks.append(Gathered())
                engine.submit(Request(tuple(prompt), decoding, priority="evaluation"), sinks[-1])
            found += [_decoded(sink.result(_TIMEOUT_SECONDS)) for sink in sinks]
        return found

    return decode


def decode_onnx(file: Path) -> Decode:
    """Return the greedy decoding of an ONNX file with a cache, a prompt at a time.

    Raises:
        ContractError: the file is missing, or no such graph.
    """
    import onnxruntime

    if not file.is_file():
        raise ContractError(f"{file} does not exist: export the generator to ONNX")
    try:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    # ONNX Runtime's errors share no base class of their own.
    except Exception as exc:
        raise ContractError(f"{file} cannot be opened by ONNX Runtime ({exc}): export it again") from exc
    past = {one.name: one.shape for one in session.get_inputs() if one.name.startswith("past.")}
    outputs = [one.name for one in session.get_outputs()]

    def answer(prompt: Prompt, max_tokens: int, stop_ids: frozenset[int]) -> Decoded:
        ids: list[int] = []
        found: list[float] = []
        cache = {name: np.zeros((1, shape[1], 0, shape[3]), np.float32) for name, shape in past.items()}
        new, length = list(prompt), 0
        while len(ids) < max_tokens and not (ids and ids[-1] in stop_ids):
            before, length = length, length + len(new)
            inputs = {
                INPUT_IDS: np.array([new], np.int64),
                ATTENTION_MASK: np.ones((1, length), np.int64),
                POSITION_IDS: np.arange(before, length, dtype=np.int64)[None],
            }
            results = dict(zip(outputs, session.run(outputs, inputs | cache), strict=True))
            logits = results[LOGITS][0, -1].astype(np.float64)
            ids.append(int(logits.argmax()))
            found.append(float(logits[ids[-1]] - logits.max() - np.log(np.exp(logits - logits.max()).sum())))
            cache = {name: results[name.replace("past", "present", 1)] for name in past}
            new = ids[-1:]
        return Decoded(tuple(ids), tuple(found))

    return lambda prompts, max_tokens, stop_ids: [answer(prompt, max_tokens, stop_ids) for prompt in prompts]


def _decoded(generation: Generation) -> Decoded:
    ended = generation.ended
    if ended.reason not in ("stop", "length"):
        raise ContractError(f"an answer of the parity prompts ended by {ended.reason} ({ended.message}): look at that first")
    tokens = [*generation.tokens, *([ended.stop] if ended.stop else [])]
    return Decoded(tuple(token.id for token in tokens), tuple(token.log_probability for token in tokens))
