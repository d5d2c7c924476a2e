"""The registry: versions are Git tags by GTO on the commits of DVC experiments, and their files lie in the DVC remote.

For the encoder, the tag `encoder@v3.0.0` names a version, and the tag `encoder#prod#7` puts a version in production. The user's
branch and workspace stay unchanged.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from twinline.contract.artefacts import Artifact
from twinline.contract.errors import SettingsError, TransientError
from twinline.contract.release.manifest import MANIFEST_FILE
from twinline.registry.git import date_tag, identity, resolve_commit, tag_date
from twinline.registry.revisions import GitRevision, NotHereError

PRODUCTION: Final = "prod"
REMOTE: Final = "local"

_VERSION = re.compile(r"v(\d+)\.0\.0")
_RELEASE = re.compile(r"release (\S+)")


@dataclass(frozen=True, slots=True)
class Registered:
    """One version of a kind of model, and its current stages."""

    number: int
    revision: str
    created_at: str
    message: str
    stages: tuple[str, ...]

    @property
    def version(self) -> str:
        """Return the version in GTO's form: every new model is a major one, since vectors never mix."""
        return f"v{self.number}.0.0"


@dataclass(frozen=True, slots=True)
class Assignment:
    """One assignment of a version to a stage, from its tag; `message` is the note of its author."""

    version: str
    stage: str
    created_at: str
    message: str


class Registry:
    """Versions and stages of one kind of model in one Git repository."""

    def __init__(self, repository: Path, artifact: Artifact) -> None:
        self.artifact = artifact
        self._repository = repository

    def versions(self) -> list[Registered]:
        """Return the registered versions, newest first."""
        import gto

        try:
            shown = gto.api.show(str(self._repository), self.artifact.name, versions_per_stage=1)
        except gto.exceptions.ArtifactNotFound:
            return []
        numbered = ((_VERSION.fullmatch(entry["version"] or ""), entry) for entry in shown)
        found = [_registered(int(match[1]), entry) for match, entry in numbered if match]
        return sorted(found, key=lambda entry: entry.number, reverse=True)

    def find(self, name: str) -> Registered:
        """Return the version called `name`, or the one in the stage called `name`.

        Raises:
            SettingsError: there is none; the message lists the existing ones.
        """
        if found := self.registered(name):
            return found
        entries = self.versions()
        known = ", ".join(f"{entry.version}{list(entry.stages) or ''}" for entry in entries) or "none so far"
        raise SettingsError(f"no {self.artifact.name} version or stage {name!r}; registered: {known}")

    def registered(self, name: str) -> Registered | None:
        """Return the version called `name`, or the one in the stage called `name`; None where there is none."""
        return next((entry for entry in self.versions() if name in (entry.version, *entry.stages)), None)

    def revision(self, name: str) -> GitRevision:
        """Return the files of a version, stage or experiment."""
        entry = self.registered(name)
        return GitRevision(self._repository, entry.revision if entry else resolve_commit(self._repository, name))

    def version_of(self, release: str) -> Registered | None:
        """Return the newest version that holds a release, None where it was never registered."""
        return next((entry for entry in self.versions() if self.release_of(entry) == release), None)

    def assignments(self) -> list[Assignment]:
        """Return every assignment of a version to a stage, oldest first, on any machine."""
        import gto

        try:
            events = gto.api.history(str(self._repository), self.artifact.name, ascending=True)
        except gto.exceptions.ArtifactNotFound:
            return []
        return [
            Assignment(str(event["version"]), str(event["stage"]), str(event["timestamp"]), str(event["message"]).strip())
            for event in events
            if event["event"] == "assignment"
        ]

    def release_of(self, entry: Registered) -> str:
        """Return the id of the release that a version holds; empty where the tag does not say and its files are not here."""
        # From the tag: opening the commit of every version takes longer with each one.
        stated = _RELEASE.match(entry.message)
        if stated:
            return stated[1]
        try:
            return self.release_in(GitRevision(self._repository, entry.revision))
        except NotHereError:
            # Tags travel with Git, files do not: what is unknown here is none of the releases that are looked for.
            return ""

    def release_in(self, revision: GitRevision) -> str:
        """Return the id of the release that a revision holds."""
        return str(json.loads(revision.read_text(f"{self.artifact.release}/{MANIFEST_FILE}"))["release"])

    def in_production(self) -> Registered | None:
        """Return the version in stage `prod`, None where there is none."""
        return next((entry for entry in self.versions() if PRODUCTION in entry.stages), None)

    def register(self, revision: str, message: str) -> Registered:
        """Register a commit as the next version, and push its files; a repeat returns the same version.

        Two commits with the same release are one version, for example two runs on the same data under different names.
        """
        import gto

        commit = resolve_commit(self._repository, revision)
        entries = self.versions()
        same = next((entry for entry in entries if entry.revision == commit), None)
        release = self.release_in(GitRevision(self._repository, commit))
        if same is None:
            same = next((entry for entry in entries if self.release_of(entry) == release), None)
        if same is not None:
            self.push(same.revision)
            return same
        # Files first: a visible version that cannot be fetched is worse than files without a version.
        self.push(commit)
        number = entries[0].number + 1 if entries else 1
        name, email = identity(self._repository)
        gto.api.register(
            str(self._repository),
            self.artifact.name,
            commit,
            version=f"v{number}.0.0",
            message=f"release {release}\n\n{message}",
            author=name,
            author_email=email,
        )
        return self.find(f"v{number}.0.0")

    def assign(self, version: str, message: str, stage: str = PRODUCTION) -> bool:
        """Put a version in a stage, in place of another; return whether that changed anything.

        Args:
            message: stored in the tag, which every clone gets.
        """
        import gto

        if stage in self.find(version).stages:
            return False
        last = self._last_assigned(stage)
        name, email = identity(self._repository)
        # force: a roll-back returns a version to a stage that it had before.
        made = gto.api.assign(
            str(self._repository),
            self.artifact.name,
            stage,
            version=version,
            message=message,
            force=True,
            author=name,
            author_email=email,
        )
        # The youngest tag counts, and tags have whole seconds. Waiting for the clock could take as long as it stepped back.
        moment = datetime.fromtimestamp(int(time.time()), UTC)
        if last is not None:
            moment = max(moment, last + timedelta(seconds=1))
        # The tag's own date decides: the clock may have moved on since Git read it.
        if tag_date(self._repository, made.tag) != moment:
            date_tag(self._repository, made.tag, moment, message, (name, email))
        return True

    def _last_assigned(self, stage: str) -> datetime | None:
        times = [datetime.fromisoformat(entry.created_at) for entry in self.assignments() if entry.stage == stage]
        return max((stamp if stamp.tzinfo else stamp.astimezone() for stamp in times), default=None)

    def push(self, commit: str) -> None:
        """Copy the files of one commit to the DVC remote.

        `dvc push` alone sees the workspace, never an experiment, and `dvc push -T` takes longer with every version.

        Raises:
            TransientError: the remote did not take them all.
        """
        from dvc.exceptions import UploadError
        from dvc.repo import Repo

        with Repo(str(self._repository)) as repository:
            try:
                repository.push(revs=[commit], workspace=False)
            except UploadError as exc:
                raise TransientError(f"{exc.amount} files of {commit[:12]} did not reach the DVC remote: {exc}") from exc


def _registered(number: int, entry: Mapping[str, Any]) -> Registered:
    return Registered(
        number=number,
        revision=str(entry["commit_hexsha"]),
        created_at=str(entry["created_at"]),
        message=str(entry["message"]),
        stages=tuple(sorted({str(stage["stage"]) for stage in entry["stages"]})),
    )
