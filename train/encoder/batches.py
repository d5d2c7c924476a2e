"""Batches of pairs, tokenised by the contract, each side in its role, and their trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from safetensors.torch import load_model
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from torch.utils.data import BatchSampler

from train.encoder.grouping import LengthGroupedBatchSampler
from train.encoder.model import WEIGHTS_FILE, backbone
from train.encoder.pairs import TrainingPairs
from twinline.contract.encoder.specification import Role
from twinline.contract.encoder.tokens import TokenEncoder

# The trainer feeds columns to the loss in this order: the query is the anchor.
COLUMNS: dict[str, str] = {"query": "query", "document": "document"}


def contract_collator(tokens: TokenEncoder) -> SentenceTransformerDataCollator:
    """Return a collator whose token ids all come from the contract, prefix and truncation included.

    The trainer's own path (prompts, then its tokenizer's call) would be a second implementation, so it is not used.
    """

    def preprocess(texts: list[str], prompt: str | None = None, task: Role | None = None) -> dict[str, Any]:
        if task is None or prompt:
            raise ValueError(f"a column came without its role (task={task!r}) or with a prompt ({prompt!r})")
        input_ids, attention_mask = tokens.encode(texts, task).padded(pad_id=tokens.pad_id)
        return {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(attention_mask)}

    return SentenceTransformerDataCollator(preprocess_fn=preprocess, router_mapping=dict(COLUMNS))


def token_counts(pairs: TrainingPairs, tokens: TokenEncoder) -> NDArray[np.int32]:
    """Return how many tokens training reads of each pair's query and document, `(n, 2)`."""
    return np.stack(
        [tokens.encode(pairs.queries, "query").token_counts, tokens.encode(pairs.documents, "document").token_counts], axis=1
    )


class PairTrainer(SentenceTransformerTrainer):
    """sentence-transformers' trainer, with batches by length where counts are given.

    It makes no model card: that would ask the hub for names and tokenise samples again.
    """

    def __init__(self, *, counts: NDArray[np.int32] | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._counts = counts

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add nothing: training.json and the release's manifest record the encoder's inputs."""

    def get_batch_sampler(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> BatchSampler | None:
        """Return the sampler that the arguments name, or the one by length."""
        if self._counts is None:
            return super().get_batch_sampler(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        return LengthGroupedBatchSampler(dataset, self._counts, batch_size, drop_last=drop_last, seed=seed)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Load the weights by name into the current model: a new model would have no place for LoRA's updates."""
        load_model(backbone(self.model), Path(resume_from_checkpoint) / WEIGHTS_FILE)
