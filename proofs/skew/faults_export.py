"""Faults of an exporter: a graph that differs from the encoder, recorded as a good export. The parity stage must refuse it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

import torch
from transformers import PreTrainedModel

from export.encoder.build import export_encoder
from export.encoder.params import ExportParams
from export.encoder.reference import SentenceEncoder, load_backbone
from proofs.skew.faults import Fault, Plant, folder_holds
from proofs.skew.system import System
from twinline.contract.encoder.specification import Pooling

_GRAPH: Final = "export.encoder.to_onnx.SentenceEncoder"
_WEIGHTS: Final = "export.encoder.to_onnx.load_backbone"


class _ClsPooling(SentenceEncoder):
    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return hidden[:, 0]


class _NoNormalisation(SentenceEncoder):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self._pool(self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state, attention_mask)


class _MaskIgnoredInPooling(SentenceEncoder):
    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return hidden.mean(dim=1)


class _MaskIgnoredInAttention(SentenceEncoder):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.backbone(input_ids=input_ids, attention_mask=torch.ones_like(attention_mask)).last_hidden_state
        return torch.nn.functional.normalize(self._pool(hidden, attention_mask), dim=-1)


class _OtherTokenTypes(SentenceEncoder):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        types = torch.ones_like(input_ids)
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=types).last_hidden_state
        return torch.nn.functional.normalize(self._pool(hidden, attention_mask), dim=-1)


class _DropoutLeftIn(SentenceEncoder):
    # Frozen, as by tracing: this exporter removes a visible dropout.
    kept: torch.Tensor

    def __init__(self, backbone: PreTrainedModel, pooling: Pooling) -> None:
        super().__init__(backbone, pooling)
        numbers = torch.Generator().manual_seed(0)
        self.register_buffer("kept", (torch.rand(backbone.config.hidden_size, generator=numbers) > 0.1) / 0.9)

    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return super()._pool(hidden * self.kept, mask)


def _rounded(dtype: torch.dtype) -> Callable[[Any], PreTrainedModel]:
    def load(encoder: Any, attention: str | None = None) -> PreTrainedModel:
        backbone = load_backbone(encoder, attention)
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.copy_(parameter.to(dtype).to(torch.float32))
        return backbone

    return load


def _exported_by(target: str, replacement: object) -> Plant:
    @contextmanager
    def plant(system: System) -> Iterator[None]:
        with ExitStack() as planted:
            planted.enter_context(folder_holds(system.exported, system.exported, system.scratch))
            shutil.rmtree(system.exported)
            with patch(target, replacement):
                export_encoder(system.encoder, system.exported, ExportParams(formats=("onnx_fp32",)))
            yield

    return plant


# name, the exporter's change, its place, and the replacement
_GRAPHS: Final[tuple[tuple[str, str, str, object], ...]] = (
    ("cls_pooling", "the graph takes the first token where the contract says mean", _GRAPH, _ClsPooling),
    ("no_normalisation", "the graph does not normalise", _GRAPH, _NoNormalisation),
    ("dropout_left_in", "a dropout of training is frozen in the graph", _GRAPH, _DropoutLeftIn),
    ("mask_ignored_in_pooling", "the graph's mean takes padding in: alone equal, in a batch not", _GRAPH, _MaskIgnoredInPooling),
    ("mask_ignored_in_attention", "the graph attends to padding: alone equal, in a batch not", _GRAPH, _MaskIgnoredInAttention),
    ("token_types", "the graph reads every text as a second sentence", _GRAPH, _OtherTokenTypes),
    ("bf16_weights", "weights are rounded to bf16 where fp32 is promised", _WEIGHTS, _rounded(torch.bfloat16)),
)

FAULTS: Final = tuple(
    Fault(
        f"export_{name}",
        f"at export time: {what}",
        "export",
        ("export parity",),
        _exported_by(target, replacement),
        short=name == "bf16_weights",
    )
    for name, what, target, replacement in _GRAPHS
)
