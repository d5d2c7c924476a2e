"""Produced to searchable: the time from a document's last byte to the broker until a search finds it.

Measured idle, at half of the sustained rate, and behind one very large document.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Final

import httpx

from bench.documents import read_documents
from bench.feed import Feed, sustained_rate
from bench.machine import machine
from bench.rounds import percentiles
from bench.stream import publish_all
from bench.system import Served, make_searchable, served_release
from twinline.clients.kafka.connect import kafka_errors, make_producer
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Document, encode_key, encode_value
from twinline.contract.errors import TransientError

SOURCE: Final = "probe"
_PATIENCE_SECONDS: Final = 60.0
# The pause between two searches, part of the measured time. A searcher without pauses would take a core from the system.
_POLL_SECONDS: Final = 0.02
_PAUSE_SECONDS: Final = 0.2
# Some two hundred chunks.
_LARGE_CHARACTERS: Final = 200_000
_BOOKS: Final = "books"
_MOST_BEHIND: Final = 50


@dataclass(frozen=True, slots=True)
class Probe:
    """Milliseconds until the broker acknowledged a document, and until a search found it; both from before the sending."""

    acknowledged_ms: float
    found_ms: float


def measure_freshness(workspace: Path, release: Path, *, short: bool) -> dict[str, JSON]:
    """Measure, and return one JSON object."""
    documents = read_documents("pydocs", 120 if short else 600)
    probes = 10 if short else 200
    with served_release(workspace / "stack", release) as system:
        make_searchable(system, documents, 0 if short else 10_000)
        idle = _probe(system, probes, "idle")
        sustained = sustained_rate(system, documents[: len(documents) // 2], "rate")
        with Feed(system, documents, sustained / 2) as feed:
            busy = _probe(system, probes, "busy")
        behind, large_seconds = _behind_a_large_one(system, documents)
    rows: list[JSON] = [
        {"while": "idle", **_row(idle)},
        {"while": f"indexing {feed.sent_per_second:.1f} documents a second", **_row(busy)},
        {"while": f"a document of {_LARGE_CHARACTERS} characters is indexed", **_row(behind)},
    ]
    return {
        "bench": "freshness",
        "machine": machine(),
        "sustained_documents_per_second": round(sustained, 1),
        "fed": feed.report(),
        "large_document_seconds": round(large_seconds, 1),
        "rows": rows,
    }


def _behind_a_large_one(system: Served, documents: Sequence[Document]) -> tuple[list[Probe], float]:
    """Probe while one document as large as a book is indexed; return the probes, and the seconds of the indexing."""
    pages: list[str] = []
    for number, document in enumerate(cycle(documents)):
        # Numbered, so that every chunk is new.
        pages.append(f"Page {number} of the book. {document.text}")
        if sum(map(len, pages)) >= _LARGE_CHARACTERS:
            break
    book = Document(_BOOKS, "book", "\n\n".join(pages), title="A book")
    publish_all(system.settings, [book])
    started = time.perf_counter()
    with httpx.Client(base_url=system.settings.search_url, timeout=_PATIENCE_SECONDS, trust_env=False) as client:

        def is_over() -> bool:
            return _is_found(client, book.source, book.key, pages[0])

        probes = _probe(system, _MOST_BEHIND, "behind", is_over)
        while not is_over():
            if time.perf_counter() - started > 10 * _PATIENCE_SECONDS:
                raise TransientError(f"[{book.source}, {book.key}] was not indexed: see the stack's logs")
            time.sleep(_PAUSE_SECONDS)
    return probes, time.perf_counter() - started


def _row(probes: list[Probe]) -> dict[str, JSON]:
    if not probes:
        # Over before the first probe: the encoder is quick, and the book is small for it.
        return {"documents": 0}
    acknowledged = percentiles([probe.acknowledged_ms for probe in probes], 50)
    return {
        "documents": len(probes),
        **percentiles([probe.found_ms for probe in probes], 50, 95, 99),
        "acknowledged_p50_ms": acknowledged["p50_ms"],
    }


def _probe(system: Served, count: int, name: str, is_over: Callable[[], bool] = lambda: False) -> list[Probe]:
    """Publish documents one after the other, until it is over; search for each until it is the hit."""
    settings, found = system.settings, []
    with (
        kafka_errors(settings),
        closing(make_producer(settings, linger_ms=0)) as producer,
        httpx.Client(base_url=settings.search_url, timeout=_PATIENCE_SECONDS, trust_env=False) as client,
    ):
        for number in range(count):
            if is_over():
                break
            key = f"{name}-{number}"
            text = f"Ferry number {number} left the {name} harbour with a load of quinces and reached the island before noon."
            document = Document(SOURCE, key, text, title=f"Ferry {key}")
            started = time.perf_counter()
            producer.send(settings.topic, key=encode_key(SOURCE, key), value=encode_value(document)).get(
                timeout=_PATIENCE_SECONDS
            )
            acknowledged = time.perf_counter()
            while not _is_found(client, SOURCE, key, text):
                if time.perf_counter() - started > _PATIENCE_SECONDS:
                    raise TransientError(f"[{SOURCE}, {key}] was not found within {_PATIENCE_SECONDS} s: see the stack's logs")
                time.sleep(_POLL_SECONDS)
            found.append(Probe((acknowledged - started) * 1000, (time.perf_counter() - started) * 1000))
            time.sleep(_PAUSE_SECONDS)
    return found


def _is_found(client: httpx.Client, source: str, key: str, text: str) -> bool:
    response = client.post("/v1/search", json={"query": text, "limit": 20, "source": source, "group": False})
    response.raise_for_status()
    return any(hit["key"] == key for hit in response.json()["hits"])
