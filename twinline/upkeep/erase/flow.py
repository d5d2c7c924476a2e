"""The steps of an erasure, in order. Each is safe to repeat: the same command finishes an interrupted erasure.

1. mark      from now on publish, ingest, prepare, consumers and builds refuse the document: they ask the list
2. tombstone through the log, so that rebuilds and replays honour it
3. points    gone from every collection in service, by the consumer's own law
4. letters   out of the topic of dead letters, and noted as discarded
5. forget    its hash and its text in rejects; the stage cache
6. look      the places that still hold it: log, snapshots, working folders, releases
7. receipt   written, chained, and its hash put on the topic of erasures
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from streaming.building.snapshot import open_snapshot
from twinline.clients.erasure_list import Erasures
from twinline.clients.kafka.connect import ensure_topics
from twinline.clients.kafka.erasures import write_event
from twinline.clients.kafka.stretch import delete_before
from twinline.clients.log_identity import read_identity
from twinline.clients.online import AdminClient
from twinline.clients.release import open_release
from twinline.clients.settings import Settings
from twinline.clients.store.open import make_store
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Deletion
from twinline.contract.errors import SettingsError, TransientError
from twinline.contract.principal import Principal
from twinline.contract.release.manifest import consumer_group
from twinline.upkeep.dead_letters.purge import purge
from twinline.upkeep.erase import holders, removal
from twinline.upkeep.erase.receipt import Receipt, read_receipts, write_receipt
from twinline.upkeep.reconcile.target import open_target, releases_in_service
from twinline.upkeep.trace.reach import Reach, read_message

Say = Callable[[str], object]
_NOT_COVERED: Final = (
    "the store's files keep the bytes of removed points until it next merges its segments; the broker keeps those of expired "
    "messages until it deletes the segment; backups of this installation, and copies that others made, are not ours to see"
)


@dataclass(frozen=True, slots=True)
class Erased:
    """The outcome of an erasure. `unreached` are the collections that were not searched, with the reason."""

    receipt: Receipt
    left: int
    unreached: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Say whether every index is free of it."""
        return not self.left and not self.unreached


def erase(settings: Settings, principal: Principal, source: str, key: str, reason: str, say: Say) -> Erased:
    """Erase a document.

    Raises:
        NotAllowedError: the caller may not erase documents of this source.
        TransientError: the broker or the online process is away; the same command resumes.
        MismatchError: the list of erased documents was made under another secret, or the chain of receipts is broken.
    """
    principal.require("erase", source=source)
    Deletion(source, key).validate()
    ensure_topics(settings)
    list(read_receipts(settings.erasures))  # a broken chain raises before any change
    releases, _ = releases_in_service(settings)
    erasures = removal.mark(settings, removal.open_list(settings), principal, source, key, reason)
    token = erasures.token(source, key)
    say(f"marked as {token[:16]}: nothing takes it in from now on")
    logged = holders.messages_of(settings, source, key)
    with ExitStack() as opened:
        targets = [opened.enter_context(open_target(settings, open_release(settings, release))) for release in releases]
        tombstone = removal.send_tombstone(settings, source, key, logged, removal.stored_versions(targets, source, key))
        say(f"deletion on the log at {tombstone.partition}/{tombstone.offset}")
        removed = [removal.remove_points(target, tombstone, source, key) for target in targets]
    for one in removed:
        say(f"collection of release {one['collection']}: {one['removed']} points removed, {one['left']} left")
    letters = purge(settings, source, key, token)
    say(f"dead letters: {len(letters)} emptied and discarded")
    forgotten = removal.forget_published(settings, source, key) | removal.forget_made(settings)
    unreached = _unreached(settings)
    still = _holders(settings, source, key, logged)
    entry = erasures.find(source, key)
    collections: list[JSON] = [*removed]
    places: list[JSON] = [*letters]
    value: dict[str, JSON] = {
        "act": "erase",
        "document": token,
        "source": source,
        "reason": reason,
        "erased_at": entry.time if entry else "",
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": principal.name,
        "removed": {"collections": collections, "dead_letters": places, **forgotten},
        "tombstone": f"{settings.topic} {tombstone.partition}/{tombstone.offset}",
        "not_reached": {**unreached},
        "still_holds_it": still,
        "not_covered": _NOT_COVERED,
    }
    left = sum(int(str(one["left"])) for one in removed)
    return Erased(_sealed(settings, erasures, value), left, unreached)


def lift(settings: Settings, principal: Principal, source: str, key: str, reason: str) -> Receipt:
    """Allow a document again, and record that.

    Raises:
        NotAllowedError: the caller may not erase documents of this source.
        SettingsError: it is not erased, or no reason is given.
    """
    principal.require("erase", source=source)
    if not reason:
        raise SettingsError("--lift needs a --reason: it is written down")
    ensure_topics(settings)
    erasures = removal.lift(settings, removal.open_list(settings), principal, source, key, reason)
    value: dict[str, JSON] = {
        "act": "lift",
        "document": erasures.token(source, key),
        "source": source,
        "reason": reason,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": principal.name,
    }
    return _sealed(settings, erasures, value)


def expire_log(settings: Settings, principal: Principal, snapshot: str) -> dict[int, int]:
    """Expire the log up to a verified snapshot, once every release in service has passed it; return the log's new start.

    Raises:
        NotAllowedError: the caller may not erase documents of every tenant and source.
        SettingsError: there is no such snapshot, or it is not of this topic.
        TransientError: a consumer has not passed the snapshot yet.
    """
    from twinline.clients.kafka.standing import passed_offsets

    principal.require("erase")
    covered = open_snapshot(settings.snapshots / snapshot, read_identity(settings))
    for release in releases_in_service(settings)[0]:
        passed = passed_offsets(settings, consumer_group(release), settings.topic)
        behind = {number: end for number, end in covered.ends.items() if passed.get(number, 0) < end}
        if behind:
            raise TransientError(
                f"release {release} has not read the log up to {behind}, by partition: wait for its consumer (`twinline status`)"
            )
    delete_before(settings, settings.topic, {number: end for number, end in covered.ends.items() if end > 0})
    return dict(covered.ends)


def _unreached(settings: Settings) -> dict[str, str]:
    """Return the existing collections out of service: their consumers will delete the document once they are in service."""
    if not make_store(settings).has_one_owner:
        return {}
    with closing(AdminClient(settings.admin_url)) as admin:
        return dict(admin.status().refused)


def _holders(settings: Settings, source: str, key: str, logged: list[holders.Logged]) -> list[JSON]:
    with closing(AdminClient(settings.admin_url)) as admin:
        reach = Reach(settings, settings.project, admin, partial(read_message, settings))
        log = holders.log_holding(settings, logged)
        return [
            *([log] if log["messages"] else []),
            *holders.snapshots_holding(settings, source, key),
            *holders.workspace_holding(settings.project, source, key),
            *holders.releases_holding(reach, source, key),
        ]


def _sealed(settings: Settings, erasures: Erasures, value: Mapping[str, JSON]) -> Receipt:
    receipt = write_receipt(settings.erasures, value)
    write_event(
        settings, erasures, "receipt", str(value["document"]), sha256=receipt.sha256, number=int(str(receipt.value["number"]))
    )
    return receipt
