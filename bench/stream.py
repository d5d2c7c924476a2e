"""The whole streaming path as a contender, and the naive loop."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any, Final
from uuid import uuid4

from bench.machine import cores
from bench.rounds import Work
from streaming.limits import ConsumerLimits
from streaming.loop import Consumer
from twinline.clients.base_model import DEFAULT_BASE_MODEL, resolve_base_model
from twinline.clients.kafka.connect import (
    beginning_offsets,
    end_offsets,
    ensure_topics,
    kafka_errors,
    make_consumer,
    make_producer,
)
from twinline.clients.release import open_release
from twinline.clients.settings import Settings
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import StoredPoint
from twinline.clients.store.vectors import DENSE, one_dense
from twinline.contract.documents.ids import point_id
from twinline.contract.documents.records import Document, decode_message, encode_key, encode_value
from twinline.contract.errors import ContractError, TransientError
from twinline.contract.sparse.fusion import Fusion

NAME: Final = "streaming path (Kafka, chunks, Triton, Edge, durable)"
WITHOUT_WORDS: Final = f"{NAME}, without words"
NAIVE: Final = "naive consumer (poll, encode one, upsert one, commit)"
_PATIENCE_SECONDS: Final = 30.0


def publish_all(settings: Settings, documents: Sequence[Document]) -> None:
    """Write documents to the settings' topic and wait until the broker has all of them."""
    ensure_topics(settings)
    with kafka_errors(settings), closing(make_producer(settings)) as producer:
        for document in documents:
            producer.send(settings.topic, key=encode_key(document.source, document.key), value=encode_value(document))
        producer.flush()


@dataclass
class StreamingPath:
    """Each turn consumes the whole topic into a new collection, by a new group, until all is durable and committed.

    Attributes:
        chunks: expected number of stored chunks; with fewer the turn fails.
        words: whether they are written beside the vectors, where the release has them.
    """

    settings: Settings
    release: str
    folder: Path
    documents: int
    chunks: int = 0
    words: bool = True

    @property
    def name(self) -> str:
        """Return the name in tables."""
        return NAME if self.words else WITHOUT_WORDS

    def turn(self) -> Work:
        """Consume everything once. The time counts from the end of the first batch on, without joining the group."""
        release = open_release(self.settings, self.release)
        if not self.words:
            info = replace(release.info, vectors=one_dense(release.info.dimension))
            release = replace(release, info=info, words=None, fusion=Fusion("dense"))
        release.embedder.embed(["warm"], "document")
        store = EdgeStore(self.folder / uuid4().hex[:8])
        until = end_offsets(self.settings, self.settings.topic)
        start = beginning_offsets(self.settings, self.settings.topic)
        collection = store.create(release.collection_name, release.info)
        marks: list[tuple[float, int]] = []

        with closing(collection):
            group = f"bench.{uuid4().hex[:8]}"
            limits = ConsumerLimits(
                max_messages=min(ConsumerLimits().max_messages, max(1, self.documents // 4)),
                # Every turn embeds the same texts.
                vector_cache_mib=0,
            )
            consumer = Consumer(self.settings, release, collection, limits, group=group)
            consumer.run(Event(), start, until, lambda size: marks.append((time.perf_counter(), size)))
            # The time includes the last flush and commit.
            ended = time.perf_counter()
            self.chunks = consumer.state.chunks_embedded
            stored = collection.count({"kind": "chunk"})
            if consumer.state.handled < self.documents or stored != self.chunks or consumer.state.dead_letters:
                raise TransientError(
                    f"the streaming path handled {consumer.state.handled} of {self.documents} documents, stored {stored} of "
                    f"{self.chunks} chunks, set {consumer.state.dead_letters} aside: look at the consumer's log"
                )
        first = next((place for place, (_, size) in enumerate(marks) if size), 0)
        began, size = marks[first]
        return Work(self.documents - size, ended - began)


@dataclass
class NaiveConsumer:
    """One message at a time: encoded whole and cut off by sentence-transformers, upserted, committed.

    It encodes less than ours: one vector a document of any length.
    """

    settings: Settings
    release: str
    folder: Path
    documents: int
    name: str = field(default=NAIVE, init=False)

    def turn(self) -> Work:
        """Consume the first `documents` messages of the topic."""
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(cores())
        model = SentenceTransformer(str(resolve_base_model(DEFAULT_BASE_MODEL)), device="cpu")
        model.encode("warm")
        release = open_release(self.settings, self.release)
        # It knows no words.
        info = replace(release.info, vectors=one_dense(release.info.dimension))
        collection = EdgeStore(self.folder / uuid4().hex[:8]).create(release.collection_name, info)
        done, began = 0, 0.0
        with closing(collection), kafka_errors(self.settings):
            consumer = make_consumer(self.settings, f"naive.{uuid4().hex[:8]}", max_poll_records=1)
            consumer.subscribe([self.settings.topic])
            give_up = time.perf_counter() + _PATIENCE_SECONDS
            while done < self.documents:
                if time.perf_counter() > give_up:
                    raise TransientError(f"the naive consumer got {done} of {self.documents} messages from {self.settings.topic}")
                for records in consumer.poll(200).values():
                    for record in records:
                        began = began or time.perf_counter()
                        document = decode_message(record.key, record.value, record.headers)
                        if not isinstance(document, Document):
                            raise ContractError(f"{self.settings.topic} holds a deletion: the bench publishes documents only")
                        vector = model.encode(f"{document.title} {document.text}", normalize_embeddings=True)
                        payload = {"kind": "chunk", "source": document.source, "key": document.key, "text": document.text}
                        collection.put_points([_point(document, payload, vector)])
                        collection.flush()
                        consumer.commit()
                        done += 1
                        give_up = time.perf_counter() + _PATIENCE_SECONDS
            seconds = time.perf_counter() - began
            consumer.close()
        return Work(done, seconds)


def _point(document: Document, payload: dict[str, Any], vector: Any) -> StoredPoint:
    version = {"version": 0, "version_kind": "explicit", "version_offset": 0}
    return StoredPoint(point_id(document.source, document.key, 0), {**payload, **version}, {DENSE: vector})
