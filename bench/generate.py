"""The generator's engine in process: first token and tokens a second by precision and rows, free and under a mask."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.machine import machine
from triton_models.generator.engine.engine import Engine
from triton_models.generator.engine.model import ModelSettings, PagedModel, Precision
from triton_models.generator.engine.requests import Decoding, Ended, Event, Gathered, Request
from triton_models.generator.engine.scheduler import Limits
from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError

PRECISIONS: Final[tuple[Precision, ...]] = ("fp32", "bf16", "int8")
ROWS: Final = (1, 4, 8, 16)
_BLOCK: Final = 32


@dataclass(frozen=True, slots=True)
class Size:
    """The sizes of a run: ids of a prompt, tokens of an answer, turns of each row, threads (0: all cores)."""

    prompt: int = 256
    answer: int = 64
    turns: int = 3
    threads: int = 0


class Odd:
    """A mask as a grammar's: an array of its own each step; every second id is allowed."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def allowed(self) -> NDArray[np.bool_] | None:
        """Return a new mask."""
        mask = np.zeros(self._vocabulary, np.bool_)
        mask[1::2] = True
        return mask

    def advance(self, token: int) -> None:
        """Take a token."""

    def finished(self) -> bool:
        """Return False: the most tokens end the answer."""
        return False


class _Timed(Gathered):
    """A sink that notes when its first token and its end came."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.end = 0.0

    def __call__(self, event: Event) -> None:
        now = time.perf_counter()
        if isinstance(event, Ended):
            self.end = now
        elif not self.first:
            self.first = now
        super().__call__(event)


def measure_generate(model: Path, workspace: Path, precisions: Sequence[Precision], size: Size) -> dict[str, JSON]:
    """Measure, and return one JSON object.

    Args:
        model: a folder with config.json and model.safetensors.
        workspace: for the exported files.
        precisions: one process serves them one after the other.
        size: of the run.

    Raises:
        ContractError: `model` is no generator.
    """
    try:
        config = json.loads((model / "config.json").read_bytes())
        positions = int(config["max_position_embeddings"])
    except (OSError, ValueError, KeyError) as exc:
        raise ContractError(f"{model} is no generator ({exc}): name a folder with config.json and model.safetensors") from exc
    files = _export(model, workspace, precisions)
    rows: list[JSON] = []
    for precision in precisions:
        blocks = max(ROWS) * -(-(size.prompt + size.answer) // _BLOCK)
        paged = PagedModel(files[precision], positions, ModelSettings(precision, blocks, size.threads))
        engine = Engine(paged, Limits(shares_prefixes=False)).start()
        try:
            _round(engine, paged, 1, size, masked=False, seed=0)
            rows += [_figures(engine, paged, precision, count, size, masked=masked) for count in ROWS for masked in (False, True)]
        finally:
            engine.close()
    return {
        "bench": "generate",
        "machine": machine(),
        "prompt_tokens": size.prompt,
        "answer_tokens": size.answer,
        "turns": size.turns,
        "rows": rows,
    }


def _export(model: Path, workspace: Path, precisions: Sequence[Precision]) -> dict[Precision, Path]:
    from export.generator.to_openvino import export_int8, export_openvino

    exact = workspace / "openvino" / "model.xml"
    export_openvino(model, exact)
    files: dict[Precision, Path] = dict.fromkeys(precisions, exact)
    if "int8" in files:
        files["int8"] = workspace / "openvino_int8" / "model.xml"
        export_int8(exact, files["int8"])
    return files


def _figures(engine: Engine, model: PagedModel, precision: Precision, rows: int, size: Size, *, masked: bool) -> dict[str, JSON]:
    turns = [_round(engine, model, rows, size, masked=masked, seed=turn) for turn in range(size.turns)]
    figures: dict[str, JSON] = {"precision": precision, "clients": rows, "mask": "yes" if masked else "no"}
    return figures | {name: round(median(turn[name] for turn in turns), 1) for name in turns[0]}


def _round(engine: Engine, model: PagedModel, rows: int, size: Size, *, masked: bool, seed: int) -> dict[str, float]:
    random = np.random.default_rng([seed, rows])
    sinks = [_Timed() for _ in range(rows)]
    begin = time.perf_counter()
    for sink in sinks:
        prompt: Any = random.integers(3, model.vocabulary, size.prompt)
        constraint = Odd(model.vocabulary) if masked else None
        engine.submit(Request(tuple(prompt.tolist()), Decoding(size.answer), constraint), sink)
    for sink in sinks:
        ended = sink.result(600).ended
        if ended.reason != "length":
            raise ContractError(f"a measured answer ended by {ended.reason} ({ended.message}): nothing is measured by that")
    end, last_first = max(sink.end for sink in sinks), max(sink.first for sink in sinks)
    return {
        "first_token_ms": 1000 * (min(sink.first for sink in sinks) - begin),
        "last_first_token_ms": 1000 * (last_first - begin),
        # Prompts included.
        "tokens_per_second": rows * size.answer / (end - begin),
        # After the last prompt the row of that prompt has all its steps to go, and the others decode beside it.
        "step_ms": 1000 * (end - last_first) / max(1, size.answer - 1),
    }
