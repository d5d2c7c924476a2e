"""The torch model behind every comparison of exported formats, and the graph to export. Imports torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, PreTrainedModel

from twinline.contract.encoder.pooling import normalize, pool
from twinline.contract.encoder.specification import Pooling


def load_backbone(encoder: Path, attention: str | None = None) -> PreTrainedModel:
    """Return the transformers model of an encoder folder: float32, evaluation mode, weights from safetensors only.

    Args:
        encoder: the folder.
        attention: transformers' implementation of attention; its own choice by default.
    """
    backbone: PreTrainedModel = AutoModel.from_pretrained(
        encoder, dtype=torch.float32, use_safetensors=True, local_files_only=True, attn_implementation=attention
    )
    backbone.train(False)
    return backbone


class ReferenceEncoder:
    """The training framework's vectors: torch token states, pooled by the contract's own numpy code.

    It shares no pooling code with the exported graph, so a wrong pooling there cannot hide.
    """

    def __init__(self, backbone: torch.nn.Module, pooling: Pooling) -> None:
        self._backbone = backbone.eval()
        self._pooling = pooling

    @classmethod
    def load(cls, encoder: Path, pooling: Pooling) -> Self:
        """Read the model of an encoder folder."""
        return cls(load_backbone(encoder), pooling)

    def vectors(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return `(n, dimension)` vectors; each text runs alone and unpadded, so that padding cannot hide an error."""
        return np.concatenate([self._vector(ids) for ids in token_ids])

    def _vector(self, ids: Sequence[int]) -> NDArray[np.float32]:
        input_ids = torch.tensor([list(ids)])
        mask = torch.ones_like(input_ids)
        with torch.inference_mode():
            hidden = self._backbone(input_ids=input_ids, attention_mask=mask).last_hidden_state
        return normalize(pool(hidden.numpy(), mask.numpy(), self._pooling))


class SentenceEncoder(torch.nn.Module):
    """The graph to export: backbone, pooling and normalisation in one module."""

    def __init__(self, backbone: torch.nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return unit vectors `(batch, dimension)` of ids and mask, each `(batch, length)`."""
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return torch.nn.functional.normalize(self._pool(hidden, attention_mask), dim=-1)

    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pooling == "last":
            last = (mask.sum(dim=1) - 1).view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])
            return hidden.gather(1, last).squeeze(1)
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
