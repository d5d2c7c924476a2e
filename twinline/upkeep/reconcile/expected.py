"""The expected state of every document: the snapshot of the log's expired part, then the log, folded as a consumer does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from streaming.building.snapshot import TopicSnapshot, open_snapshot
from streaming.decode import Message, Order, decode
from streaming.log_reader import message_of
from twinline.clients.erasure_list import Erasures
from twinline.clients.kafka.connect import beginning_offsets
from twinline.clients.kafka.stretch import read_topic
from twinline.clients.log_identity import read_identity
from twinline.clients.settings import Settings
from twinline.contract.documents.records import Document
from twinline.contract.errors import ContractError, DocumentError, SettingsError
from twinline.upkeep.dead_letters.entries import read_letters
from twinline.upkeep.reconcile.ledger import Ledger

_RECORD = "snapshot.json"


@dataclass(frozen=True, slots=True)
class Folded:
    """The inputs of a fold: its end offsets, its snapshot if any, and the number of messages left out as erased."""

    ends: Mapping[int, int]
    snapshot: str = ""
    erased: int = 0


def fold(settings: Settings, ledger: Ledger, release: str, ends: Mapping[int, int], erasures: Erasures, snapshot: str) -> Folded:
    """Fill a ledger with the expected content of an index.

    Args:
        release: the release whose dead letters explain gaps in its index.
        ends: where to stop, by partition.
        snapshot: the id of the first input; empty: the newest snapshot that covers the log's expired part, if there is any.

    Raises:
        SettingsError: the log has lost messages that no snapshot here covers.
    """
    aside = {
        (letter.message.partition, letter.message.offset) for _, letter in read_letters(settings) if letter.release == release
    }
    begins = beginning_offsets(settings, settings.topic)
    start = find_snapshot(settings, begins, snapshot)
    erased = 0
    if start is not None:
        erased += _fold(start.messages(), ledger, aside, erasures, settings.topic_order)
    records = read_topic(settings, settings.topic, begins, ends)
    erased += _fold(map(message_of, records), ledger, aside, erasures, settings.topic_order)
    return Folded(ends, start.folder.name if start else "", erased)


def find_snapshot(settings: Settings, begins: Mapping[int, int], wanted: str = "") -> TopicSnapshot | None:
    """Return the first input of a fold: the named snapshot, or the newest that covers the log's expired part.

    None where nothing has expired and none is named.

    Raises:
        SettingsError: there is no such snapshot, or none covers the expired part.
    """
    lost = {number: begin for number, begin in begins.items() if begin > 0}
    if not wanted and not lost:
        return None
    folders = [settings.snapshots / wanted] if wanted else _newest_first(settings.snapshots)
    refused: list[str] = []
    log = read_identity(settings)
    for folder in folders:
        try:
            found = open_snapshot(folder, log)
        except (ContractError, SettingsError) as exc:
            if wanted:
                raise
            refused.append(str(exc))
            continue
        gaps = {number: begin for number, begin in lost.items() if found.ends.get(number, 0) < begin}
        if not gaps:
            return found
        refused.append(f"{folder.name} ends before what the log still has, in partitions {sorted(gaps)}")
    raise SettingsError(
        f"topic {settings.topic} has lost what came before the offsets {lost}, and no snapshot in {settings.snapshots} covers it "
        f"({'; '.join(refused[:3]) or 'there is none'}): take snapshots (python -m etl ingest --source kafka: --store) before "
        "the topic expires anything"
    )


def _newest_first(store: Path) -> list[Path]:
    found = [path.parent for path in store.glob(f"s*/{_RECORD}")]
    return sorted(found, key=lambda folder: -(folder / _RECORD).stat().st_mtime)


def _fold(messages: Iterable[Message], ledger: Ledger, aside: set[tuple[int, int]], erasures: Erasures, order: Order) -> int:
    erased = 0
    for message in messages:
        try:
            event = decode(message, order)
            if (
                isinstance(event.item, Document)
                and erasures.verdict(event.item.source, event.item.key, message.timestamp_ms) != "free"
            ):
                erased += 1
            elif (message.partition, message.offset) in aside:
                ledger.set_aside(event)
            else:
                ledger.take(event)
        except DocumentError:
            continue  # in the dead letters: never a state of a document
    return erased
