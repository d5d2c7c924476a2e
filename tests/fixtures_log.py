"""A topic of its own on a real broker, a real embedded collection, and a fake encoder whose vectors can be foretold."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

from streaming.dead_letters import DeadLetter
from streaming.limits import ConsumerLimits
from streaming.loop import Consumer
from streaming.opening import open_indexer
from tests.fixtures_streaming import GOLDEN, FakeEmbedder, info_of
from twinline.clients.kafka.connect import committed_offsets, end_offsets, ensure_topics, kafka_errors, make_producer
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import OWN_KINDS, Collection, StoredPoint
from twinline.contract.documents.records import Deletion, Document, encode_key, encode_value, version_header
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.upkeep.dead_letters.entries import read_letters
from twinline.upkeep.reconcile.measure import Comparison, Reconciliation
from twinline.upkeep.reconcile.repair import repair
from twinline.upkeep.reconcile.target import Direct, Target

LIMITS = ConsumerLimits(longest_wait_seconds=0.5, commit_interval_seconds=0.0)


def set_aside(settings: Settings) -> list[DeadLetter]:
    """Return every dead letter, in the order in which they were set aside."""
    return [letter for _, letter in read_letters(settings)]


@dataclass
class Keeping:
    """One release's collection, filled from a topic when a test says so."""

    settings: Settings
    release: Release
    store: EdgeStore
    collection: Collection
    opened: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Let go of everything."""
        self.opened.close()
        self.collection.close()

    @classmethod
    def start(
        cls, broker: str, home: Path, preprocessor: Preprocessor, make_topic: Callable[[Settings], object] = lambda settings: None
    ) -> "Keeping":
        settings = Settings(kafka_bootstrap=broker, topic=f"documents-{uuid4().hex[:8]}", home=home)
        make_topic(settings)
        ensure_topics(settings)
        release = Release(info_of(preprocessor, f"r{uuid4().hex[:12]}"), preprocessor, FakeEmbedder(), GOLDEN)
        store = EdgeStore(home / "store")
        return cls(settings, release, store, store.create(release.collection_name, release.info))

    def publish(self, *items: Document | Deletion | tuple[bytes | None, bytes | None], headers: Sequence[Any] = ()) -> None:
        """Put documents, deletions and raw messages on the topic."""
        producer = make_producer(self.settings)
        with closing(producer), kafka_errors(self.settings):
            for item in items:
                key, value = item if isinstance(item, tuple) else (encode_key(item.source, item.key), None)
                own = [*headers]
                if isinstance(item, Document):
                    value = encode_value(item)
                elif isinstance(item, Deletion):
                    own += version_header(item)
                producer.send(self.settings.topic, key=key, value=value, headers=own).get(timeout=30)

    def consume(self) -> Consumer:
        """Let a consumer handle and commit all that the topic has now."""
        consumer = Consumer(self.settings, self.release, self.collection, LIMITS)
        consumer.run(Event(), until=end_offsets(self.settings, self.settings.topic))
        return consumer

    def target(self) -> Target:
        """Return the collection as reconciliation sees it."""
        indexer = self.opened.enter_context(open_indexer(self.settings, self.release, self.collection, LIMITS))

        def committed() -> dict[int, int]:
            return committed_offsets(self.settings, self.release.group, self.settings.topic)

        index, release = Direct(self.collection, indexer), self.release
        return Target(release.info.release, release.info, release.preprocessor, index, committed, release.words)

    def compare(self, snapshot: str = "") -> Comparison:
        """Compare log and index."""
        with Reconciliation(self.settings, self.target(), snapshot) as reconciliation:
            return reconciliation.compare(patience_seconds=10)

    def repair(self) -> Comparison:
        """Repair the differences of a comparison; return the comparison afterwards."""
        target = self.target()
        with Reconciliation(self.settings, target) as reconciliation:
            reconciliation.compare(patience_seconds=10)
            repair(reconciliation.findings(), reconciliation.ledger, target.index)
        return self.compare()

    def points(self, collection: Collection | None = None) -> dict[Any, StoredPoint]:
        """Return every point but the golden ones, with vectors."""
        points, following = (collection or self.collection).scroll(None, limit=10_000, with_vectors=True)
        assert following is None
        return {point.id: point for point in points if point.payload.get("kind") not in OWN_KINDS}

    def texts(self) -> dict[str, list[str]]:
        """Return the stored texts by key, in order."""
        found: dict[str, list[str]] = {}
        chunks = [point.payload for point in self.points().values() if point.payload["kind"] == "chunk"]
        for payload in sorted(chunks, key=lambda payload: (payload["key"], payload["chunk_index"])):
            found.setdefault(payload["key"], []).append(payload["text"])
        return found
