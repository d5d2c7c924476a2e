"""The training stage: base weights and pairs in, an encoder folder with its contract out."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.canonical import JSON
from contract.errors import SettingsError
from contract.preprocess import Preprocessor
from contract.space import space_id
from train.base_contract import contract_for, training_tokens
from train.checkpoints import checkpoint_folder, file_sha256, latest_checkpoint, sweep
from train.curves import CurveWriter, write_curves
from train.hardware import choose_precision, device, is_first_process, world_size
from train.model import load_model, save_model
from train.pairs import TrainingPairs, read_pairs
from train.params import ContractParams, TrainParams
from train.weights import weights_sha256

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import TrainerState

TRAINING_FILE = "training.json"
_VERSIONED = ("torch", "transformers", "sentence-transformers", "tokenizers", "accelerate")


@dataclass(frozen=True)
class FitPaths:
    """Where the stage reads and writes, and where a killed run finds its checkpoints."""

    pairs: Path
    encoder: Path
    curves: Path
    home: Path


@dataclass(frozen=True)
class FitResult:
    """How the training went, for training.json."""

    steps: int
    final_loss: float | None
    seconds: float
    resumed_from_step: int
    precision: str


def fit(base: Path, base_name: str, contract_params: ContractParams, params: TrainParams, paths: FitPaths) -> None:
    """Fine-tune the base model in folder `base` on the pairs and write the encoder's folder.

    A run that is killed and started again on the same inputs goes on from its last checkpoint. Under torchrun or
    accelerate every process calls this; the first one writes.

    Raises:
        MismatchError: the base model does not fit the contract.
        SettingsError, ContractError: unusable parameters or pairs.
    """
    contract, tokenizer_json = contract_for(base, contract_params)
    preprocessor = Preprocessor(contract, tokenizer_json)
    base_sha256 = weights_sha256(base)
    pairs = read_pairs(paths.pairs, preprocessor)
    inputs: dict[str, JSON] = {
        "base_weights": base_sha256,
        "pairs": file_sha256(paths.pairs),
        "contract": contract.fingerprint,
        "params": asdict(params),
    }
    checkpoints = checkpoint_folder(paths.home, inputs)
    model = load_model(base, contract, tokenizer_json)
    if params.epochs == 0 and params.max_steps == 0:
        write_curves(paths.curves, [])
        result = FitResult(0, None, 0.0, 0, "fp32")
    else:
        tokens = training_tokens(contract, tokenizer_json, params.max_tokens)
        result = _train(model, pairs, tokens, params, checkpoints, paths.curves)
    if is_first_process():
        _deliver(
            model,
            preprocessor,
            paths.encoder,
            {
                "base_model": base_name,
                "base_weights_sha256": base_sha256,
                "base_space": space_id(contract.vector_fingerprint, base_sha256),
                "contract": contract.fingerprint,
                "pairs": len(pairs.queries),
                "pairs_sha256": str(inputs["pairs"]),
                "pairs_set_aside": dict(pairs.set_aside),
                "params": asdict(params),
                **asdict(result),
                "device": str(device()),
                "processes": world_size(),
                "versions": {name: version(name) for name in _VERSIONED} | {"python": sys.version.split()[0]},
            },
        )
        # Last: until the encoder is in its place, a restart must find the checkpoints.
        sweep(checkpoints)


def _train(
    model: SentenceTransformer, pairs: TrainingPairs, tokens: Any, params: TrainParams, checkpoints: Path, curves: Path
) -> FitResult:
    from datasets import Dataset
    from transformers import set_seed

    from train.batches import PairTrainer, contract_collator

    set_seed(params.seed)
    precision = choose_precision(params.precision)
    trainer = PairTrainer(
        model=model,
        args=_arguments(params, precision, checkpoints),
        train_dataset=Dataset.from_dict({"query": pairs.queries, "document": pairs.documents}),
        loss=_loss(model, params),
        data_collator=contract_collator(tokens),
        callbacks=[CurveWriter(curves)],
    )
    found = latest_checkpoint(checkpoints)
    resumed_from = int(found.name.rsplit("-", 1)[1]) if found else 0
    if found and is_first_process():
        print(f"train: going on from step {resumed_from} ({found})", flush=True)
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    seconds = time.perf_counter() - started
    if is_first_process():
        write_curves(curves, trainer.state.log_history)
    return FitResult(trainer.state.global_step, _final_loss(trainer.state), round(seconds, 2), resumed_from, precision)


def _arguments(params: TrainParams, precision: str, checkpoints: Path) -> Any:
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import BatchSamplers

    processes = world_size()
    if params.batch_size % processes:
        raise SettingsError(
            f"params.yaml train.batch_size = {params.batch_size} cannot be shared by {processes} processes: "
            "choose a multiple, or start fewer"
        )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        # Without this, processes on a CPU do not find each other, and each trains alone.
        use_cpu=device().type == "cpu",
        # -1 is the trainer's "epochs decide".
        max_steps=params.max_steps or -1,
        num_train_epochs=params.epochs,
        # One batch is drawn and then split among the processes: no text is in it twice, not even on two GPUs, and the
        # batches are the same however many there are. A rest that cannot be split evenly would leave one of them waiting.
        per_device_train_batch_size=params.batch_size,
        accelerator_config={"split_batches": True},
        dataloader_drop_last=processes > 1,
        gradient_accumulation_steps=params.gradient_accumulation,
        learning_rate=params.learning_rate,
        warmup_steps=params.warmup_ratio,
        weight_decay=params.weight_decay,
        lr_scheduler_type="linear",
        seed=params.seed,
        data_seed=params.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        # The same text twice in a batch would be its own negative.
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        # fork after a tokenizer has run in threads may hang; tokenising is a small part of a step.
        dataloader_num_workers=0,
        dataloader_pin_memory=device().type == "cuda",
        logging_strategy="steps",
        logging_steps=params.log_every_steps,
        logging_first_step=True,
        save_strategy="steps",
        save_steps=params.checkpoint_every_steps,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=not is_first_process(),
    )
    if arguments.world_size != processes:
        raise SettingsError(
            f"{processes} processes were started, the trainer sees {arguments.world_size}: each would train alone on the same "
            "batches; start them with torchrun or accelerate launch"
        )
    return arguments


def _loss(model: SentenceTransformer, params: TrainParams) -> Any:
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )

    processes = world_size()
    # Negatives from every GPU: the loss is then that of one batch of `batch_size`, however many GPUs there are.
    gather = processes > 1
    if params.batch_size // processes <= params.mini_batch_size:
        # All of it fits at once: the same loss and gradient, without the cached one's second forward pass.
        return MultipleNegativesRankingLoss(model, scale=params.scale, gather_across_devices=gather)
    return CachedMultipleNegativesRankingLoss(
        model, scale=params.scale, mini_batch_size=params.mini_batch_size, gather_across_devices=gather
    )


def _final_loss(state: TrainerState) -> float | None:
    losses = [float(entry["loss"]) for entry in state.log_history if "loss" in entry]
    return losses[-1] if losses else None


def _deliver(model: SentenceTransformer, preprocessor: Preprocessor, encoder: Path, record: dict[str, JSON]) -> None:
    """Write the folder beside its place, then rename it in: no reader sees half an encoder."""
    beside = encoder.with_name(f"{encoder.name}.{os.getpid()}.new")
    save_model(model, beside, preprocessor.contract, preprocessor.tokenizer_json)
    weights = weights_sha256(beside)
    record["weights_sha256"] = weights
    record["space"] = space_id(preprocessor.contract.vector_fingerprint, weights)
    (beside / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    if encoder.exists():
        shutil.rmtree(encoder)
    beside.rename(encoder)
    print(f"train: {record['steps']} steps in {record['seconds']} s, space {str(record['space'])[:12]} in {encoder}", flush=True)
