import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.decode import Message
from streaming.portions import PortionSize, pieces, portions, prefetched


@given(st.lists(st.none() | st.binary(max_size=20), max_size=20), st.integers(1, 40), st.integers(1, 5))
def test_portions_keep_the_order_and_the_limits(values: list[bytes | None], max_bytes: int, max_messages: int) -> None:
    batch = [Message(0, offset, 0, b"k", value) for offset, value in enumerate(values)]
    made = list(portions(batch, lambda: max_bytes, max_messages))
    assert [message for portion in made for message in portion] == batch
    for portion in made:
        assert 1 <= len(portion) <= max_messages
        assert len(portion) == 1 or sum(1 + len(message.value or b"") for message in portion) <= max_bytes


def test_a_portion_is_as_large_as_its_time_allows() -> None:
    size = PortionSize(2.0, max_bytes=1_000)
    assert size.bytes(10_000) == 1_000
    size.took([Message(0, 0, 0, b"k", b"v" * 99)], 4.0)
    assert size.bytes(10_000) == 50
    for _ in range(30):
        size.took([Message(0, 0, 0, b"k", b"v" * 99)], 0.001)
    assert size.bytes(10_000) == 1_000


def test_what_little_has_come_is_taken_in_small_portions() -> None:
    size = PortionSize(2.0, max_bytes=1_000)
    size.took([Message(0, 0, 0, b"k", b"v" * 99)], 4.0)
    # Of 4 s an eighth, but of nothing less than a quarter of a second.
    assert size.bytes(100) == 12
    assert size.bytes(10) == 6


def test_the_size_of_a_portion_is_asked_for_when_it_begins() -> None:
    limits = iter([2, 6, 6])
    batch = [Message(0, offset, 0, b"k", b"v") for offset in range(5)]
    assert [len(portion) for portion in portions(batch, lambda: next(limits), 9)] == [1, 3, 1]


def test_pieces_read_no_further_than_needed() -> None:
    read = []

    def items() -> object:
        for number in range(5):
            read.append(number)
            yield number

    cut = pieces(items(), 2)  # type: ignore[arg-type]
    assert next(cut) == [0, 1]
    assert read == [0, 1]
    assert list(cut) == [[2, 3], [4]]


@pytest.mark.parametrize(("depth", "begun_by_then"), [(0, [[1], [1, 2], [1, 2, 3]]), (2, [[1, 2, 3]] * 3), (9, [[1, 2, 3]] * 3)])
def test_what_follows_is_begun_before_an_item_is_worked_on(depth: int, begun_by_then: list[list[int]]) -> None:
    begun: list[int] = []
    seen = [(item, list(begun)) for item in prefetched([1, 2, 3], begun.append, depth)]
    assert seen == list(zip([1, 2, 3], begun_by_then, strict=True))


def test_no_more_is_begun_than_that() -> None:
    begun: list[int] = []
    items = prefetched(iter(range(10)), begun.append, 2)
    assert (next(items), begun) == (0, [0, 1, 2])
    assert (next(items), begun) == (1, [0, 1, 2, 3])
