"""The files of a published release's models: recorded when they are published, compared when they load.

    <repository>/tokenizer_<release>/1/served.json     SHA-256 of every file of the three models below, but itself
    <repository>/encoder_<release>/
    <repository>/embed_<release>/

The release's own files are judged by its manifest, which no record beside them can overrule; the rest (configs, code, warm-up
data) by this record.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from twinline.contract.errors import MismatchError
from twinline.contract.release.manifest import Manifest, hash_files

SERVED_FILE: Final = "served.json"
_VERSION: Final = "1"
_OWN: Final = f"{_VERSION}/{SERVED_FILE}"
_REMEDY: Final = "publish the release again"


def write_served(models: Mapping[str, Path]) -> None:
    """Record the files of the models `tokenizer`, `encoder` and `embed`, whose folders are given; to be done last."""
    record = {part: _hashes(folder) for part, folder in models.items()}
    (models["tokenizer"] / _OWN).write_text(json.dumps(record, indent=1) + "\n")


def check_served(tokenizer: Path, manifest: Manifest) -> None:
    """Compare all files that a release serves with their published form.

    Args:
        tokenizer: the tokenizer model's folder; the release's other models are its neighbours.
        manifest: of the release.

    Raises:
        MismatchError: naming the first file that is missing, was changed, or does not belong there.
    """
    record = _read(tokenizer / _OWN)
    for part, expected in record.items():
        folder = tokenizer if part == "tokenizer" else tokenizer.parent / f"{part}_{manifest.release}"
        found = _hashes(folder)
        if part == "encoder":
            _compare(folder, found, _of_release(manifest), "its manifest", f"{_VERSION}/")
        _compare(folder, found, expected, SERVED_FILE)
        _check_config(folder, part, manifest)


def _of_release(manifest: Manifest) -> dict[str, str]:
    """Return the manifest's hashes of the served format's files, by their place in the encoder's folder."""
    source = PurePosixPath(manifest.serving_format().file).parent
    return {
        f"{_VERSION}/{PurePosixPath(name).relative_to(source)}": digest
        for name, digest in manifest.files.items()
        if PurePosixPath(name).is_relative_to(source)
    }


def _compare(folder: Path, found: Mapping[str, str], expected: Mapping[str, str], source: str, below: str = "") -> None:
    for name in sorted({*found, *expected}):
        if not name.startswith(below) or found.get(name) == expected.get(name):
            continue
        if name not in expected:
            raise MismatchError(f"{folder.name}/{name} does not belong to the release, {source} does not name it: {_REMEDY}")
        raise MismatchError(
            f"{folder.name}/{name} has SHA-256 {found.get(name, 'none, it is missing')}, {source} says {expected[name]}: it was "
            f"changed after publishing; {_REMEDY}"
        )


def _check_config(folder: Path, part: str, manifest: Manifest) -> None:
    """Compare a config's facts about the encoder with the manifest, so that no rewritten record can vouch for it."""
    served = manifest.serving_format()
    parameters = {
        "release": manifest.release,
        "space": manifest.space,
        "contract": manifest.fingerprints.contract,
        "precision": served.precision,
    }
    wanted = [f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}' for key, value in parameters.items()]
    if part == "encoder":
        wanted += [f'backend: "{served.backend}"', f'default_model_filename: "{PurePosixPath(served.file).name}"']
    lines = (folder / "config.pbtxt").read_text().splitlines()
    missing = [line for line in wanted if line not in lines]
    if missing:
        raise MismatchError(
            f"{folder.name}/config.pbtxt lacks `{missing[0]}`, which the manifest of release {manifest.release} says: {_REMEDY}"
        )


def _hashes(folder: Path) -> dict[str, str]:
    # Python makes its compiled files from the code, and makes them again when the code changes.
    return {
        name: digest
        for name, digest in hash_files(folder).items()
        if name != _OWN and "__pycache__" not in PurePosixPath(name).parts
    }


def _read(place: Path) -> dict[str, dict[str, str]]:
    try:
        record: dict[str, Any] = json.loads(place.read_bytes())
        return {part: dict(record[part]) for part in ("tokenizer", "encoder", "embed")}
    except FileNotFoundError as exc:
        raise MismatchError(f"{place} is missing: this model was not published whole; {_REMEDY}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise MismatchError(f"{place} is no record of published files ({exc!r}): {_REMEDY}") from exc
