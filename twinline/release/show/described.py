"""All facts about one release: its parts, its inputs, its checks, its promotions and its service.

A fact is None, and shown as not known, where its file was never written or lies on another machine.
"""

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from twinline.clients.online import AdminClient, OnlineStatus
from twinline.clients.settings import Settings
from twinline.contract.artefacts import PARAMS, SNAPSHOT_RECORD
from twinline.contract.encoder.specification import CONTRACT_FILE
from twinline.contract.errors import MismatchError, SettingsError, TransientError
from twinline.contract.release.manifest import MANIFEST_FILE, collection_name
from twinline.registry.fetch import fetched_releases
from twinline.registry.revisions import GitRevision, Revision
from twinline.registry.versions import Registered
from twinline.release.journal import Journal, Promotion
from twinline.release.kinds import ENCODER
from twinline.release.verify.record import Verification, last_verification

ACTIVE = "active"
Plain = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Described:
    """One release. `files` are the JSON objects of its folder and its commit, by topic."""

    release: str
    manifest: Plain
    contract: Plain
    verdict: Plain | None
    params: Plain | None
    snapshot: Plain | None
    entry: Registered | None
    verification: Verification | None
    promotions: tuple[Promotion, ...]
    served: Plain | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as one JSON object."""
        entry = self.entry
        return {
            "release": self.release,
            "version": entry and entry.version,
            "stages": list(entry.stages) if entry else [],
            "commit": entry and entry.revision,
            "registered_at": entry and entry.created_at,
            **{field: self.manifest.get(field) for field in _OF_MANIFEST},
            "contract": {"fingerprints": self.manifest.get("fingerprints"), **self.contract},
            "params": self.params,
            "data": self.snapshot and {"snapshot": self.snapshot.get("id"), "counts": self.snapshot.get("counts")},
            "verdict": self.verdict,
            "verification": self.verification and self.verification.to_json(),
            "promotions": [asdict(promotion) for promotion in self.promotions],
            "served": self.served,
            "notes": list(self.notes),
        }


_OF_MANIFEST = (
    "space", "dimension", "base_model", "weights_sha256", "formats", "dropped_formats", "serving", "metrics", "lineage",
)  # fmt: skip


class Describer:
    """Looks releases up: in the folder of releases, the registry, the state folder and the online process."""

    def __init__(self, settings: Settings, repository: Path) -> None:
        self._settings = settings
        self._registry = ENCODER.registry(repository)
        self._versions = self._registry.versions()
        self._of_release = {self._registry.release_of(entry): entry for entry in reversed(self._versions)}
        self._status, self._notes = _online(settings)

    def describe(self, what: str) -> Described:
        """Return the facts about a version, stage, release id, experiment, commit, release folder, or `active`.

        Raises:
            SettingsError: nothing has that name.
        """
        release, files, commit = self._find(what)
        manifest = _object(files, MANIFEST_FILE)
        entry = self._of_release.get(release)
        return Described(
            release=release,
            manifest=manifest,
            contract=_object(files, CONTRACT_FILE),
            verdict=_known(files, "verdict.json") or (_known(commit, ENCODER.artifact.verdict) if commit else None),
            params=_params(commit) if commit else None,
            snapshot=self._snapshot(manifest, commit),
            entry=entry,
            verification=last_verification(ENCODER.state_folder(self._settings), release),
            promotions=self._promotions(release, entry),
            served=self._served(release),
            notes=tuple(self._notes),
        )

    def manifest_text(self, what: str) -> str:
        """Return the manifest's text, unchecked."""
        return self._find(what)[1].read_text(MANIFEST_FILE)

    def _find(self, what: str) -> tuple[str, Revision, GitRevision | None]:
        """Return the release, the files of its folder, and its commit where there is one."""
        if what == ACTIVE:
            if self._status is None or not self._status.active:
                raise SettingsError(f"no release is known to be active: {'; '.join(self._notes) or 'none was promoted yet'}")
            what = self._status.active.removeprefix(collection_name(""))
        entry = self._of_release.get(what) or next((e for e in self._versions if what in (e.version, *e.stages)), None)
        releases = self._settings.releases
        if entry is not None:
            commit = self._registry.revision(entry.version)
            release = self._registry.release_of(entry)
            fetched = release in fetched_releases(releases)
            return release, _Folder(releases / release) if fetched else _Inside(commit), commit
        for folder in (releases / what, Path(what)):
            if (folder / MANIFEST_FILE).is_file():
                return str(_object(_Folder(folder), MANIFEST_FILE)["release"]), _Folder(folder), None
        commit = self._registry.revision(what)
        return self._registry.release_in(commit), _Inside(commit), commit

    def _snapshot(self, manifest: Plain, commit: GitRevision | None) -> Plain | None:
        wanted = (manifest.get("lineage") or {}).get("snapshot")
        stored = _known(_Folder(self._settings.snapshots / wanted), "snapshot.json") if wanted else None
        return stored or (_known(commit, SNAPSHOT_RECORD) if commit else None)

    def _promotions(self, release: str, entry: Registered | None) -> tuple[Promotion, ...]:
        """Return the promotions in this machine's journal and in the registry's tags from others, oldest first."""
        found = [promotion for promotion in Journal(ENCODER.state_folder(self._settings)).read() if promotion.release == release]
        if entry is not None:
            tags = [tag for tag in self._registry.assignments() if tag.version == entry.version]
            found += [Promotion.parse(tag.message, f"the tag of {tag.created_at}") for tag in tags if tag.message.startswith("{")]
        return tuple(sorted(dict.fromkeys(found), key=lambda promotion: promotion.time))

    def _served(self, release: str) -> Plain | None:
        status = self._status and self._status.collection(collection_name(release))
        return asdict(status) if status else None


class _Folder:
    """The files of a release folder."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder

    def read_text(self, path: str) -> str:
        """Return a file's text."""
        try:
            return (self._folder / path).read_text(encoding="utf-8")
        except FileNotFoundError as exc:
            raise SettingsError(f"{self._folder} has no {path}: fetch the release again") from exc


class _Inside:
    """The files of the release folder inside a commit."""

    def __init__(self, commit: GitRevision) -> None:
        self.name = commit.name
        self._commit = commit

    def read_text(self, path: str) -> str:
        """Return a file's text."""
        return self._commit.read_text(f"{ENCODER.artifact.release}/{path}")


def _object(files: Revision, path: str) -> Plain:
    try:
        value = json.loads(files.read_text(path))
    except ValueError as exc:
        raise MismatchError(f"{files.name}: {path} is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise MismatchError(f"{files.name}: {path} holds {type(value).__name__}, not a JSON object")
    return value


def _known(files: Revision, path: str) -> Plain | None:
    try:
        return _object(files, path)
    except SettingsError:
        return None  # an older release, or a file that stayed on the machine where it was made: shown as not known


def _params(commit: GitRevision) -> Plain | None:
    try:
        value = yaml.safe_load(commit.read_text(PARAMS))
    except SettingsError:
        return None
    return value if isinstance(value, dict) else None


def _online(settings: Settings) -> tuple[OnlineStatus | None, list[str]]:
    with closing(AdminClient(settings.admin_url)) as admin:
        try:
            return admin.status(), []
        except TransientError as exc:
            return None, [f"what is served is not known: {exc}"]
