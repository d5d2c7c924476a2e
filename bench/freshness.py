"""Produced to searchable: how long after its last byte went to the broker a search finds a document, idle and at half load."""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from bench.documents import read_documents
from bench.feed import Feed, sustained_rate
from bench.machine import machine
from bench.rounds import percentiles
from bench.system import Served, make_searchable, served_release
from clients.kafka import kafka_errors, make_producer
from contract.canonical import JSON
from contract.errors import TransientError
from contract.records import Document, encode_key, encode_value

SOURCE: Final = "probe"
_PATIENCE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.005
_PAUSE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Probe:
    """Milliseconds until the broker had acknowledged a document, and until a search found it; both from before it was sent."""

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
    rows: list[JSON] = [
        {"while": "idle", **_row(idle)},
        {"while": f"indexing {feed.sent_per_second:.1f} documents a second", **_row(busy)},
    ]
    return {
        "bench": "freshness",
        "machine": machine(),
        "sustained_documents_per_second": round(sustained, 1),
        "fed": feed.report(),
        "rows": rows,
    }


def _row(probes: list[Probe]) -> dict[str, JSON]:
    acknowledged = percentiles([probe.acknowledged_ms for probe in probes], 50)
    return {
        "documents": len(probes),
        **percentiles([probe.found_ms for probe in probes], 50, 95, 99),
        "acknowledged_p50_ms": acknowledged["p50_ms"],
    }


def _probe(system: Served, count: int, name: str) -> list[Probe]:
    """Publish documents one after the other; each is looked for by a search until it is the hit."""
    settings, found = system.settings, []
    with (
        kafka_errors(settings),
        closing(make_producer(settings, linger_ms=0)) as producer,
        httpx.Client(base_url=settings.search_url, timeout=_PATIENCE_SECONDS, trust_env=False) as client,
    ):
        for number in range(count):
            key = f"{name}-{number}"
            text = f"Ferry number {number} left the {name} harbour with a load of quinces and reached the island before noon."
            document = Document(SOURCE, key, text, title=f"Ferry {key}")
            started = time.perf_counter()
            producer.send(settings.topic, key=encode_key(SOURCE, key), value=encode_value(document)).get(
                timeout=_PATIENCE_SECONDS
            )
            acknowledged = time.perf_counter()
            while not _is_found(client, key, text):
                if time.perf_counter() - started > _PATIENCE_SECONDS:
                    raise TransientError(f"[{SOURCE}, {key}] was not found within {_PATIENCE_SECONDS} s: see the stack's logs")
                time.sleep(_POLL_SECONDS)
            found.append(Probe((acknowledged - started) * 1000, (time.perf_counter() - started) * 1000))
            time.sleep(_PAUSE_SECONDS)
    return found


def _is_found(client: httpx.Client, key: str, text: str) -> bool:
    response = client.post("/v1/search", json={"query": text, "limit": 20, "source": SOURCE})
    response.raise_for_status()
    return any(hit["key"] == key for hit in response.json()["hits"])
