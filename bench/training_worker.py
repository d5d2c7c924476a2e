"""Trains one contender, once a request, in a process of its own, so that its peak of memory can be measured.

A line of JSON in, a line out. A step's time is from its first forward pass to the next step's: start-up, saving and loading do
not count.
"""

import gc
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from twinline.clients import telemetry

telemetry.apply()

import torch  # noqa: E402

from train.encoder.base_contract import own_contract, training_tokens  # noqa: E402
from train.encoder.model import load_model  # noqa: E402
from train.encoder.pairs import TrainingPairs, read_pairs  # noqa: E402
from train.encoder.params import LoraParams, TrainParams  # noqa: E402
from train.encoder.trainer import train_model  # noqa: E402
from train.hardware import device  # noqa: E402
from twinline.contract.encoder.preprocess import Preprocessor  # noqa: E402

# The first steps fill caches, choose kernels and grow the allocator's pool.
_WARM_STEPS: Final = 2


@dataclass
class Meter:
    """Times steps and counts padding, by a hook in front of the encoder's forward pass; two passes are a step."""

    steps: int
    real: Any = 0
    computed: int = 0
    passes: int = 0
    started: float = 0.0
    seconds: float = 0.0
    fault: str = field(default="the run ended before its last step")

    def __call__(self, _module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        """Count the beginning of one forward pass."""
        step, side = divmod(self.passes, 2)
        self.passes += 1
        if side == 0 and step in (_WARM_STEPS, self.steps - 1):
            if device().type == "cuda":
                torch.cuda.synchronize()
            now = time.perf_counter()
            if step == _WARM_STEPS:
                self.started = now
            else:
                self.seconds = now - self.started
                self.fault = ""
        mask = args[0]["attention_mask"]
        # Added up on the device: fetching a number from a GPU would wait for all queued work.
        self.real = self.real + mask.sum()
        self.computed += mask.numel()

    def measured(self, batch_size: int) -> dict[str, float]:
        """Return pairs and seconds between the two marks, and the share of padding over all steps."""
        if self.fault:
            raise RuntimeError(f"{self.fault}: {self.passes} forward passes for {self.steps} steps")
        return {
            "pairs": (self.steps - 1 - _WARM_STEPS) * batch_size,
            "seconds": self.seconds,
            "padded": 1 - int(self.real) / self.computed,
        }


@dataclass(frozen=True)
class Work:
    """The task of every contender."""

    base: Path
    pairs: TrainingPairs
    batch_size: int
    steps: int
    max_tokens: int


def ours(work: Work, options: Mapping[str, Any], scratch: Path) -> tuple[Any, Meter]:
    """Train by the stage's own function; return the model and the measurement."""
    contract, tokenizer_json = own_contract(work.base)
    model = load_model(work.base, contract, tokenizer_json)
    meter = Meter(work.steps)
    model[0].register_forward_pre_hook(meter)
    params = TrainParams(**{**_defaults(work), **options, "lora": LoraParams(**options.get("lora", {}))})
    tokens = training_tokens(contract, tokenizer_json, work.max_tokens)
    train_model(model, work.pairs, tokens, params, scratch / "checkpoints", scratch / "curves.tsv")
    return model, meter


def theirs(work: Work, options: Mapping[str, Any], scratch: Path) -> tuple[Any, Meter]:
    """Train as in sentence-transformers' documentation, with defaults for every argument outside the task."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model = SentenceTransformer(str(work.base), local_files_only=True)
    model.max_seq_length = work.max_tokens
    meter = Meter(work.steps)
    model[0].register_forward_pre_hook(meter)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(scratch / "theirs"),
        max_steps=work.steps,
        per_device_train_batch_size=work.batch_size,
        report_to="none",
        disable_tqdm=True,
        use_cpu=device().type == "cpu",
        **options,
    )
    SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"anchor": work.pairs.queries, "positive": work.pairs.documents}),
        loss=MultipleNegativesRankingLoss(model),
    ).train()
    return model, meter


_KINDS: Final[Mapping[str, Callable[[Work, Mapping[str, Any], Path], tuple[Any, Meter]]]] = {"ours": ours, "theirs": theirs}


def _defaults(work: Work) -> dict[str, Any]:
    """Return params.yaml's own numbers, at the bench's size."""
    from bench.checkout import CHECKOUT
    from twinline.clients.params import load_params

    written = asdict(load_params("encoder.train", TrainParams, CHECKOUT / "params.yaml"))
    sizes = {"batch_size": work.batch_size, "mini_batch_size": work.batch_size, "max_steps": work.steps}
    # A checkpoint in the middle would be timed; sentence-transformers writes its first after 500 steps.
    return written | sizes | {"max_tokens": work.max_tokens, "log_every_steps": 500, "checkpoint_every_steps": work.steps}


def held_out_accuracy(model: Any, pairs: TrainingPairs) -> float:
    """Return the share of held-out queries with their own document as the nearest of all held-out documents."""
    queries = model.encode(pairs.queries, show_progress_bar=False, convert_to_tensor=True)
    documents = model.encode(pairs.documents, show_progress_bar=False, convert_to_tensor=True)
    nearest = (queries @ documents.T).argmax(dim=1).cpu()
    return float((nearest == torch.arange(len(nearest))).float().mean())


def main() -> None:
    """Answer requests until standard input ends."""
    kind, options, given = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    if device().type == "cpu":
        torch.set_num_threads(given["threads"])
    base = Path(given["base"])
    pairs = read_pairs(Path(given["pairs"]), Preprocessor(*own_contract(base)))
    held = given["held_out"]
    work = Work(
        base,
        TrainingPairs(pairs.queries[held:], pairs.documents[held:], {}),
        given["batch_size"],
        given["steps"],
        given["max_tokens"],
    )
    model: Any = None
    answers = sys.stdout
    _say(answers, {"device": torch.cuda.get_device_name() if device().type == "cuda" else "cpu"})
    for line in sys.stdin:
        # Libraries print to standard output, so the answers get a stream of their own.
        with redirect_stdout(sys.stderr):
            if json.loads(line)["do"] == "train":
                if device().type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                with TemporaryDirectory() as scratch:
                    model, meter = _KINDS[kind](work, options, Path(scratch))
                answer = meter.measured(work.batch_size) | {"peak_mib": _peak_mib()}
                _give_back()
            else:
                model.max_seq_length = work.max_tokens
                unseen = TrainingPairs(pairs.queries[:held], pairs.documents[:held], {})
                answer = {"held_out_accuracy": held_out_accuracy(model, unseen)}
        _say(answers, answer)


def _say(stream: Any, answer: Mapping[str, Any]) -> None:
    print(json.dumps(answer), file=stream, flush=True)


def _give_back() -> None:
    """Free the run's memory, or the other contenders would find no room on the GPU."""
    gc.collect()
    if device().type == "cuda":
        torch.cuda.empty_cache()


def _peak_mib() -> float:
    """Return the peak of the GPU's memory where there is one, else of this process."""
    if device().type == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)


if __name__ == "__main__":
    main()
