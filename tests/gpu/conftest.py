"""Fixtures of the tests on a GPU: the real model, real pairs, and one clear error without a GPU."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.training_pairs import write_real_pairs
from tests.unit.train import factories
from train.encoder.base_contract import own_contract
from train.encoder.fit import FitPaths, fit
from train.encoder.params import TrainParams
from twinline.clients.base_model import DEFAULT_BASE_MODEL, resolve_base_model
from twinline.contract.encoder.preprocess import Preprocessor

PAIRS = 640
CONTRACT = replace(factories.CONTRACT, query_prefix=None, document_prefix=None, overlap_tokens=32, title_max_tokens=64)
TRAIN = replace(
    factories.TRAIN,
    seed=3,
    epochs=3,
    batch_size=64,
    mini_batch_size=64,
    learning_rate=1e-4,
    max_tokens=96,
    checkpoint_every_steps=10,
)


def why_no_gpu() -> str | None:
    """Return why these tests cannot run here, or None where they can."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA: make setup TORCH=gpu, or see ops/gpu_check.sh"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} (CUDA {torch.version.cuda}) sees no NVIDIA GPU: run these on a machine that has one"
    return None


@pytest.fixture(autouse=True, scope="session")
def _gpu() -> None:
    """Skip everything in this folder where there is no GPU; keep fp32 fp32 where there is one."""
    if reason := why_no_gpu():
        pytest.skip(reason)
    import torch

    # TF32 rounds the factors of a product to ten bits, a thousand times the limit of parity.
    torch.set_float32_matmul_precision("highest")


@pytest.fixture(scope="session")
def base() -> Path:
    return resolve_base_model(DEFAULT_BASE_MODEL)


@pytest.fixture(scope="session")
def preprocessor(base: Path) -> Preprocessor:
    return Preprocessor(*own_contract(base))


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_real_pairs(tmp_path_factory.mktemp("pairs") / "train.parquet", PAIRS)


@dataclass(frozen=True)
class Run:
    """A finished training run."""

    paths: FitPaths
    record: dict[str, Any]

    @property
    def losses(self) -> list[float]:
        """Return the loss of each step."""
        header, *rows = self.paths.curves.read_text().splitlines()
        column = header.split("\t").index("loss")
        return [float(row.split("\t")[column]) for row in rows]


def paths_in(folder: Path, pairs: Path) -> FitPaths:
    return FitPaths(pairs, folder / "models" / "encoder", folder / "plots" / "train.tsv", folder / "home")


def run_fit(base: Path, paths: FitPaths, params: TrainParams) -> Run:
    """Train through the stage's own function."""
    fit(base, DEFAULT_BASE_MODEL, CONTRACT, params, paths)
    return Run(paths, json.loads((paths.encoder / "training.json").read_text()))


def falls(losses: list[float]) -> bool:
    """Say whether the last third of the steps lost clearly less than the first."""
    third = len(losses) // 3
    return float(np.mean(losses[-third:])) < 0.8 * float(np.mean(losses[:third]))
