"""Searches over HTTP by several clients at a steady rate, with a record of each answer."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from queue import SimpleQueue
from typing import Any, Final, Self

import httpx
import numpy as np

from proofs.answers import words_alone
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Version

_TIMEOUT_SECONDS: Final = 30.0
_LIMIT: Final = 5


@dataclass(frozen=True, slots=True)
class HitSeen:
    """One hit of an answer."""

    point: str
    source: str
    key: str
    chunk_index: int
    version: Version
    release: str
    space: str
    contract: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One search: time of sending, phase, duration, and answer; `problem` is empty for an answer."""

    sent_at: float
    phase: str
    milliseconds: float
    problem: str
    release: str = ""
    space: str = ""
    collection: str = ""
    hits: tuple[HitSeen, ...] = ()


class Searchers:
    """Clients in threads of their own while a block runs.

    Args:
        url: of the search API.
        queries: asked in turn.
        clients: number of clients at once.
        per_second: searches of all clients together; after a late answer a client sends the next one at once.
    """

    def __init__(self, url: str, queries: Sequence[str], clients: int, per_second: float) -> None:
        self.phase = "before"
        self.asked: list[Asked] = []
        self.answers: SimpleQueue[Asked] = SimpleQueue()
        self._url = url
        self._queries = queries
        self._pause = clients / per_second
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(clients)]
        self._broken: list[BaseException] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop, and raise the error that stopped a client."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_SECONDS + 5)
        if self._broken:
            raise self._broken[0]

    def _run(self, number: int) -> None:
        try:
            with httpx.Client(base_url=self._url, timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
                # The clients' turns are spread over the pause, so that they do not all search at once.
                due = time.monotonic() + self._pause * number / len(self._threads)
                turn = number
                while not self._stop.wait(max(0.0, due - time.monotonic())):
                    due = max(due + self._pause, time.monotonic())
                    self._ask(client, self._queries[turn % len(self._queries)])
                    turn += len(self._threads)
        except BaseException as error:
            self._broken.append(error)
            raise

    def _ask(self, client: httpx.Client, query: str) -> None:
        phase, sent_at, started = self.phase, time.time(), time.perf_counter()
        try:
            response = client.post("/v1/search", json={"query": query, "limit": _LIMIT, "group": False})
            taken = (time.perf_counter() - started) * 1000
            problem = _problem(response)
            found = Asked(sent_at, phase, taken, problem, **(_read(response.json()) if not problem else {}))
        except httpx.HTTPError as error:
            found = Asked(sent_at, phase, (time.perf_counter() - started) * 1000, f"{type(error).__name__}: {error}")
        self.asked.append(found)
        if not found.problem:
            self.answers.put(found)


def _problem(response: httpx.Response) -> str:
    """Return why an answer does not count; empty for one that does."""
    return words_alone(response.json()) if response.is_success else f"{response.status_code}: {response.text[:300]}"


def _read(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "release": answer["release"],
        "space": answer["space"],
        "collection": answer["collection"],
        "hits": tuple(_hit(hit) for hit in answer["hits"]),
    }


def _hit(hit: Mapping[str, Any]) -> HitSeen:
    lineage = hit["lineage"]
    version = Version(**hit["version"])
    place = (hit["point"], hit["source"], hit["key"], hit["chunk"]["index"])
    return HitSeen(*place, version, lineage["release"], lineage["space"], lineage["contract"])


def latencies(asked: Sequence[Asked]) -> dict[str, JSON]:
    """Return count and percentiles of the answers' times, in milliseconds."""
    taken = [one.milliseconds for one in asked if not one.problem]
    if not taken:
        return {"answers": 0}
    p50, p95, p99 = (round(float(value), 1) for value in np.percentile(taken, [50, 95, 99]))
    return {"answers": len(taken), "p50": p50, "p95": p95, "p99": p99, "max": round(max(taken), 1)}


def longest_gap_seconds(asked: Sequence[Asked], since: float = 0.0) -> float:
    """Return the longest time without an answered search, from the first search on."""
    sent = sorted(one.sent_at for one in asked if one.sent_at >= since)
    ends = sorted(one.sent_at + one.milliseconds / 1000 for one in asked if not one.problem and one.sent_at >= since)
    if not ends:
        return round(sent[-1] - sent[0], 3) if sent else 0.0
    edges = [sent[0], *ends, max(sent[-1], ends[-1])]
    return round(max(after - before for before, after in pairwise(edges)), 3)


def wait_until(holds: Callable[[], bool], limit_seconds: float, pause_seconds: float = 0.2) -> bool:
    """Wait until a condition holds; return whether it did in time."""
    give_up = time.monotonic() + limit_seconds
    while not holds():
        if time.monotonic() > give_up:
            return False
        time.sleep(pause_seconds)
    return True
