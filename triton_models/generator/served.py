"""The record beside a served generator: its settings, and the hash of every file that it loads."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from triton_models.generator.engine.model import ModelSettings
from triton_models.generator.engine.scheduler import Limits
from twinline.contract.answers.tensors import CHOICES
from twinline.contract.errors import MismatchError, SettingsError

SERVED_FILE: Final = "served.json"
_REMEDY: Final = "publish the release again"


@dataclass(frozen=True, slots=True)
class ServedGenerator:
    """How a release's generator is served.

    Args:
        release: its id.
        fingerprint: of its prompt contract, which clients compare with their own.
        file: the OpenVINO file, in the model's version folder.
        most_positions: of the model, answer included.
        stop_ids: of the contract.
        max_tokens: of an answer by default, and at most.
        choices: the decoding settings that a request may choose; another one is refused.
        model: how the file is compiled.
        limits: of the engine.
    """

    release: str
    fingerprint: str
    file: str
    most_positions: int
    stop_ids: tuple[int, ...]
    max_tokens: int
    choices: tuple[str, ...]
    model: ModelSettings
    limits: Limits

    def __post_init__(self) -> None:
        unknown = sorted(set(self.choices) - set(CHOICES))
        if unknown:
            raise SettingsError(f"choices names {unknown[0]!r}: choose from {', '.join(CHOICES)}")
        if not self.stop_ids:
            raise SettingsError("stop_ids is empty: no answer would ever end by itself")


def write_served(folder: Path, served: ServedGenerator) -> None:
    """Record the settings and the files of a model's version folder; to be done last."""
    record = {"settings": asdict(served), "files": _hashes(folder)}
    (folder / SERVED_FILE).write_text(json.dumps(record, indent=1) + "\n")


def read_served(folder: Path) -> ServedGenerator:
    """Return the settings of a model's version folder, after a comparison of every file.

    Raises:
        MismatchError: the record is missing or unreadable, or a file is missing, was changed, or does not belong there.
    """
    path = folder / SERVED_FILE
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        expected, fields = dict(record["files"]), dict(record["settings"])
        served = ServedGenerator(
            **{
                **fields,
                "stop_ids": tuple(fields["stop_ids"]),
                "choices": tuple(fields["choices"]),
                "model": ModelSettings(**fields["model"]),
                "limits": Limits(**fields["limits"]),
            }
        )
    except FileNotFoundError as exc:
        raise MismatchError(f"{path} is missing: this model was not published whole; {_REMEDY}") from exc
    except (ValueError, KeyError, TypeError, SettingsError) as exc:
        raise MismatchError(f"{path} is no record of a served generator ({exc!r}): {_REMEDY}") from exc
    found = _hashes(folder)
    for name in sorted({*found, *expected}):
        if name not in expected:
            raise MismatchError(f"{folder}/{name} does not belong to release {served.release}: {_REMEDY}")
        if found.get(name) != expected[name]:
            raise MismatchError(
                f"{folder}/{name} has SHA-256 {found.get(name, 'none, it is missing')}, {SERVED_FILE} says {expected[name]}: it "
                f"was changed after publishing; {_REMEDY}"
            )
    return served


def _hashes(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        # Python makes its compiled files from the code, and makes them again when the code changes.
        if path.is_file() and name.as_posix() != SERVED_FILE and "__pycache__" not in name.parts:
            with path.open("rb") as stream:
                found[name.as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found
