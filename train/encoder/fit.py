"""The training stage: base weights and pairs in, an encoder folder with its contract out."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from train.checkpoints import checkpoint_folder, file_sha256, held, sweep
from train.curves import write_curves
from train.encoder.base_contract import contract_for, training_tokens
from train.encoder.model import load_model, save_model
from train.encoder.pairs import TrainingPairs, read_pairs
from train.encoder.params import ContractParams, TrainParams
from train.encoder.trainable import count_parameters
from train.encoder.trainer import FitResult, train_model
from train.hardware import device, is_first_process, world_size
from train.weights import weights_sha256
from twinline.contract.canonical import JSON
from twinline.contract.encoder.encoder_record import TRAINING_FILE, encoder_identity
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.space import space_id

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_VERSIONED = ("torch", "transformers", "sentence-transformers", "tokenizers", "accelerate", "peft")


@dataclass(frozen=True)
class FitPaths:
    """The stage's inputs and outputs, and the place of its checkpoints."""

    pairs: Path
    encoder: Path
    curves: Path
    home: Path


def fit(base: Path, base_name: str, contract_params: ContractParams, params: TrainParams, paths: FitPaths) -> None:
    """Fine-tune the base model in folder `base` on the pairs and write the encoder's folder.

    A killed run continues from its last checkpoint when it is started again on the same inputs. Under torchrun or accelerate
    every process calls this; the first process writes.

    Raises:
        MismatchError: the base model does not fit the contract.
        SettingsError, ContractError: unusable parameters or pairs.
    """
    contract, tokenizer_json = contract_for(base, contract_params)
    preprocessor = Preprocessor(contract, tokenizer_json)
    pairs = read_pairs(paths.pairs, preprocessor)
    base_sha256 = weights_sha256(base)
    inputs: dict[str, JSON] = {
        "base_weights_sha256": base_sha256,
        "pairs_sha256": file_sha256(paths.pairs),
        "contract": contract.fingerprint,
        "params": asdict(params),
        "versions": {name: version(name) for name in _VERSIONED} | {"python": sys.version.split()[0]},
    }
    checkpoints = checkpoint_folder(paths.home, inputs)
    with held(checkpoints) if is_first_process() else nullcontext():
        model = load_model(base, contract, tokenizer_json)
        if params.epochs == 0 and params.max_steps == 0:
            write_curves(paths.curves, [])
            result = FitResult(0, None, 0.0, 0, "fp32", 0, count_parameters(model)[1])
        else:
            tokens = training_tokens(contract, tokenizer_json, params.max_tokens)
            result = train_model(model, pairs, tokens, params, checkpoints, paths.curves)
        if is_first_process():
            base_space = space_id(contract.vector_fingerprint, base_sha256)
            record = {"base_model": base_name, "base_space": base_space, **inputs, **_describe(pairs), **asdict(result)}
            _deliver(model, preprocessor, paths.encoder, record)
            # Last: a restart needs the checkpoints until the encoder is in its place.
            sweep(checkpoints)


def _describe(pairs: TrainingPairs) -> dict[str, JSON]:
    return {
        "pairs": len(pairs.queries),
        "pairs_set_aside": dict(pairs.set_aside),
        "device": str(device()),
        "processes": world_size(),
    }


def _deliver(model: SentenceTransformer, preprocessor: Preprocessor, encoder: Path, record: dict[str, JSON]) -> None:
    """Write the folder beside its place, then rename it, so that no reader sees half an encoder."""
    beside = encoder.with_name(f"{encoder.name}.{os.getpid()}.new")
    save_model(model, beside, preprocessor.contract, preprocessor.tokenizer_json)
    record |= encoder_identity(beside, preprocessor.contract, weights_sha256(beside))
    (beside / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    if encoder.exists():
        shutil.rmtree(encoder)
    beside.rename(encoder)
    print(f"train: {record['steps']} steps in {record['seconds']} s, space {str(record['space'])[:12]} in {encoder}", flush=True)
