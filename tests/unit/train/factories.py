"""Parameters with the values that tests do not care about filled in."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from train.encoder.fit import FitPaths
from train.encoder.params import ContractParams, EvaluateParams, SimilarityParams, TrainParams

CONTRACT = ContractParams(
    max_tokens=None,
    pooling=None,
    query_prefix="query: ",
    document_prefix="",
    chunker="tokens",
    overlap_tokens=4,
    title="prepend",
    title_max_tokens=8,
)
TRAIN = TrainParams(
    seed=1,
    epochs=2,
    max_steps=0,
    batch_size=4,
    mini_batch_size=2,
    gradient_accumulation=1,
    learning_rate=1e-3,
    warmup_ratio=0.1,
    weight_decay=0.01,
    scale=20.0,
    max_tokens=16,
    precision="fp32",
    log_every_steps=1,
    checkpoint_every_steps=2,
)
EVALUATE = EvaluateParams(
    seed=1,
    look_at_test=False,
    max_documents=0,
    max_queries=0,
    bootstrap_samples=500,
    confidence=0.95,
    margin=0.05,
    champion="",
    slice_margin=0.1,
    slice_min_queries=5,
    min_queries=5,
)
SIMILARITY = SimilarityParams(near_duplicate_similarity=0.7, shingle_words=3, hashes=128, bands=32)


def contract_params(**changes: Any) -> ContractParams:
    return replace(CONTRACT, **changes)


def train_params(**changes: Any) -> TrainParams:
    return replace(TRAIN, **changes)


def evaluate_params(**changes: Any) -> EvaluateParams:
    return replace(EVALUATE, **changes)


def fit_paths(folder: Path, pairs: Path) -> FitPaths:
    return FitPaths(pairs, folder / "models" / "encoder", folder / "plots" / "train.tsv", folder / "home")
