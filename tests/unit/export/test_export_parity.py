"""Parity must catch known faults of exports: each is planted here, and must be found."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from export.encoder.parity import FormatParity, Sample, measure_parity
from export.encoder.reference import ReferenceEncoder, SentenceEncoder
from twinline.contract.encoder.runtime import Runtime
from twinline.contract.encoder.specification import Pooling
from twinline.contract.errors import ContractError

VOCABULARY, DIMENSION = 50, 12
BUCKETS = (8, 16, 32)


class TinyBackbone(torch.nn.Module):
    """One attention layer with dropout: small, and with every way to go wrong that a large one has."""

    def __init__(self, uses_mask: bool = True) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embedding = torch.nn.Embedding(VOCABULARY, DIMENSION)
        self.attention = torch.nn.MultiheadAttention(DIMENSION, 2, dropout=0.1, batch_first=True)
        self.uses_mask = uses_mask

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        hidden = self.embedding(input_ids)
        padding = attention_mask == 0 if self.uses_mask else None
        attended, _ = self.attention(hidden, hidden, hidden, key_padding_mask=padding, need_weights=False)
        return SimpleNamespace(last_hidden_state=hidden + attended)


class WithoutNormalisation(SentenceEncoder):
    """Gives vectors of any length, as a graph does whose last step was forgotten."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self._pool(hidden, attention_mask)


def token_ids() -> list[list[int]]:
    rows = np.random.default_rng(5)
    return [rows.integers(1, VOCABULARY, size=length).tolist() for length in (2, 3, 5, 7, 8, 9, 15, 20, 31, 32)]


def sample(pooling: Pooling = "mean") -> Sample:
    ids = token_ids()
    vectors = ReferenceEncoder(TinyBackbone(), pooling).vectors(ids)
    return Sample([f"text of {len(row)} tokens" for row in ids], ids, vectors)


def runtime_of(graph: torch.nn.Module) -> Runtime:
    def run(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(graph(torch.from_numpy(input_ids), torch.from_numpy(attention_mask)).numpy())

    return run


def measure(graph: torch.nn.Module, reference: Sample, buckets: Sequence[int] = BUCKETS) -> FormatParity:
    return measure_parity("planted", "fp32", reference, runtime_of(graph), buckets, pad_id=0, batch=4)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_faithful_graph_passes(pooling: Pooling) -> None:
    found = measure(SentenceEncoder(TinyBackbone(), pooling).eval(), sample(pooling))
    assert found.passed
    assert found.worst < 1e-9
    assert found.median <= found.worst


def test_dropout_left_on_is_seen() -> None:
    found = measure(SentenceEncoder(TinyBackbone(), "mean").train(), sample())
    assert not found.passed
    assert found.worst > 1e-4


def test_a_missing_normalisation_is_seen_although_cosine_is_blind_to_it() -> None:
    found = measure(WithoutNormalisation(TinyBackbone(), "mean").eval(), sample())
    assert not found.passed


@pytest.mark.parametrize("pooling", ["cls", "last"])
def test_another_pooling_is_seen(pooling: Pooling) -> None:
    assert not measure(SentenceEncoder(TinyBackbone(), pooling).eval(), sample("mean")).passed


def test_padding_that_leaks_into_attention_is_seen_even_where_batches_are_not_mixed() -> None:
    found = measure(SentenceEncoder(TinyBackbone(uses_mask=False), "mean").eval(), sample())
    assert not found.passed
    # A text that fills its bucket has no padding to suffer from.
    assert found.worst_text not in ("text of 8 tokens", "text of 32 tokens")


def test_padding_that_leaks_is_seen_only_in_batches_when_every_length_is_served() -> None:
    graph = SentenceEncoder(TinyBackbone(uses_mask=False), "mean").eval()
    found = measure(graph, sample(), buckets=tuple(range(1, 33)))
    assert not found.passed
    assert found.worst_case == "in a padded batch"


def test_nan_is_the_worst_there_is() -> None:
    reference = sample()
    good = runtime_of(SentenceEncoder(TinyBackbone(), "mean").eval())

    def run(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        vectors = good(input_ids, attention_mask).copy()
        vectors[attention_mask.sum(axis=1) == 7] = np.nan
        return vectors

    found = measure_parity("planted", "int8", reference, run, BUCKETS, pad_id=0)
    assert not found.passed
    assert found.worst_text == "text of 7 tokens"


def test_another_dimension_is_an_error() -> None:
    def run(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        return np.zeros((len(input_ids), DIMENSION + 1), dtype=np.float32)

    with pytest.raises(ContractError, match="shape"):
        measure_parity("planted", "fp32", sample(), run, BUCKETS, pad_id=0)


def test_a_coarser_precision_has_a_wider_limit() -> None:
    reference = sample()
    exact = runtime_of(SentenceEncoder(TinyBackbone(), "mean").eval())

    def run(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        return torch.nn.functional.normalize(torch.from_numpy(exact(input_ids, attention_mask)).bfloat16().float()).numpy()

    assert not measure_parity("planted", "fp32", reference, run, BUCKETS, pad_id=0).passed
    assert measure_parity("planted", "bf16", reference, run, BUCKETS, pad_id=0).passed
