"""Rate and times of searches by several clients at once, through the asynchronous client."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final

from bench.rounds import percentiles
from twinline.contract.canonical import JSON
from twinline.search.client import AsyncSearchClient

CLIENTS: Final = (1, 4, 16)


def concurrent_searches(url: str, count: int, question: Callable[[int], str], first: int) -> list[JSON]:
    """Return one row for each number of clients; no question is asked twice, and `first` is the number of the first one."""
    rows: list[JSON] = []
    for place, clients in enumerate(CLIENTS):
        times, seconds = asyncio.run(_asked(url, clients, count, question, first + place * count))
        rows.append({"clients": clients, "searches_per_second": round(count / seconds, 1), **percentiles(times, 50, 99)})
    return rows


async def _asked(url: str, clients: int, count: int, question: Callable[[int], str], first: int) -> tuple[list[float], float]:
    times: list[float] = []
    numbers: Iterator[int] = iter(range(first, first + count))

    async def ask_on(search: AsyncSearchClient) -> None:
        # All clients take from one list, so that none is idle at the end while another still has work.
        for number in numbers:
            began = time.perf_counter()
            await search.search(question(number))
            times.append((time.perf_counter() - began) * 1000)

    async with AsyncSearchClient(url, at_once=clients) as search:
        started = time.perf_counter()
        await asyncio.gather(*(ask_on(search) for _ in range(clients)))
        return times, time.perf_counter() - started
