"""A step of a model over rows of unequal requests: the paged-attention form of an OpenVINO file.

Each row brings new ids and the blocks of all its keys and values. Rows of prompts and rows of answers go through in one call.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from twinline.contract.errors import ContractError, SettingsError

# int8 is the precision of the file's weights; it computes as bf16 does.
Precision: TypeAlias = Literal["fp32", "bf16", "int8"]
_HINTS: Final[dict[Precision, str]] = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}
_ROWS: Final = "rows"
_LOGITS: Final = "logits"
_MOST_HOPS: Final = 4


@dataclass(frozen=True, slots=True)
class Row:
    """The part of one request in a step.

    Args:
        ids: new ids, one at least.
        past: how many ids came before them.
        blocks: of the request, enough for `past` and `ids`.
        wanted: whether the logits after the last id are asked for.
    """

    ids: tuple[int, ...]
    past: int
    blocks: tuple[int, ...]
    wanted: bool


class Model(Protocol):
    """What the engine steps."""

    @property
    def vocabulary(self) -> int:
        """Return how many ids there are."""

    @property
    def most_positions(self) -> int:
        """Return how many ids one request may have, answer included."""

    @property
    def block_size(self) -> int:
        """Return how many ids a block holds."""

    @property
    def blocks(self) -> int:
        """Return how many blocks there are."""

    def step(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Write keys and values of all new ids; return the logits `(wanted rows, vocabulary)`, in order."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a file is compiled.

    Args:
        precision: of the computation and of keys and values.
        blocks: of keys and values; one of 32 ids is 0.7 MB for SmolLM2-135M in bf16.
        threads: 0: all cores that this process may use.
    """

    precision: Precision = "fp32"
    blocks: int = 320
    threads: int = 0

    def __post_init__(self) -> None:
        if self.precision not in _HINTS:
            raise SettingsError(f"precision is {self.precision!r}: choose from {', '.join(_HINTS)}")
        if self.blocks < 1:
            raise SettingsError(f"blocks is {self.blocks}: one at least")
        if self.threads < 0:
            raise SettingsError(f"threads is {self.threads}: 0 (all cores) or more")


class PagedModel:
    """A compiled model with its blocks."""

    def __init__(self, file: Path, most_positions: int, settings: ModelSettings) -> None:
        """Read, transform and compile `file`, a stateful file of `export.generator`.

        Raises:
            ContractError: the file is missing or no such model.
        """
        # No usage reports of the converter.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        if not file.is_file():
            raise ContractError(f"{file} does not exist: export the generator to OpenVINO")
        core = openvino.Core()
        try:
            model = core.read_model(file)
            _to_paged_attention(model)
            compiled = core.compile_model(model, "CPU", _options(core, settings))
        except (RuntimeError, TypeError, IndexError) as exc:
            raise ContractError(
                f"{file}: OpenVINO {openvino.__version__} cannot serve it with paged attention ({exc}): export the generator "
                "again with the versions of constraints.txt"
            ) from exc
        self._request = compiled.create_infer_request()
        self._most_positions, self._blocks = most_positions, settings.blocks
        self._vocabulary = compiled.output(_LOGITS).get_partial_shape()[-1].get_length()
        self._block_size = 0
        for port in compiled.inputs:
            name = port.get_any_name()
            if not name.startswith(("key_cache.", "value_cache.")):
                continue
            _, heads, size, width = port.get_partial_shape()
            self._block_size = size.get_length()
            # Never read before it is written: the model is told how much of a block counts.
            shape = openvino.Shape([settings.blocks, heads.get_length(), self._block_size, width.get_length()])
            self._request.set_tensor(name, openvino.Tensor(port.get_element_type(), shape))

    @property
    def vocabulary(self) -> int:
        """Return how many ids there are."""
        return int(self._vocabulary)

    @property
    def most_positions(self) -> int:
        """Return how many ids one request may have, answer included."""
        return self._most_positions

    @property
    def block_size(self) -> int:
        """Return how many ids a block holds."""
        return int(self._block_size)

    @property
    def blocks(self) -> int:
        """Return how many blocks there are."""
        return self._blocks

    def step(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Write keys and values of all new ids; return the logits `(wanted rows, vocabulary)`, in order."""
        lengths = [len(row.ids) for row in rows]
        held = [row.blocks[: -(-(row.past + len(row.ids)) // self._block_size)] for row in rows]
        ends = np.cumsum(lengths)
        wanted = np.array([end - 1 for end, row in zip(ends, rows, strict=True) if row.wanted], np.int64)
        # The form wants a row to choose; its logits are not read.
        chosen = wanted if len(wanted) else np.zeros(1, np.int64)
        found = self._request.infer(
            {
                "input_ids": np.fromiter((one for row in rows for one in row.ids), np.int64),
                "position_ids": np.concatenate([np.arange(row.past, row.past + len(row.ids), dtype=np.int64) for row in rows]),
                "past_lens": np.array([row.past for row in rows], np.int32),
                "subsequence_begins": np.array([0, *ends], np.int32),
                "block_indices": np.fromiter((block for blocks in held for block in blocks), np.int32),
                "block_indices_begins": np.array([0, *np.cumsum([len(blocks) for blocks in held])], np.int32),
                # 0-d: a copy by ascontiguousarray would be 1-d, which the model refuses.
                "max_context_len": np.array(max(row.past + len(row.ids) for row in rows), np.int32),
                _ROWS: chosen,
            },
            share_outputs=True,
        )[_LOGITS]
        # A copy: the next step overwrites the request's own memory.
        return np.array(found[: len(wanted), 0, :], dtype=np.float32)


def _to_paged_attention(model: Any) -> None:
    """Transform a stateful model in place, and let the caller choose the rows that go through the head."""
    import openvino
    from openvino import opset13 as ops

    # A private name: the only way to this form but GenAI's pipeline. The versions of constraints.txt have it.
    from openvino._offline_transformations import paged_attention_transformation

    paged_attention_transformation(model)
    head = model.output(_LOGITS).get_node().input_value(0).get_node()
    for _ in range(_MOST_HOPS):
        if head.get_type_name() == "MatMul":
            break
        head = head.input_value(0).get_node()
    else:
        raise TypeError("no product of the hidden states with the vocabulary before the logits")
    rows = ops.parameter([-1], openvino.Type.i64, name=_ROWS)
    rows.output(0).get_tensor().set_names({_ROWS})
    # Logits of a whole prompt would be 200 kB an id.
    head.input(0).replace_source_output(ops.gather(head.input_value(0), rows, ops.constant(np.int64(0))).output(0))
    model.add_parameters([rows])
    model.validate_nodes_and_infer_types()


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _has_amx() -> bool:
    return "amx_bf16" in Path("/proc/cpuinfo").read_text()


def _options(core: Any, settings: ModelSettings) -> dict[str, str]:
    hint = _HINTS[settings.precision]
    cores = _cores()
    threads = settings.threads or cores
    if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        # It would be emulated, far slower than fp32.
        hint = "f32"
    if hint == "bf16" and _has_amx():
        # With AMX and one thread, OpenVINO 2026.4.1 ends the process (SIGFPE) when it compiles a decoder in bf16. On one core it
        # has one thread, whatever it is asked for.
        hint, threads = ("bf16", max(threads, 2)) if cores > 1 else ("f32", threads)
    return {
        "INFERENCE_PRECISION_HINT": hint,
        # Left alone it is u8, and answers differ.
        "KV_CACHE_PRECISION": hint,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "ENABLE_CPU_PINNING": "NO",
    }
