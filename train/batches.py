"""Batches of pairs, tokenised by the contract, each side in its role, and the trainer that takes them."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

from contract.specification import Role
from contract.tokens import TokenEncoder

# The trainer feeds columns to the loss in this order: the query is the anchor.
COLUMNS: dict[str, str] = {"query": "query", "document": "document"}


def contract_collator(tokens: TokenEncoder) -> SentenceTransformerDataCollator:
    """Return a collator whose every token id comes from the contract, prefix and truncation included.

    The trainer's own path (prompts, then its tokenizer's call) is a second implementation; this leaves it out.
    """

    def preprocess(texts: list[str], prompt: str | None = None, task: Role | None = None) -> dict[str, Any]:
        if task is None or prompt:
            raise ValueError(f"a column came without its role (task={task!r}) or with a prompt ({prompt!r})")
        input_ids, attention_mask = tokens.encode(texts, task).padded(pad_id=tokens.pad_id)
        return {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(attention_mask)}

    return SentenceTransformerDataCollator(preprocess_fn=preprocess, router_mapping=dict(COLUMNS))


class PairTrainer(SentenceTransformerTrainer):
    """sentence-transformers' trainer, less its model card, which asks the hub for names and tokenises samples anew."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add nothing: training.json and the release's manifest say what the encoder was made from."""
