"""One query: the encoder in process against the served one, then text in, hits out, idle and while documents are indexed."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import httpx

from bench.concurrent_searches import concurrent_searches
from bench.documents import read_documents
from bench.feed import Feed, sustained_rate
from bench.in_process import InProcessEncoder
from bench.machine import machine
from bench.rounds import Work, percentiles, summary, take_turns
from bench.served_steps import read_statistics, steps_between
from bench.system import Served, make_searchable, real_words, served_release
from bench.words_cost import ask_by_mode, disk_cost, rate_cost, search_cost
from twinline.clients.store.protocol import CollectionInfo
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.contract.canonical import JSON
from twinline.contract.errors import TransientError
from twinline.contract.release.manifest import Manifest

# As long as people's queries: five to nine words. No two are equal, so that no answer comes from a cache.
_WORDS: Final = ("parse", "retry", "sort", "merge", "read", "cache", "split", "hash", "close", "lock", "join", "copy")
_THINGS: Final = ("a JSON file", "a list of tuples", "a network socket", "an email header", "a random sample", "a thread pool")
_CLIENTS: Final = (1, 4, 16)
_TIMEOUT_SECONDS: Final = 30.0
# Documents that are indexed in turn with and without words.
_RATE: Final = 300
_RATE_SHORT: Final = 40


def measure_query(workspace: Path, release: Path, *, chunks: int, short: bool) -> dict[str, JSON]:
    """Measure, and return one JSON object."""
    documents = read_documents("pydocs", 120 if short else 600)
    searches = 100 if short else 2_000
    report: dict[str, JSON] = {"bench": "query", "machine": machine()}
    with served_release(workspace / "stack", release) as system:
        before = read_statistics(system)
        report["encoder"] = encoder_latency(system, 100 if short else 1_000)
        alone = read_statistics(system)
        report["steps"] = steps_between(before, alone)
        report["throughput"] = _throughput(system, 2 if short else 5, 100 if short else 500)
        report["steps_of_several"] = steps_between(alone, read_statistics(system))
        stored = make_searchable(system, documents, chunks)
        idle = search_latency(system, searches, first=0)
        report["searches"] = concurrent_searches(system.settings.search_url, searches, question, first=20 * searches)
        words = real_words(system, documents)
        costs: list[JSON] = []
        if words:
            with httpx.Client(base_url=system.settings.search_url, timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
                costs.append(search_cost(ask_by_mode(client, question, first=30 * searches), searches // 2))
            some = documents[: _RATE_SHORT if short else _RATE]
            costs.append(rate_cost(system, some, workspace / "rate", 2 if short else 5))
        sustained = sustained_rate(system, documents[: len(documents) // 2], "rate")
        with Feed(system, documents, sustained / 2) as feed:
            # New questions: search caches the vectors of earlier ones for a while.
            busy = search_latency(system, searches, first=10 * searches)
        rows: list[JSON] = [
            {"while": "idle", "chunks": stored, **idle},
            {"while": f"indexing {feed.sent_per_second:.1f} documents a second", "chunks": stored, **busy},
        ]
        report |= {"rows": rows, "sustained_documents_per_second": round(sustained, 1), "fed": feed.report()}
    if words:
        costs.append(disk_cost(workspace / "disk", CollectionInfo.of(Manifest.load(release)), words, chunks))
        report["words"] = costs
    return report


def encoder_latency(system: Served, count: int) -> list[JSON]:
    """Return rows of one query at a time: in process and through Triton, turn by turn; tokenisation is in both."""
    local = InProcessEncoder.load(system.settings.releases / system.release)
    with TritonEmbedder(system.settings.triton_grpc_address, system.release, system.manifest.space) as served:
        ways: dict[str, Callable[[str], object]] = {
            "in process": lambda text: local.embed([text], "query"),
            "through Triton": lambda text: served.embed([text], "query"),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(-20, count):
            for name in sorted(ways, reverse=number % 2 == 0):
                started = time.perf_counter()
                ways[name](question(number))
                if number >= 0:
                    times[name].append((time.perf_counter() - started) * 1000)
    added = median(b - a for a, b in zip(times["in process"], times["through Triton"], strict=True))
    rows: list[JSON] = [{"encoder": name, **percentiles(found, 50, 95, 99)} for name, found in times.items()]
    return [*rows, {"encoder": "added by Triton, median of pairs", "p50_ms": round(added, 3)}]


@dataclass
class Clients:
    """Several clients, each asking one query after the other."""

    system: Served
    clients: int
    count: int
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"{self.clients} clients"

    def turn(self) -> Work:
        """Ask `count` queries between them."""
        manifest, settings = self.system.manifest, self.system.settings
        with TritonEmbedder(settings.triton_grpc_address, self.system.release, manifest.space) as embedder:
            embedder.check()
            with ThreadPoolExecutor(self.clients) as pool:
                started = time.perf_counter()
                list(pool.map(lambda number: embedder.embed([question(number)], "query"), range(self.count)))
                return Work(self.count, time.perf_counter() - started)


def _throughput(system: Served, rounds: int, count: int) -> list[JSON]:
    done = take_turns([Clients(system, clients, count) for clients in _CLIENTS], rounds)
    return [*summary(done, f"{_CLIENTS[0]} clients", "queries")]


def search_latency(system: Served, count: int, first: int) -> dict[str, float]:
    """Return percentiles of searches over HTTP, one at a time, text in and hits out, from question `first` on."""
    times = []
    with httpx.Client(base_url=system.settings.search_url, timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
        for number in range(-10, count):
            started = time.perf_counter()
            response = client.post("/v1/search", json={"query": question(first + number), "limit": 10})
            spent = (time.perf_counter() - started) * 1000
            if not response.is_success or not response.json()["hits"]:
                raise TransientError(f"a search was answered with {response.status_code}: {response.text[:200]}")
            if number >= 0:
                times.append(spent)
    return percentiles(times, 50, 95, 99)


def question(number: int) -> str:
    """Return the query of a number; no two numbers share one."""
    return f"how do I {_WORDS[number % len(_WORDS)]} {_THINGS[number % len(_THINGS)]} in step {number}"
