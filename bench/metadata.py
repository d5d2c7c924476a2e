"""Updates of metadata and tenant alone: texts that the encoder gets for them, and their rate through the whole path.

real texts ─> Kafka ─> consumer ─> Triton ─> embedded store      once
the same texts with other metadata, ten times ─> the same        the encoder gets no text, and a filter finds the new values
"""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Final

from bench.documents import read_documents
from bench.machine import machine
from bench.stream import publish_all
from bench.system import Served, served_release
from streaming.limits import ConsumerLimits
from streaming.loop import Consumer
from twinline.clients.kafka.connect import end_offsets
from twinline.clients.release import Release, open_release
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import Collection
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Document
from twinline.contract.encoder.embedding import Embedder, Embeddings
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import ContractError
from twinline.contract.release.index_settings import IndexSettings

ROUNDS: Final = 10
_FIELD: Final = "metadata.round"


class CountingEmbedder:
    """The encoder, with a count of the texts that it was given."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.texts = 0

    @property
    def space(self) -> str:
        """Return the encoder's space."""
        return self._embedder.space

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        """Return the encoder's vectors."""
        self.texts += len(texts)
        return self._embedder.embed(texts, role, token_counts)


@dataclass(frozen=True)
class Consumed:
    """Messages that a consumer handled, texts that the encoder got for them, and seconds from first write to last commit."""

    messages: int
    embedded: int
    seconds: float

    def row(self, name: str) -> dict[str, JSON]:
        """Return the row of a report."""
        rate = round(self.messages / self.seconds, 1)
        return {
            "messages": name,
            "count": self.messages,
            "embeddings_made": self.embedded,
            "seconds": round(self.seconds, 2),
            "per_second": rate,
        }


def updated(documents: Sequence[Document], number: int) -> list[Document]:
    """Return the documents of a round: title and text as they were, metadata and tenant of that round."""
    return [
        replace(document, metadata={**document.metadata, "round": number, "note": f"round {number}"}, tenant=f"tenant-{number}")
        for document in documents
    ]


def measure_metadata(workspace: Path, release: Path, *, short: bool) -> dict[str, JSON]:
    """Measure, and return one JSON object.

    Raises:
        ContractError: a filter does not find what was written.
    """
    documents = read_documents("pydocs", 50 if short else 1_000)
    with served_release(workspace / "stack", release) as system:
        opened = open_release(system.settings, system.release)
        embedder = CountingEmbedder(opened.embedder)
        info = replace(opened.info, index=IndexSettings(filters={_FIELD: "integer"}))
        counted = replace(opened, info=info, embedder=embedder)
        with closing(EdgeStore(workspace / f"store-{time.time_ns()}").create(counted.collection_name, info)) as collection:
            first = _consume(system, counted, collection, embedder, updated(documents, 0), 0)
            messages = [one for number in range(1, ROUNDS + 1) for one in updated(documents, number)]
            updates = _consume(system, counted, collection, embedder, messages, ROUNDS)
    return {
        "bench": "metadata",
        "release": system.release,
        "documents": len(documents),
        "embeddings_of_updates": updates.embedded,
        "machine": machine(),
        "rows": [first.row("documents, for the first time"), updates.row("updates of metadata and tenant")],
    }


def _consume(
    system: Served,
    release: Release,
    collection: Collection,
    embedder: CountingEmbedder,
    messages: Sequence[Document],
    last: int,
) -> Consumed:
    """Write messages to the log, consume all of them, and look whether a filter finds every chunk in the last round."""
    before, began = embedder.texts, time.perf_counter()
    publish_all(system.settings, messages)
    # Without known vectors: what was embedded once would be found there.
    consumer = Consumer(system.settings, release, collection, ConsumerLimits(vector_cache_mib=0), group="bench.metadata")
    consumer.run(Event(), until=end_offsets(system.settings, system.settings.topic))
    seconds = time.perf_counter() - began
    chunks, found = collection.count({"kind": "chunk"}), collection.count({"kind": "chunk", _FIELD: last})
    if found != chunks or consumer.state.dead_letters:
        raise ContractError(
            f"round {last}: a filter finds {found} of {chunks} chunks, and {consumer.state.dead_letters} messages were set "
            "aside: look at the consumer's log"
        )
    return Consumed(len(messages), embedder.texts - before, seconds)
