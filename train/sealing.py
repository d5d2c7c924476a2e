"""Seals every checkpoint when it is written, so that a run resumes from its own weights or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from train.checkpoints import seal


class CheckpointSealer(TrainerCallback):
    """Records the hash of the weights beside them; only on the first of several processes."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any) -> None:
        """Seal the checkpoint that was just written."""
        if state.is_world_process_zero:
            seal(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
