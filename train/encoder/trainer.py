"""One run of sentence-transformers' trainer: arguments, loss, checkpoints, curves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.checkpoints import check_seal, latest_checkpoint
from train.curves import CurveWriter, write_curves
from train.encoder.model import backbone
from train.encoder.pairs import TrainingPairs
from train.encoder.params import TrainParams
from train.encoder.trainable import choose_trainable, count_parameters
from train.hardware import TrainingPrecision, choose_precision, device, is_first_process, world_size
from twinline.contract.encoder.tokens import TokenEncoder
from twinline.contract.errors import SettingsError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import TrainerState


@dataclass(frozen=True)
class FitResult:
    """The facts of a training run, for training.json."""

    steps: int
    final_loss: float | None
    seconds: float
    resumed_from_step: int
    precision: TrainingPrecision
    trained_parameters: int
    parameters: int


def train_model(
    model: SentenceTransformer, pairs: TrainingPairs, tokens: TokenEncoder, params: TrainParams, checkpoints: Path, curves: Path
) -> FitResult:
    """Train `model` in place from the newest checkpoint in `checkpoints` on, and write the curves.

    The model is plain afterwards: LoRA's updates are merged into its weights.
    """
    from datasets import Dataset
    from transformers import set_seed

    from train.encoder.batches import PairTrainer, contract_collator, token_counts
    from train.sealing import CheckpointSealer

    set_seed(params.seed)
    # Before LoRA adds its own.
    _, parameters = count_parameters(model)
    adapted = choose_trainable(backbone(model), params)
    trained, _ = count_parameters(model)
    precision = choose_precision(params.precision)
    trainer = PairTrainer(
        model=model,
        args=_arguments(params, precision, checkpoints),
        train_dataset=Dataset.from_dict({"query": pairs.queries, "document": pairs.documents}),
        loss=_loss(model, params),
        data_collator=contract_collator(tokens),
        callbacks=[CurveWriter(curves), CheckpointSealer()],
        counts=token_counts(pairs, tokens) if params.length_grouped else None,
    )
    found = latest_checkpoint(checkpoints)
    resumed_from = int(found.name.rsplit("-", 1)[1]) if found else 0
    if found:
        check_seal(found)
    if found and is_first_process():
        print(f"train: going on from step {resumed_from} ({found})", flush=True)
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    seconds = time.perf_counter() - started
    if adapted:
        adapted.merge()
    if is_first_process():
        write_curves(curves, trainer.state.log_history)
    return FitResult(
        trainer.state.global_step,
        _final_loss(trainer.state),
        round(seconds, 2),
        resumed_from,
        precision,
        trained,
        parameters,
    )


def _arguments(params: TrainParams, precision: TrainingPrecision, checkpoints: Path) -> Any:
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import BatchSamplers

    processes = world_size()
    if params.batch_size % processes:
        raise SettingsError(
            f"params.yaml encoder.train.batch_size = {params.batch_size} cannot be shared by {processes} processes: "
            "choose a multiple, or start fewer"
        )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        # Without this, processes on a CPU do not find each other, and each would train alone.
        use_cpu=device().type == "cpu",
        # -1 is the trainer's "epochs decide".
        max_steps=params.max_steps or -1,
        num_train_epochs=params.epochs,
        # One batch is drawn and then split among the processes: no text is in it twice, even on two GPUs, and the number of
        # processes does not change the batches. A remainder that does not split evenly would leave a process waiting.
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
        # A text that is twice in a batch would be its own negative.
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        # A fork after a tokenizer has run in threads may hang; tokenising is a small part of a step.
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
    # Negatives from every GPU: the loss is that of one batch of `batch_size` on any number of GPUs.
    gather = processes > 1
    if params.batch_size // processes <= params.mini_batch_size:
        # The whole batch fits at once: same loss and gradient, without the second forward pass of the cached loss.
        return MultipleNegativesRankingLoss(model, scale=params.scale, gather_across_devices=gather)
    return CachedMultipleNegativesRankingLoss(
        model, scale=params.scale, mini_batch_size=params.mini_batch_size, gather_across_devices=gather
    )


def _final_loss(state: TrainerState) -> float | None:
    losses = [float(entry["loss"]) for entry in state.log_history if "loss" in entry]
    return losses[-1] if losses else None
