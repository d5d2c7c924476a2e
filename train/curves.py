"""The curves of a training run, as a growing table that `dvc plots` draws."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

COLUMNS = ("step", "epoch", "loss", "learning_rate", "grad_norm")


class CurveWriter(TrainerCallback):
    """Writes the logged steps to a TSV file, the whole history each time, so that a resume repeats no step."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any) -> None:
        """Write the history when the trainer logs; only on the first of several processes."""
        if state.is_world_process_zero:
            write_curves(self._path, state.log_history)


def write_curves(path: Path, history: list[dict[str, float]]) -> None:
    """Write the entries that have a loss, one a row, with a header even when there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(entry for entry in history if "loss" in entry)
