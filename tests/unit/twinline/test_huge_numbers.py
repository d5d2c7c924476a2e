"""Numbers from outside with thousands of digits, or digits of other scripts: an answer or one line, never a traceback."""

from datetime import UTC, datetime

import pytest

from twinline.clients import online
from twinline.commands.moments import moment
from twinline.contract.errors import SettingsError
from twinline.search import exchange
from twinline.upkeep.replay import _offsets
from twinline.upkeep.trace.target import target_of

MANY = "9" * 4_400
NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize("read", [exchange._seconds, online._seconds])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("", None), ("7", 7.0), ("0", 0.0), ("999999", 999_999.0), ("-1", None), ("1.5", None), ("soon", None),
     ("²", None), (MANY, None), ("9" * 400, None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)],
)  # fmt: skip
def test_a_wait_that_a_service_asks_for_is_a_number_that_can_be_waited(
    read: object, header: str | None, seconds: float | None
) -> None:
    assert read(header) == seconds  # type: ignore[operator]


@pytest.mark.parametrize("text", ["999999w", "999999d", "800000d"])
def test_a_time_before_the_calendar_is_refused_in_words(text: str) -> None:
    with pytest.raises(SettingsError, match="before the calendar's first day"):
        moment(text, NOW)


@pytest.mark.parametrize("text", [f"{MANY}d", "9999999h", f"{MANY}-01-01", "", "1y", "2026-02-30", "-1d"])
def test_what_is_no_moment_is_refused_in_words(text: str) -> None:
    with pytest.raises(SettingsError, match="is no moment"):
        moment(text, NOW)


@pytest.mark.parametrize("text", [f"{MANY}:1", f"0:{MANY}", "0:²", "²:0", "0", ":", "0:-1", "7:1", "0:1:2"])
def test_what_is_no_offset_of_a_partition_is_refused_in_words(text: str) -> None:
    with pytest.raises(SettingsError, match="write PARTITION:OFFSET"):
        _offsets([text], {0: 5, 1: 5}, "--from")


@pytest.mark.parametrize("text", ["0:12", "1:٣"])
def test_an_offset_may_be_written_in_the_digits_of_any_script(text: str) -> None:
    assert _offsets([text], {0: 5, 1: 5}, "--from") in ({0: 12}, {1: 3})


@pytest.mark.parametrize(
    ("key", "points"), [("a#3", 2), ("a#" + MANY, 1), ("a#²", 1), ("a#", 1), ("#3", 1), ("a", 1), ("a#٣", 2)]
)
def test_a_chunk_behind_a_key_is_a_number_or_a_part_of_the_key(key: str, points: int) -> None:
    assert len(target_of(f"notes/{key}", None, None, None).ids) == points
