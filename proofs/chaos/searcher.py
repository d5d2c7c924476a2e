"""A searcher during the run: it counts missing and wrong answers.

A right answer comes from the one release, has no document with a committed deletion, and has the documents that always exist.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx

from proofs.answers import words_alone
from proofs.chaos.law import Name
from proofs.chaos.messages import PINNED, PINNED_KEYS

_PAUSE_SECONDS = 0.15
_LIMIT_SECONDS = 15.0
_MOST_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its times, and whether it was answered."""

    began: float
    ended: float
    answered: bool


@dataclass(slots=True)
class Answers:
    """The answers that a searcher saw."""

    asked: list[Asked] = field(default_factory=list)
    missing: int = 0
    deleted_found: int = 0
    other_release: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, what: str, example: str) -> None:
        """Count a wrong answer."""
        setattr(self, what, getattr(self, what) + 1)
        if len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(f"{what}: {example}")


class Searcher:
    """Searches by HTTP, one request after another, until it is stopped."""

    def __init__(self, url: str, release: str, queries: Sequence[str], gone: Callable[[], set[Name]], seed: int) -> None:
        self.answers = Answers()
        self.fault: BaseException | None = None
        self._url, self._release, self._queries, self._gone = url, release, queries, gone
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="searcher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> Answers:
        """Stop; return the answers, or raise the thread's unexpected error."""
        self._stop.set()
        self._thread.join(_LIMIT_SECONDS * 2)
        if self.fault is not None:
            raise self.fault
        return self.answers

    def wait_for_answer(self, since: float, limit_seconds: float) -> float | None:
        """Return the seconds from `since` to the first answer of a later request; None if none came in time."""
        while time.time() < since + limit_seconds:
            for one in reversed(self.answers.asked[-50:]):
                if one.began < since:
                    break
                if one.answered:
                    first = next(other for other in self.answers.asked if other.answered and other.began >= since)
                    return first.ended - since
            time.sleep(0.05)
        return None

    def _run(self) -> None:
        try:
            with httpx.Client(base_url=self._url, timeout=_LIMIT_SECONDS, trust_env=False) as client:
                while not self._stop.wait(_PAUSE_SECONDS):
                    self._ask(client)
        except Exception as exc:  # noqa: BLE001 (raised again where the thread is waited for)
            self.fault = exc

    def _ask(self, client: httpx.Client) -> None:
        pinned = self._random.random() < 0.5
        # No query twice: the vector of a known query is cached, and such an answer does not need Triton.
        query = f"{self._random.choice(self._queries)} {len(self.answers.asked)}"
        body: dict[str, Any] = {"query": query, "limit": 50, "exact": True, "group": False}
        if pinned:
            body["source"] = PINNED
        gone, began = self._gone(), time.time()
        try:
            response = client.post("/v1/search", json=body)
        except httpx.HTTPError:
            self.answers.asked.append(Asked(began, time.time(), answered=False))
            return
        if response.is_client_error:
            raise RuntimeError(f"search refuses {body}: {response.status_code} {response.text[:300]}")
        answer = response.json() if response.is_success else None
        is_whole = answer is not None and not words_alone(answer)
        self.answers.asked.append(Asked(began, time.time(), is_whole))
        if answer is not None:
            self._judge(answer, gone, pinned and is_whole)

    def _judge(self, answer: dict[str, Any], gone: set[Name], pinned: bool) -> None:
        hits = {(hit["source"], hit["key"]) for hit in answer["hits"]}
        releases = {answer["release"], *(hit["lineage"]["release"] for hit in answer["hits"])}
        if releases != {self._release}:
            self.answers.note("other_release", f"{sorted(releases)} instead of {self._release}")
        # A producer may have written about one of them while the answer was in flight.
        for name in hits & gone & self._gone():
            self.answers.note("deleted_found", f"{name}, at {time.time():.1f}")
        if pinned and (away := {(PINNED, key) for key in PINNED_KEYS} - hits):
            self.answers.note("missing", f"{sorted(away)}, at {time.time():.1f}")


def availability(asked: Sequence[Asked], disturbed: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return the numbers of answered requests, and of failures outside every restart.

    Args:
        disturbed: (from, to) of each kill and the first answer after it; failures in between belong to the restart.
    """
    failed = [one for one in asked if not one.answered]
    unexplained = [one for one in failed if not any(began <= one.ended and one.began <= ended for began, ended in disturbed)]
    times = [one.ended - one.began for one in asked if one.answered]
    return {
        "asked": len(asked),
        "answered": len(asked) - len(failed),
        "failed_within_restart": len(failed) - len(unexplained),
        "failed_outside_restart": len(unexplained),
        "median_ms": round(median(times) * 1000, 1) if times else None,
    }
