"""The commits in a lineage, and DVC's hashes of files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from twinline.contract.errors import SettingsError
from twinline.registry.git import git
from twinline.registry.revisions import NotHereError


def commit_subject(repository: Path, revision: str) -> tuple[str, str]:
    """Return a commit's full name and the first line of its message.

    Raises:
        NotHereError: the repository does not have it.
    """
    try:
        name, _, subject = (
            git(repository, "log", "-1", "--format=%H %s", "--end-of-options", revision, "--").strip().partition(" ")
        )
    except SettingsError as exc:
        raise NotHereError(f"{repository} does not have this commit: `git fetch --all --tags`") from exc
    return name, subject


def folder_md5(hashes: Mapping[str, str]) -> str:
    """Return DVC 3's hash of a folder: of the JSON list of its files, by relative path."""
    listed = [{"md5": hashes[name], "relpath": name} for name in sorted(hashes)]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def local_hashes(folder: Path) -> dict[str, str]:
    """Return the MD5 of every file below a folder, by relative path, as in DVC."""
    hashes = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
        hashes[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return hashes
