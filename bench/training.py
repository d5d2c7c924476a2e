"""Training throughput: ours with each of its options, against sentence-transformers' trainer with its defaults, in one run.

real pairs ─> the same base model, batch size, token limit and threads for all ─> a process each, taking turns
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.machine import cores, machine
from bench.rounds import Work, summary, take_turns
from bench.training_pairs import write_real_pairs
from bench.workers import answer_of, answering, ask
from twinline.clients.base_model import DEFAULT_BASE_MODEL, resolve_base_model
from twinline.contract.canonical import JSON

REFERENCE: Final = "sentence-transformers' trainer, its defaults"
_HELD_OUT: Final = 256
_SHORT_HELD_OUT: Final = 32


@dataclass(frozen=True, slots=True)
class Size:
    """The work of every contender in a turn."""

    batch_size: int
    max_tokens: int
    steps: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trainer to compare, and its options."""

    name: str
    kind: str
    options: Mapping[str, Any]


@dataclass
class Trainer:
    """A running candidate; a turn trains a fresh model."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    padded: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    def turn(self) -> Work:
        """Train once."""
        answer = self.ask({"do": "train"})
        self.padded.append(answer["padded"])
        self.peak_mib = max(self.peak_mib, answer["peak_mib"])
        return Work(answer["pairs"], answer["seconds"])

    def accuracy(self) -> float:
        """Return the share of held-out queries that the last turn's model answers with their own document."""
        return float(self.ask({"do": "score"})["held_out_accuracy"])

    def ask(self, request: Mapping[str, str]) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        return ask(self.process, request, self.name, self.log)


def candidates(*, bf16: bool) -> list[Candidate]:
    """Return the contenders on a machine with or without bfloat16."""
    lora = {"lora": {"rank": 16, "alpha": 32}, "learning_rate": 3e-4}
    options: dict[str, dict[str, Any]] = {
        "": {},
        ", by length": {"length_grouped": True},
        ", 3 layers frozen": {"freeze_layers": 3},
        ", LoRA 16": lora,
        ", by length, 3 layers frozen": {"length_grouped": True, "freeze_layers": 3},
    }
    found = [Candidate(REFERENCE, "theirs", {})]
    if bf16:
        found.append(Candidate("sentence-transformers' trainer, bf16", "theirs", {"bf16": True}))
        found.append(Candidate("Twinline fp32", "ours", {"precision": "fp32"}))
    precision = "bf16" if bf16 else "fp32"
    return found + [
        Candidate(f"Twinline {precision}{name}", "ours", {"precision": precision, **given}) for name, given in options.items()
    ]


def default_size(*, cuda: bool, short: bool) -> Size:
    """Return a size that takes minutes: params.yaml's own on a CPU, a larger one on a GPU."""
    if cuda:
        return Size(batch_size=512, max_tokens=128, steps=8, rounds=2) if short else Size(512, 128, 23, 3)
    return Size(batch_size=16, max_tokens=32, steps=5, rounds=2) if short else Size(64, 64, 9, 5)


def measure_training(workspace: Path, *, short: bool, size: Size | None = None) -> dict[str, JSON]:
    """Measure, and return one JSON object.

    Args:
        workspace: folder for the pairs and the contenders' logs.
        short: few steps and rounds.
        size: in place of the default one of this machine.
    """
    from train.hardware import choose_precision, device

    cuda = device().type == "cuda"
    chosen = size or default_size(cuda=cuda, short=short)
    held_out = _SHORT_HELD_OUT if short else _HELD_OUT
    # As many pairs as the steps need, up to the docstrings of every machine; with fewer pairs there are several epochs.
    wanted = held_out + min(chosen.steps * chosen.batch_size, 16 * chosen.batch_size)
    workspace.mkdir(parents=True, exist_ok=True)
    given = {
        "base": str(resolve_base_model(DEFAULT_BASE_MODEL)),
        "pairs": str(write_real_pairs(workspace / "train.parquet", wanted)),
        "held_out": held_out,
        "batch_size": chosen.batch_size,
        "max_tokens": chosen.max_tokens,
        "steps": chosen.steps,
        "threads": cores(),
    }
    with running(candidates(bf16=choose_precision("auto") == "bf16"), given, workspace) as (trainers, where):
        done = take_turns(trainers, chosen.rounds)
        rows = summary(done, REFERENCE, "pairs")
        for row, trainer in zip(rows, trainers, strict=True):
            row |= {
                "padded_percent": round(100 * median(trainer.padded), 1),
                "peak_mib": trainer.peak_mib,
                "held_out_accuracy": round(trainer.accuracy(), 4),
            }
    return {
        "bench": "training",
        "machine": machine(),
        "device": where,
        "pairs": wanted - held_out,
        "held_out": held_out,
        "batch_size": chosen.batch_size,
        "max_tokens": chosen.max_tokens,
        "steps": chosen.steps,
        "rows": [*rows],
    }


@contextmanager
def running(wanted: Sequence[Candidate], given: Mapping[str, Any], workspace: Path) -> Iterator[tuple[list[Trainer], str]]:
    """Run a process for each candidate while the block runs; the second value is their device."""
    trainers: list[Trainer] = []
    where = ""
    with ExitStack() as held:
        for number, candidate in enumerate(wanted):
            log = workspace / f"{number}.log"
            trainers.append(Trainer(candidate.name, held.enter_context(_started(candidate, given, log)), log))
        for trainer in trainers:
            where = str(answer_of(trainer.process, trainer.name, trainer.log)["device"])
        yield trainers, where


@contextmanager
def _started(candidate: Candidate, given: Mapping[str, Any], log: Path) -> Iterator[subprocess.Popen[str]]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(given["threads"]))
    # One GPU for all contenders: with several visible ones the trainer would share a batch among them.
    gpu = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, "-m", "bench.training_worker", candidate.kind, json.dumps(dict(candidate.options))]
    with (
        log.open("w") as stderr,
        answering([*command, json.dumps(dict(given))], {**os.environ, **offline, **threads, **gpu}, stderr) as process,
    ):
        yield process
