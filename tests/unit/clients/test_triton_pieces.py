import pytest

from twinline.clients.triton.pieces import PieceSize, guessed_tokens


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def size(clock: Clock) -> PieceSize:
    """Return one that has measured 50 ms for a text of 1,000 tokens."""
    made = PieceSize(clock)
    made.took([1_000], 0.053)
    return made


def test_before_the_first_answer_a_few_are_sent() -> None:
    assert PieceSize().of([10] * 100, 64) == 8
    assert PieceSize().of([10] * 3, 64) == 3


def test_a_piece_takes_as_long_as_it_may(size: PieceSize) -> None:
    assert size.of([1_000] * 100, 64) == 4
    assert size.of([100] * 100, 64) == 40
    assert size.of([10] * 100, 64) == 64
    assert size.of([10] * 5, 64) == 5


def test_it_counts_what_is_padded(size: PieceSize) -> None:
    # Two of 980 and two of 1,000 tokens are four of 1,000; five would be too many.
    assert size.of([980, 980, 1_000, 1_000, 1_000], 64) == 4


def test_a_piece_ends_where_padding_would_take_longer_than_a_request(size: PieceSize) -> None:
    # 3 ms are 60 tokens.
    assert size.of([100, 100, 131, 131], 64) == 2
    assert size.of([100, 100, 129, 129], 64) == 4
    assert size.of([100, 200], 64) == 1


def test_on_a_quick_machine_padding_is_cheaper_than_requests(size: PieceSize) -> None:
    for _ in range(30):
        size.took([1_000] * 4, 0.004)
    assert size.of([100, 200, 500, 900], 64) == 4


def test_tokens_are_guessed_from_bytes() -> None:
    assert guessed_tokens(b"") == 1
    assert guessed_tokens(b"four" * 10) == 11


def test_beside_queries_pieces_are_short_and_never_empty(size: PieceSize, clock: Clock) -> None:
    size.asked()
    assert size.of([100] * 100, 64) == 4
    assert size.of([1_000] * 100, 64) == 1
    clock.now += 2
    assert size.of([1_000] * 100, 64) == 4


def test_a_quicker_machine_gets_more(size: PieceSize) -> None:
    for _ in range(30):
        size.took([1_000] * 4, 0.004)
    assert size.of([1_000] * 100, 64) == 64
