"""The cost of words beside vectors: in a search, on disk, and in the rate of indexing, each beside its target."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx

from bench.growth_store import build_index
from bench.rounds import summary, take_turns
from bench.stream import StreamingPath, publish_all
from bench.synthetic import fill
from bench.system import Served
from twinline.clients.store.protocol import Collection, CollectionInfo
from twinline.clients.store.vectors import one_dense
from twinline.contract.documents.records import Document
from twinline.contract.errors import TransientError
from twinline.contract.sparse.vector import Sparse

# Milliseconds that hybrid search may add at the median.
MOST_ADDED_MS: Final = 2.0
# Share that words may add to the disk of a chunk.
MOST_ADDED_DISK: Final = 0.40
# Share of the indexing rate without words.
LEAST_RATE: Final = 0.92
_WARMING: Final = 20


def search_cost(ask: Callable[[str, int], object], count: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Return the milliseconds that hybrid search adds to one by vectors alone: the median over pairs, in turn first and second.

    Args:
        ask: asks the question of a number in a mode, and waits for the answer. No number is asked twice: a vector is cached.
        count: pairs.
    """
    times: dict[str, list[float]] = {"dense": [], "hybrid": []}
    for number in range(-_WARMING, count):
        for place, mode in enumerate(sorted(times, reverse=number % 2 == 0)):
            began = clock()
            ask(mode, 2 * (number + _WARMING) + place)
            if number >= 0:
                times[mode].append((clock() - began) * 1000)
    added = median(hybrid - dense for dense, hybrid in zip(times["dense"], times["hybrid"], strict=True))
    return {
        "cost": "search, milliseconds at the median",
        "without_words": round(median(times["dense"]), 3),
        "with_words": round(median(times["hybrid"]), 3),
        "compared": round(added, 3),
        "target": f"added: at most {MOST_ADDED_MS}",
        "met": added <= MOST_ADDED_MS,
    }


def ask_by_mode(client: httpx.Client, question: Callable[[int], str], first: int) -> Callable[[str, int], None]:
    """Return a function that asks the search API in a mode, from question `first` on.

    Raises:
        TransientError: an answer has no hits, or not of the mode that was asked for.
    """

    def ask(mode: str, number: int) -> None:
        response = client.post("/v1/search", json={"query": question(first + number), "limit": 10, "mode": mode})
        answer = response.json() if response.is_success else {}
        if not answer.get("hits") or answer["mode"] != mode:
            raise TransientError(f"a search by {mode} was answered with {response.status_code}: {response.text[:200]}")

    return ask


def disk_cost(folder: Path, info: CollectionInfo, words: Sequence[Sparse], chunks: int) -> dict[str, Any]:
    """Return the bytes of disk of a made-up chunk with and without words, graph included.

    Args:
        folder: for the two collections, one after the other; removed.
        info: of a collection with words.
        words: of real chunks.
        chunks: in each collection.
    """
    sizes = {}
    for name, own in (("without", replace(info, vectors=one_dense(info.dimension))), ("with", info)):
        *_, disk = build_index(folder, "documents_alone", own, partial(_fill, own, chunks, words))
        sizes[name] = disk * 2**20 / chunks
    shutil.rmtree(folder)
    added = sizes["with"] / sizes["without"] - 1
    return {
        "cost": "disk, bytes a chunk",
        "without_words": round(sizes["without"]),
        "with_words": round(sizes["with"]),
        "compared": round(added, 4),
        "target": f"share added: at most {MOST_ADDED_DISK}",
        "met": added <= MOST_ADDED_DISK,
    }


def _fill(info: CollectionInfo, chunks: int, words: Sequence[Sparse], collection: Collection) -> None:
    fill(collection, info, 0, chunks, words)


def rate_cost(system: Served, documents: Sequence[Document], folder: Path, rounds: int) -> dict[str, Any]:
    """Return the rates of indexing with and without words, and the median over rounds of their ratio.

    Args:
        documents: written to a topic of their own, and consumed from it once a turn.
        folder: for the collections; removed.
    """
    settings = system.settings.model_copy(update={"topic": f"{system.settings.topic}-rate"})
    publish_all(settings, documents)
    contenders = [StreamingPath(settings, system.release, folder, len(documents), words=words) for words in (False, True)]
    without, with_words = summary(take_turns(contenders, rounds), contenders[0].name, "documents")
    shutil.rmtree(folder)
    return {
        "cost": f"indexing, documents a second, {rounds} rounds",
        "without_words": without["documents_per_second"],
        "with_words": with_words["documents_per_second"],
        "compared": with_words["ratio"],
        "lowest": with_words["ratio_lowest"],
        "highest": with_words["ratio_highest"],
        "target": f"ratio: at least {LEAST_RATE}",
        "met": with_words["ratio"] >= LEAST_RATE,
    }
