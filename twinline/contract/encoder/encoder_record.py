"""The identity of an encoder folder: recorded in its `training.json` at its writing, compared at every reading."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Final

from twinline.contract.canonical import JSON
from twinline.contract.encoder.space import space_id
from twinline.contract.encoder.specification import Contract
from twinline.contract.errors import MismatchError

TRAINING_FILE: Final = "training.json"
# Heads, activation, epsilon: they change every vector, and the tensors alone do not show them.
_CONFIG_FILE: Final = "config.json"


def encoder_identity(folder: Path, contract: Contract, weights_sha256: str) -> dict[str, JSON]:
    """Return the identity of the encoder in a folder, for its `training.json`."""
    # Words are the index's: a release has them beside an encoder that was trained without.
    own = replace(contract, index=replace(contract.index, sparse=None))
    return {
        "space": space_id(contract.vector_fingerprint, weights_sha256),
        "contract": own.fingerprint,
        "weights_sha256": weights_sha256,
        "config_sha256": hashlib.sha256((folder / _CONFIG_FILE).read_bytes()).hexdigest(),
    }


def read_deviations(folder: Path, max_tokens: int) -> tuple[str, ...]:
    """Return where the training of an encoder differed from its serving, in words; empty for one that was not trained.

    Args:
        folder: holds `training.json`.
        max_tokens: the contract's limit, which serving keeps to.
    """
    record = json.loads((folder / TRAINING_FILE).read_bytes())
    read = (record.get("params") or {}).get("max_tokens")
    if not record.get("steps") or read is None or read >= max_tokens:
        return ()
    return (f"training read {read} tokens of each text, serving reads {max_tokens} (encoder.train.max_tokens)",)


def check_encoder(folder: Path, contract: Contract, weights_sha256: str) -> str:
    """Compare an encoder folder with its record, and return its space.

    Args:
        folder: holds `training.json` and `config.json`.
        contract: as read from the folder.
        weights_sha256: of the tensors in the folder.

    Raises:
        MismatchError: the record is missing, or names other weights, another contract or another model configuration.
    """
    place = folder / TRAINING_FILE
    try:
        record = json.loads(place.read_bytes())
        recorded = {key: record.get(key) for key in ("weights_sha256", "config_sha256", "contract", "space")}
    except FileNotFoundError as exc:
        raise MismatchError(f"{place} is missing: {folder} was not written by a training; run `dvc repro encoder-train`") from exc
    except (ValueError, AttributeError) as exc:
        raise MismatchError(f"{place} is no record of an encoder: fetch the encoder again (`dvc checkout`)") from exc
    found = encoder_identity(folder, contract, weights_sha256)
    for key, expected in recorded.items():
        if found[key] != expected:
            raise MismatchError(
                f"{folder} has {key} {found[key]}, {TRAINING_FILE} says {expected}: a file was changed after training; fetch "
                "the encoder again (`dvc checkout`), or train it again"
            )
    return str(found["space"])
