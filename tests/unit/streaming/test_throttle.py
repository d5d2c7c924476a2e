"""A build gives way while people search, and takes all there is while nobody does."""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from streaming.building.throttle import SearchTraffic, ThrottledEmbedder
from tests.fixtures_streaming import FakeEmbedder, vector_of

TEXTS = [f"text {number}" for number in range(5)]


class Clock:
    """Each look at it takes a second."""

    def __init__(self) -> None:
        self.at = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        self.at += 1.0
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.mark.parametrize(
    ("busy", "calls", "rests"),
    [
        ([False], [5], 0),
        ([True, True, True], [2, 2, 1], 3),
        # people stop searching half-way: the rest goes at once
        ([True, False], [2, 3], 1),
    ],
)
def test_pieces_are_small_and_rests_long_while_people_search(busy: list[bool], calls: list[int], rests: int) -> None:
    embedder, clock, looks = FakeEmbedder(), Clock(), iter(busy)
    paced = ThrottledEmbedder(embedder, lambda: next(looks), clock, clock.sleep)
    found = paced.embed(TEXTS, "document")
    assert [len(call) for call in embedder.calls] == calls
    # a rest is as long as the piece took
    assert clock.slept == [1.0] * rests
    np.testing.assert_array_equal(found.vectors, np.stack([vector_of(text) for text in TEXTS]))
    assert list(found.token_counts) == [2] * 5
    assert (found.space, paced.space) == (embedder.space, embedder.space)


def counting(*answers: float | Exception) -> httpx.MockTransport:
    left: Iterator[float | Exception] = iter(answers)

    def answer(_: httpx.Request) -> httpx.Response:
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return httpx.Response(
            200, text=f'# TYPE twinline_search_seconds histogram\ntwinline_search_seconds_count{{part="total"}} {found}\n'
        )

    return httpx.MockTransport(answer)


@pytest.mark.parametrize(
    ("answers", "busy"),
    [
        ((7, 7, 7), [False, False, False]),
        ((7, 9, 9), [False, True, False]),
        # the API began anew, and was asked since
        ((7, 2), [False, True]),
        # nobody can search an API that is away
        ((7, httpx.ConnectError("refused"), 3, 3), [False, False, False, False]),
        # one that is too slow to answer is not to be slowed down further
        ((7, httpx.ReadTimeout("slow")), [False, True]),
    ],
)
def test_searches_are_noticed_by_their_count(answers: tuple[float | Exception, ...], busy: list[bool]) -> None:
    now = iter(range(0, 1_000, 5))
    traffic = SearchTraffic("http://search", counting(*answers), lambda: float(next(now)))
    assert [traffic.is_busy() for _ in answers] == busy


def test_the_api_is_not_asked_at_every_piece() -> None:
    now = iter([0.0, 0.0, 0.1, 0.2])
    traffic = SearchTraffic("http://search", counting(1), lambda: next(now))
    assert [traffic.is_busy() for _ in range(3)] == [False, False, False]
