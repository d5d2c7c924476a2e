"""Documents created, updated and deleted without a pause, a ledger of acknowledged messages, and the account of losses."""

import inspect
import random
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final, Self
from uuid import UUID

from proofs.switch.checks import ReadsPoints
from twinline.clients.kafka.connect import kafka_errors, make_producer
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import Head, stored_version
from twinline.contract.canonical import JSON
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import Deletion, Document, Version, encode_key, encode_value, version_header

SOURCE: Final = "switch"
_CONFIRM_SECONDS: Final = 60
_NAMED: Final = 5


def real_texts(*modules: ModuleType) -> list[str]:
    """Return the docstrings of some modules' functions and classes, always in the same order."""
    found: dict[str, None] = {}
    for module in modules:
        for _, thing in sorted(inspect.getmembers(module, lambda one: inspect.isfunction(one) or inspect.isclass(one))):
            text = inspect.getdoc(thing) or ""
            if len(text.split()) >= 8:
                found[text[:600]] = None
    return list(found)


@dataclass
class Ledger:
    """The newest acknowledged version of each key, and whether it is a deletion."""

    versions: dict[str, int] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    creates: int = 0
    updates: int = 0
    deletes: int = 0

    def counts(self) -> dict[str, JSON]:
        """Return the counts of published messages."""
        return {"creates": self.creates, "updates": self.updates, "deletes": self.deletes}


class Publisher:
    """Writes to the log at a steady rate, in a thread of its own, while a block runs."""

    def __init__(self, settings: Settings, texts: Sequence[str], per_second: float, seed: int = 11) -> None:
        self.ledger = Ledger()
        self._settings = settings
        self._texts = texts
        self._pause = 1 / per_second
        self._random = random.Random(seed)  # noqa: S311  (no secret)
        self._stop = threading.Event()
        self._broken: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop, and raise the error that stopped the thread."""
        self._stop.set()
        self._thread.join(_CONFIRM_SECONDS + 5)
        if self._broken:
            raise self._broken[0]

    def _run(self) -> None:
        try:
            with closing(make_producer(self._settings)) as producer:
                due = time.monotonic()
                while not self._stop.wait(max(0.0, due - time.monotonic())):
                    due = max(due + self._pause, time.monotonic())
                    self._publish_one(producer)
        except BaseException as error:
            self._broken.append(error)
            raise

    def _publish_one(self, producer: Any) -> None:
        ledger, chance = self.ledger, self._random.random()
        alive = sorted(ledger.versions.keys() - ledger.deleted)
        if alive and chance < 0.15:
            item: Document | Deletion = self._deletion(self._random.choice(alive))
        elif ledger.versions and chance < 0.5:
            # Among all keys, so that deleted documents come back.
            item = self._document(self._random.choice(sorted(ledger.versions)))
        else:
            item = self._document(f"note-{len(ledger.versions)}")
        value = encode_value(item) if isinstance(item, Document) else None
        headers = version_header(item) if isinstance(item, Deletion) else []
        with kafka_errors(self._settings):
            sent = producer.send(self._settings.topic, key=encode_key(item.source, item.key), value=value, headers=headers)
            sent.get(timeout=_CONFIRM_SECONDS)
        self._note(item)

    def _document(self, key: str) -> Document:
        version = self.ledger.versions.get(key, 0) + 1
        # One text or several, so that documents grow and shrink, in chunks too.
        text = "\n\n".join(self._random.sample(self._texts, self._random.randint(1, 3)))
        return Document(SOURCE, key, f"{key}, edition {version}. {text}", f"Note {key}", version)

    def _deletion(self, key: str) -> Deletion:
        return Deletion(SOURCE, key, self.ledger.versions[key] + 1)

    def _note(self, item: Document | Deletion) -> None:
        ledger = self.ledger
        if isinstance(item, Deletion):
            ledger.deletes += 1
            ledger.deleted.add(item.key)
        else:
            ledger.creates += item.key not in ledger.versions
            ledger.updates += item.key in ledger.versions
            ledger.deleted.discard(item.key)
        ledger.versions[item.key] = item.version or 0


@dataclass
class Account:
    """Differences of a collection from the log: missing documents, and documents in another state."""

    missing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    def named(self) -> list[JSON]:
        """Return some of them."""
        return [*self.missing[:_NAMED], *self.stale[:_NAMED]]


def account(ledger: Ledger, collection: str, points: ReadsPoints) -> Account:
    """Compare a caught-up collection with the ledger: every document complete and in its last version, or gone."""
    result = Account()
    found = points.read_points(collection, [head_id(SOURCE, key) for key in ledger.versions])
    heads = {id_: Head.from_payload(point.payload) for id_, point in found.items()}
    # One beyond the last: a chunk there is left over from a longer version.
    wanted = {
        point_id(SOURCE, head.key, index): (head, index) for head in heads.values() for index in range(head.chunk_count + 1)
    }
    chunks = points.read_points(collection, list(wanted))
    for key, number in ledger.versions.items():
        head = heads.get(head_id(SOURCE, key))
        if head is None:
            result.missing.append(f"{collection}: {key} was never seen")
        elif head.version != Version("explicit", number) or head.deleted != (key in ledger.deleted):
            state = f"version {head.version.number}{', deleted' if head.deleted else ''}"
            result.stale.append(f"{collection}: {key} is there in {state}, the log has version {number}")
    for id_, (head, index) in wanted.items():
        _chunk(id_, head, index, chunks, collection, result)
    return result


def _chunk(id_: UUID, head: Head, index: int, chunks: Mapping[UUID, Any], collection: str, result: Account) -> None:
    place = f"{collection}: {head.key} chunk {index}"
    if index == head.chunk_count:
        if id_ in chunks:
            result.stale.append(f"{place} is left over")
    elif id_ not in chunks:
        result.missing.append(f"{place} is not there")
    elif stored_version(chunks[id_].payload) != head.version:
        result.stale.append(f"{place} is of another version than its document")
