"""Bring a release into the folder of releases: from a registered version, a stage, an experiment, or a folder."""

import shutil
from functools import partial
from pathlib import Path
from typing import Final

from twinline.contract.errors import MismatchError, SettingsError
from twinline.contract.release.manifest import MANIFEST_FILE, Manifest
from twinline.registry.versions import Registry

_PARTIAL: Final = ".partial"


def fetch(what: str, releases: Path, registry: Registry) -> Manifest:
    """Make sure that `releases` holds a release whole, under its id, and return its manifest.

    Every file is hashed, also when the release is there already: a corrupt disk is found here, not by a wrong vector.

    Args:
        what: a version (`v3.0.0`), a stage (`prod`), an experiment or commit, the path of a release folder, or the id of a
            release that is here already.

    Raises:
        SettingsError: there is no such version, stage, experiment, folder or release.
        NotHereError: there is, and its files are not on this machine; says how to get them.
        MismatchError: a file differs from the manifest.
    """
    known = fetched_releases(releases)
    if what in known:
        return open_release(releases, what)
    if (Path(what) / MANIFEST_FILE).is_file():
        release, copy = Manifest.load(Path(what)).release, partial(shutil.copytree, what)
    else:
        entry = registry.registered(what)
        if entry and (release := registry.release_of(entry)) in known:
            # Here already, so DVC need not have it: its remote may be on another machine.
            return open_release(releases, release)
        revision = registry.revision(what)
        release, copy = registry.release_in(revision), partial(revision.download, registry.artifact.release)
    if release in known:
        return open_release(releases, release)
    # Beside the target, so that the rename at the end stays on one disk.
    beside = releases / f"{release}{_PARTIAL}"
    shutil.rmtree(beside, ignore_errors=True)
    releases.mkdir(parents=True, exist_ok=True)
    copy(beside)
    manifest = Manifest.load(beside)
    manifest.verify_files(beside)
    beside.rename(releases / manifest.release)
    return manifest


def open_release(releases: Path, release: str) -> Manifest:
    """Return the manifest of a fetched release after hashing its files.

    Raises:
        SettingsError: it was not fetched.
        MismatchError: its files changed.
    """
    manifest = read_manifest(releases, release)
    manifest.verify_files(releases / release)
    return manifest


def read_manifest(releases: Path, release: str) -> Manifest:
    """Return the manifest of a fetched release without reading its files.

    Raises:
        SettingsError: it was not fetched.
        MismatchError: the folder holds another release, or was edited.
    """
    folder = releases / release
    if not (folder / MANIFEST_FILE).is_file():
        known = ", ".join(fetched_releases(releases)) or "none"
        raise SettingsError(f"release {release!r} is not in {releases}, which has {known}: fetch it first")
    manifest = Manifest.load(folder)
    if manifest.release != release:
        # A consistent edit has a new id of its own; Triton, collection and group would still use this one.
        raise MismatchError(f"{folder} holds release {manifest.release}: remove the folder, and fetch {release} again")
    return manifest


def fetched_releases(releases: Path) -> list[str]:
    """Return the ids of the fetched releases, sorted."""
    return sorted(path.parent.name for path in releases.glob(f"*/{MANIFEST_FILE}") if path.parent.suffix != _PARTIAL)
