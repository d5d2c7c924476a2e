"""An encoder in torch in this process: the reference for exported formats and live servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel

from train.encoder.in_batches import embed_in_batches
from train.encoder.model import check_weights
from train.hardware import device
from train.weights import weights_sha256
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.encoder_record import check_encoder
from twinline.contract.encoder.pooling import normalize, pool
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.space import space_id
from twinline.contract.encoder.specification import Role
from twinline.contract.encoder.tokens import Encoded

# Padded tokens in one forward pass: enough to keep all cores busy, little enough to stay in a CPU's cache.
_BATCH_TOKENS = {"cpu": 4_096, "cuda": 65_536}


class TorchEncoder:
    """Implements `contract.encoder.embedding.Embedder`. Always float32, so that its vectors are the same on every machine."""

    def __init__(self, backbone: torch.nn.Module, preprocessor: Preprocessor, space: str) -> None:
        self._device = device()
        self._backbone = backbone.to(self._device)
        # Without this, dropout stays on and every vector is off by a few hundredths.
        self._backbone.train(False)
        self._preprocessor = preprocessor
        self._space = space

    @classmethod
    def load(cls, folder: Path, preprocessor: Preprocessor | None = None) -> Self:
        """Load an encoder's folder.

        Args:
            folder: the training stage's output, or a base model's folder.
            preprocessor: of the contract for a base model's weights.

        Raises:
            MismatchError: tokenizer, dimension or weights differ from the contract and training.json.
        """
        own = preprocessor or Preprocessor.load(folder)
        weights = weights_sha256(folder)
        space = space_id(own.contract.vector_fingerprint, weights)
        if preprocessor is None:
            check_encoder(folder, own.contract, weights)
        backbone = AutoModel.from_pretrained(str(folder), dtype=torch.float32, use_safetensors=True, local_files_only=True)
        check_weights(backbone, own.contract, own.tokenizer_json, folder)
        return cls(backbone, own, space)

    @property
    def space(self) -> str:
        """Return the identity of the encoder."""
        return self._space

    def embed(self, texts: Sequence[str], role: Role, *, progress: str = "") -> Embeddings:
        """Return one vector a text, `(n, dim)`, in the order given.

        Args:
            progress: the label of a progress bar; empty for none.
        """
        budget = _BATCH_TOKENS[self._device.type]
        return embed_in_batches(self._preprocessor, texts, role, self._forward, budget, self._space, progress)

    def _forward(self, rows: Encoded) -> NDArray[np.float32]:
        ids, mask = rows.padded(pad_id=self._preprocessor.pad_id)
        with torch.inference_mode():
            hidden = self._backbone(
                input_ids=torch.from_numpy(ids).to(self._device), attention_mask=torch.from_numpy(mask).to(self._device)
            ).last_hidden_state
        vector = self._preprocessor.contract.vector
        pooled = pool(hidden.cpu().numpy(), mask, vector.pooling)
        return normalize(pooled) if vector.normalize else pooled
