"""Acts on the active release: promote, roll back, switch, repair, retire; one at a time, each safe to repeat.

The alias is the only commit point. Around it, in this order:

    1  intent     what is about to happen, so that a kill after the next step is recorded as what it was
    2  alias      search answers from the other release
    3  journal    who did it, and when
    4  `embed`    the stable model stands for it
    5  registry   its version takes the stage `prod`, and the tag carries the line of the journal

A kill before 2 leaves the old release, whole: the next act forgets the intent. A kill after it leaves the new one: the next act
finds the alias ahead, records what happened, and does the rest, or makes another release the active one and lets all follow that.
So the way back is open also when the active release is the one that cannot be repaired.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Final

from triton_models.repository import point_stable_model
from twinline.clients.files import locked
from twinline.clients.online import AdminClient, OnlineStatus
from twinline.clients.settings import Settings
from twinline.clients.triton.fleet import Replica, TritonFleet
from twinline.contract.errors import SettingsError, TransientError
from twinline.contract.release.checks import RefusedError
from twinline.contract.release.manifest import collection_name
from twinline.registry import fetch
from twinline.registry.versions import PRODUCTION, Registry
from twinline.release import publish, retire, switch
from twinline.release.journal import AIRFLOW, Journal, Kind, Promotion, way_back, who
from twinline.release.verify.record import Verification, forget_verification, last_verification

_PATIENCE_SECONDS: Final = 120.0
_PREFIX: Final = collection_name("")


class Acting:
    """The acts, over one state folder, one registry and one stack.

    Args:
        say: takes a line for a person.
    """

    def __init__(
        self, settings: Settings, registry: Registry, say: Callable[[str], None], environment: Mapping[str, str] = os.environ
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._say = say
        self._by = who(environment)
        self._state = settings.release_state
        self._journal = Journal(settings.release_state)

    def verified(self, release: str) -> Verification | None:
        """Return the last verification of a release if a promotion may rest on it: passed, and beside what is active now."""
        found = last_verification(self._state, release)
        with self._online() as admin:
            active = _active(admin.status())
        return found if found is not None and found.passed and found.against in (active, release) else None

    def promote(self, release: str) -> str:
        """Make a verified release the active one; return the one before it, empty if there was none or it is this one.

        Raises:
            RefusedError: nobody keeps it up with the log.
            TransientError: it does not keep up at the moment.
            SettingsError: it is not fetched, or not served.
        """
        with self._acting() as admin:
            _require_healthy(release, admin.status())
            return self._activate("promote", release, admin)

    def rollback(self, release: str = "") -> tuple[str, str]:
        """Make a release active again that was so before; by default the one before the active one.

        Returns:
            The release that is active now, and the one before it.

        Raises:
            RefusedError: there is none, or it is not served any more.
        """
        with self._acting() as admin:
            status = admin.status()
            if done := self._rolled_back(release, _active(status)):
                self._repair(admin)
                return done.release, done.before
            back = way_back(self._journal.read(), _active(status))
            target = choose_rollback(release, back, status)
            return target, self._activate("rollback", target, admin)

    def switch(self, release: str) -> str:
        """Make a served release the active one, as a step by itself; return the one before it."""
        with self._acting() as admin:
            return self._activate("switch", release, admin)

    def repair(self) -> tuple[str, list[str]]:
        """Make journal, `embed` and stage agree with the alias; return the active release and what had to be done."""
        with self._acting() as admin:
            return _active(admin.status()), self._repair(admin)

    def retire(self, release: str, force: bool = False) -> bool:
        """Take a release out of service that is not active; return whether there was anything left of it.

        Raises:
            SettingsError: it is the active one.
            RefusedError: a roll-back would go to it, and it is not forced.
        """
        with self._acting() as admin:
            self._repair(admin)
            status = admin.status()
            back = _served_back(way_back(self._journal.read(), _active(status)), status)
            if not force and release in back[:1]:
                raise RefusedError(f"a roll-back would go to release {release}: without it there is no way back; --force does it")
            return self._retire(release, admin)

    def retire_older(self, keep: int) -> tuple[list[str], list[str]]:
        """Retire what is older than the active release and the `keep` ones before it; return those retired, and those left."""
        with self._acting() as admin:
            self._repair(admin)
            status = admin.status()
            served = [listed.release for listed in status.collections]
            back = way_back(self._journal.read(), _active(status))
            gone = retire.outdated(served, _active(status), back, self._superseded(served), keep)
            for release in gone:
                self._retire(release, admin)
            return gone, [release for release in served if release not in gone]

    def _activate(self, kind: Kind, release: str, admin: AdminClient) -> str:
        manifest = fetch.read_manifest(self._settings.releases, release)
        before = _active(admin.status())
        self._journal.settle(before)
        if before == release:
            self._say(f"release {release} was the active one")
            self._repair(admin)
            return ""
        with self._fleet() as fleet:
            publish.require_everywhere(release, fleet.replicas)
            self._journal.intend(Promotion.now(kind, before, release, self._by))
            switch.activate(release, admin)
            self._journal.settle(release)
            self._say(f"release {release} is now the active one")
            self._follow(release, manifest.space, fleet)
        if stage := self._assign(release):
            self._say(f"encoder {stage}")
        elif self._registry.version_of(release) is None:
            self._say(f"release {release} is not registered, so no version takes the stage {PRODUCTION}")
        self._journal.finish()
        return before

    def _rolled_back(self, wanted: str, active: str) -> Promotion | None:
        """Return the roll-back that this call repeats: one that was cut short, or an earlier try of the same DAG run.

        Gone back is gone back: a repeat that took the next step back would undo more than anyone asked for.
        """
        self._journal.settle(active)
        unfinished, last = self._journal.unfinished(active), self._journal.read()[-1:]
        same_run = [entry for entry in last if entry.by == self._by and self._by.startswith(AIRFLOW)]
        for entry in (*([unfinished] if unfinished else []), *same_run):
            if entry.kind == "rollback" and entry.release == active and wanted in ("", active):
                return entry
        return None

    def _repair(self, admin: AdminClient) -> list[str]:
        active = _active(admin.status())
        done = []
        if added := self._journal.settle(active):
            done.append(f"journal: {added.kind} of {added.release} by {added.by}")
        if active:
            manifest = fetch.read_manifest(self._settings.releases, active)
            with self._fleet() as fleet:
                done += [f"embed: stands for {active} at {address}" for address in self._follow(active, manifest.space, fleet)]
            if stage := self._assign(active):
                done.append(f"registry: {stage}")
        self._journal.finish()
        for line in done:
            self._say(f"repaired {line}")
        return done

    def _follow(self, release: str, space: str, fleet: TritonFleet) -> list[str]:
        """Let `embed` stand for a release on every server; return the addresses of those where it did not.

        One of several that is away must not stand in the way of a roll-back: it loads what its repository says when it starts.
        """
        if not any(server.control.ready() for server in fleet.replicas):
            fleet.require_all()

        def one(server: Replica) -> str:
            note = self._state / f"embed-{server.address.replace(':', '-')}"
            if not server.control.ready():
                point_stable_model(release, server.repository)
                note.unlink(missing_ok=True)
                self._say(f"Triton at {server.address} does not answer: it takes `embed` for {release} when it starts")
                return ""
            if switch.follows(release, space, server.repository, server.control, note):
                return ""
            switch.follow(release, space, server.repository, server.control, note)
            return server.address

        return [address for address in fleet.each(one) if address]

    def _assign(self, release: str) -> str:
        """Let the version of a release take the stage; return what was done, empty if nothing had to be."""
        entry = self._registry.version_of(release)
        if entry is None:
            # The stage is left where it is: a release that no version holds, as an untuned one, cannot take it.
            return ""
        last = next((each for each in reversed(self._journal.read()) if each.release == release), None)
        message = last.line() if last else f"release {release} is active"
        if not self._registry.assign(entry.version, message):
            return ""
        return f"{entry.version} is in stage {PRODUCTION}"

    def _retire(self, release: str, admin: AdminClient) -> bool:
        # First: the record speaks of a collection that is about to go, and another one of that name would inherit it.
        if _active(admin.status()) != release:
            forget_verification(self._state, release)
        with self._fleet() as fleet:
            done = any(fleet.each(lambda server: retire.retire(release, server.repository, admin, server.control)))
        self._say(f"release {release} {'is retired' if done else 'was not in service'}; the registry keeps its version")
        return done

    def _superseded(self, served: list[str]) -> set[str]:
        last = max((promotion.time for promotion in self._journal.read()), default="")
        found = {release: last_verification(self._state, release) for release in served}
        return {release for release, record in found.items() if record is not None and record.time < last}

    @contextmanager
    def _acting(self) -> Iterator[AdminClient]:
        with locked(self._state / "lock", _PATIENCE_SECONDS, self._by), self._online() as admin:
            yield admin

    @contextmanager
    def _online(self) -> Iterator[AdminClient]:
        with closing(AdminClient(self._settings.admin_url)) as admin:
            yield admin

    @contextmanager
    def _fleet(self) -> Iterator[TritonFleet]:
        with closing(TritonFleet.connect(self._settings)) as fleet:
            yield fleet


def choose_rollback(wanted: str, back: list[str], status: OnlineStatus) -> str:
    """Return the release to go back to. Pure.

    Args:
        wanted: one that was asked for by name, or empty.
        back: the releases that were active before, nearest first.

    Raises:
        RefusedError: there is none, or it is not served any more.
        SettingsError: the one that was asked for is active already.
    """
    if wanted and wanted == _active(status):
        raise SettingsError(f"release {wanted} is the active one already: there is nothing to roll back")
    target = wanted or next(iter(back), "")
    possible = ", ".join(_served_back(back, status)) or "none"
    if not target:
        raise RefusedError("no release was active before this one: there is nothing to roll back to")
    if wanted and wanted not in back:
        raise RefusedError(
            f"release {wanted} was not active before this one: promote it, or name one that was (still served: {possible})"
        )
    if status.collection(collection_name(target)) is None:
        why = status.refused.get(collection_name(target), "it was retired")
        raise RefusedError(
            f"release {target} was active before this one, and is not served any more ({why}): `twinline release deploy "
            f"{target}` builds it again, --to goes to another one (still served: {possible})"
        )
    return target


def _served_back(back: list[str], status: OnlineStatus) -> list[str]:
    return [release for release in back if status.collection(collection_name(release)) is not None]


def _require_healthy(release: str, status: OnlineStatus) -> None:
    listed = status.collection(collection_name(release))
    if listed is None:
        return  # refused where it is activated, with the reason
    if not listed.consumer_running:
        reasons = "; ".join(listed.faults) or "its consumer does not run"
        raise RefusedError(
            f"release {release} does not keep up with the log ({reasons}): `twinline release build {release}` starts its "
            "consumer again"
        )
    if listed.faults:
        # Its consumer tries again by itself, and so may whoever promotes.
        raise TransientError(f"release {release} does not keep up with the log now: {'; '.join(listed.faults)}")


def _active(status: OnlineStatus) -> str:
    return (status.active or "").removeprefix(_PREFIX)
