"""Acts on the active release of a kind: promote, roll back, switch, repair, retire; one at a time, each safe to repeat.

The kind's commit point is the only one: the encoder's is an alias. Around it, in this order:

    1  intent     what is about to happen, so that a kill after the next step is recorded as what it was
    2  commit     the other release answers
    3  journal    who did it, and when
    4  followers  what stands for the active release: the stable model `embed` is the encoder's
    5  registry   its version takes the stage `prod`, and the tag carries the line of the journal

A kill before 2 leaves the old release, whole: the next act forgets the intent. A kill after it leaves the new one: the next act
finds the commit point ahead, records the switch, and does the rest. It may also make another release the active one and let all
follow that. So the way back is open even when the active release cannot be repaired.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final

from streaming.known_vectors import KnownVectors
from twinline.clients.files import locked
from twinline.clients.settings import Settings
from twinline.clients.triton.fleet import TritonFleet
from twinline.contract.errors import SettingsError
from twinline.contract.principal import Principal
from twinline.contract.release.checks import RefusedError
from twinline.contract.release.manifest import Manifest
from twinline.registry import fetch
from twinline.registry.versions import PRODUCTION, Registry
from twinline.release import publish, retire
from twinline.release.commit import CommitPoint, Standing
from twinline.release.journal import AIRFLOW, Act, Journal, Promotion, way_back
from twinline.release.kinds import Kind
from twinline.release.verify.record import Verification, forget_verification, last_verification

_PATIENCE_SECONDS: Final = 120.0


class Operations:
    """The acts on one kind of model, over one state folder, one registry and one stack.

    Args:
        principal: the caller, whose name signs the records.
        say: shows a line to a person.

    Raises:
        NotAllowedError: the caller may not release.
    """

    def __init__(
        self, kind: Kind, settings: Settings, registry: Registry, principal: Principal, say: Callable[[str], None]
    ) -> None:
        principal.require("release")
        self._kind = kind
        self._settings = settings
        self._registry = registry
        self._say = say
        self._by = principal.name
        self._state = kind.state_folder(settings)
        self._journal = Journal(self._state)

    def verified(self, release: str) -> Verification | None:
        """Return the last verification of a release if it passed against the currently active one."""
        found = last_verification(self._state, release)
        with self._kind.commit(self._settings) as commit:
            active = commit.standing().active
        return found if found is not None and found.passed and found.against in (active, release) else None

    def promote(self, release: str) -> str:
        """Make a verified release the active one; return the one before it, empty without one or if it was active already.

        Raises:
            RefusedError: no consumer keeps it up to date.
            TransientError: it is not up to date at the moment.
            SettingsError: it is not fetched, or not served.
        """
        with self._alone() as commit:
            commit.require_healthy(release)
            return self._activate("promote", release, commit)

    def rollback(self, release: str = "") -> tuple[str, str]:
        """Make a formerly active release active again; by default the one before the active one.

        Returns:
            The release that is active now, and the one before it.

        Raises:
            RefusedError: there is none, or it is no longer served.
        """
        with self._alone() as commit:
            standing = commit.standing()
            if done := self._rolled_back(release, standing.active):
                self._repair(commit)
                return done.release, done.before
            back = way_back(self._journal.read(), standing.active)
            target = choose_rollback(release, back, standing)
            return target, self._activate("rollback", target, commit)

    def switch(self, release: str) -> str:
        """Make a served release the active one, as a step by itself; return the one before it."""
        with self._alone() as commit:
            return self._activate("switch", release, commit)

    def repair(self) -> tuple[str, list[str]]:
        """Make journal, followers and stage agree with the commit point; return the active release and the repairs."""
        with self._alone() as commit:
            return commit.standing().active, self._repair(commit)

    def retire(self, release: str, force: bool = False) -> bool:
        """Take an inactive release out of service; return whether there was anything left of it.

        Raises:
            SettingsError: it is the active one.
            RefusedError: a roll-back would go to it, and `force` is not set.
        """
        with self._alone() as commit:
            self._repair(commit)
            standing = commit.standing()
            back = _served_back(way_back(self._journal.read(), standing.active), standing)
            if not force and release in back[:1]:
                raise RefusedError(f"a roll-back would go to release {release}: without it there is no way back; --force does it")
            return self._retire(release, commit)

    def retire_older(self, keep: int) -> tuple[list[str], list[str]]:
        """Retire all releases older than the active one and the `keep` before it; return the retired and the remaining ones."""
        with self._alone() as commit:
            self._repair(commit)
            standing = commit.standing()
            served = list(standing.served)
            back = way_back(self._journal.read(), standing.active)
            gone = retire.outdated(served, standing.active, back, self._superseded(served), keep)
            for release in gone:
                self._retire(release, commit)
            return gone, [release for release in served if release not in gone]

    def _activate(self, act: Act, release: str, commit: CommitPoint) -> str:
        manifest = fetch.read_manifest(self._settings.releases, release)
        before = commit.standing().active
        self._journal.settle(before, self._by)
        if before == release:
            self._say(f"release {release} was the active one")
            self._repair(commit)
            return ""
        with self._fleet() as fleet:
            publish.require_everywhere(release, self._kind.serve(release), fleet.replicas)
            self._journal.intend(Promotion.now(act, before, release, self._by))
            commit.switch(release)
            self._journal.settle(release, self._by)
            self._say(f"release {release} is now the active one")
            self._follow(manifest, fleet)
        if stage := self._assign(release):
            self._say(f"{self._kind.artifact.name} {stage}")
        elif self._registry.version_of(release) is None:
            self._say(f"release {release} is not registered, so no version takes the stage {PRODUCTION}")
        self._journal.finish()
        return before

    def _rolled_back(self, wanted: str, active: str) -> Promotion | None:
        """Return the roll-back that this call repeats: an interrupted one, or an earlier try of the same DAG run.

        A repeat must not take a second step back, which would undo more than requested.
        """
        self._journal.settle(active, self._by)
        unfinished, last = self._journal.unfinished(active), self._journal.read()[-1:]
        same_run = [entry for entry in last if entry.by == self._by and self._by.startswith(AIRFLOW)]
        for entry in (*([unfinished] if unfinished else []), *same_run):
            if entry.kind == "rollback" and entry.release == active and wanted in ("", active):
                return entry
        return None

    def _repair(self, commit: CommitPoint) -> list[str]:
        active = commit.standing().active
        done = []
        if added := self._journal.settle(active, self._by):
            done.append(f"journal: {added.kind} of {added.release} by {added.by}")
        if active:
            manifest = fetch.read_manifest(self._settings.releases, active)
            with self._fleet() as fleet:
                done += self._follow(manifest, fleet)
            if stage := self._assign(active):
                done.append(f"registry: {stage}")
        self._journal.finish()
        for line in done:
            self._say(f"repaired {line}")
        return done

    def _follow(self, manifest: Manifest, fleet: TritonFleet) -> list[str]:
        """Let all followers follow the active release; return the changes."""
        return [line for follow in self._kind.followers for line in follow(manifest, fleet, self._state, self._say)]

    def _assign(self, release: str) -> str:
        """Let the version of a release take the stage; return the change, empty if there was none."""
        entry = self._registry.version_of(release)
        if entry is None:
            # The stage stays: an unregistered release, such as an untuned one, cannot take it.
            return ""
        last = next((each for each in reversed(self._journal.read()) if each.release == release), None)
        message = last.line() if last else f"release {release} is active"
        if not self._registry.assign(entry.version, message):
            return ""
        return f"{entry.version} is in stage {PRODUCTION}"

    def _retire(self, release: str, commit: CommitPoint) -> bool:
        # First: a later collection of the same name would inherit this record.
        if commit.standing().active != release:
            forget_verification(self._state, release)
        model = self._kind.serve(release)
        with self._fleet() as fleet:
            done = any(fleet.each(lambda server: retire.retire(release, model, server.repository, commit, server.control)))
        KnownVectors.drop(self._settings, release)
        self._say(f"release {release} {'is retired' if done else 'was not in service'}; the registry keeps its version")
        return done

    def _superseded(self, served: list[str]) -> set[str]:
        last = max((promotion.time for promotion in self._journal.read()), default="")
        found = {release: last_verification(self._state, release) for release in served}
        return {release for release, record in found.items() if record is not None and record.time < last}

    @contextmanager
    def _alone(self) -> Iterator[CommitPoint]:
        """Open the commit point for one act at a time."""
        with locked(self._state / "lock", _PATIENCE_SECONDS, self._by), self._kind.commit(self._settings) as commit:
            yield commit

    @contextmanager
    def _fleet(self) -> Iterator[TritonFleet]:
        with closing(TritonFleet.connect(self._settings)) as fleet:
            yield fleet


def choose_rollback(wanted: str, back: list[str], standing: Standing) -> str:
    """Return the release to go back to. Pure.

    Args:
        wanted: the id of the requested release, or empty.
        back: the releases that were active before, nearest first.

    Raises:
        RefusedError: there is none, or it is not served any more.
        SettingsError: the requested one is active already.
    """
    if wanted and wanted == standing.active:
        raise SettingsError(f"release {wanted} is the active one already: there is nothing to roll back")
    target = wanted or next(iter(back), "")
    possible = ", ".join(_served_back(back, standing)) or "none"
    if not target:
        raise RefusedError("no release was active before this one: there is nothing to roll back to")
    if wanted and wanted not in back:
        raise RefusedError(
            f"release {wanted} was not active before this one: promote it, or name one that was (still served: {possible})"
        )
    if target not in standing.served:
        why = standing.refused.get(target, "it was retired")
        raise RefusedError(
            f"release {target} was active before this one, and is not served any more ({why}): `twinline release deploy "
            f"{target}` builds it again, --to goes to another one (still served: {possible})"
        )
    return target


def _served_back(back: list[str], standing: Standing) -> list[str]:
    return [release for release in back if release in standing.served]
