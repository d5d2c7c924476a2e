"""Receipts of erasures are a chain; moments are what people type."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from twinline.commands.moments import moment
from twinline.contract.errors import MismatchError, SettingsError
from twinline.upkeep.dead_letters.table import printed_value
from twinline.upkeep.erase.receipt import read_receipts, write_receipt
from twinline.upkeep.replay import Stretch

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_each_receipt_names_the_one_before_it(tmp_path: Path) -> None:
    written = [write_receipt(tmp_path, {"document": f"{number:064}"}) for number in range(3)]
    read = list(read_receipts(tmp_path))
    assert [receipt.sha256 for receipt in read] == [receipt.sha256 for receipt in written]
    assert [receipt.value["number"] for receipt in read] == [1, 2, 3]
    assert read[2].value["previous_sha256"] == read[1].sha256


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_receipt_that_was_changed_or_taken_away_is_noticed(tmp_path: Path, damage: str) -> None:
    _, second, _ = [write_receipt(tmp_path, {"document": f"{number:064}"}) for number in range(3)]
    if damage == "remove":
        second.path.unlink()
    else:
        second.path.write_text(json.dumps({**second.value, "by": "somebody else"}))
    with pytest.raises(MismatchError, match="does not follow"):
        list(read_receipts(tmp_path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("90s", NOW - timedelta(seconds=90)),
        ("1w", NOW - timedelta(weeks=1)),
        ("2026-01-30", datetime(2026, 1, 30, tzinfo=UTC)),
        ("2026-01-30T08:00+02:00", datetime(2026, 1, 30, 6, tzinfo=UTC)),
    ],
)
def test_a_moment_is_how_long_ago_or_a_time(text: str, expected: datetime) -> None:
    assert moment(text, NOW) == expected
    assert moment(None) is None


@pytest.mark.parametrize("text", ["", "2", "h2", "tomorrow", "2026-13-01"])
def test_what_is_no_moment_is_said_so(text: str) -> None:
    with pytest.raises(SettingsError, match="no moment"):
        moment(text)


@pytest.mark.parametrize(
    ("value", "limit", "expected"),
    [
        (None, 10, (None, 0)),
        (b'{"a": [1]}', 0, ('{\n  "a": [\n    1\n  ]\n}', 0)),
        (b"no json", 2, ("no", 5)),
        (b"\xff", 0, ("\\xff", 0)),
        (b"[" * 100_000, 3, ("[[[", 99_997)),
    ],
)
def test_a_value_is_printed_as_people_read_it_and_what_is_cut_is_counted(
    value: bytes | None, limit: int, expected: tuple[str | None, int]
) -> None:
    assert printed_value(value, limit) == expected


def test_a_stretch_counts_what_is_between() -> None:
    assert Stretch({0: 5, 1: 7}, {0: 9, 1: 7, 2: 50}).size == 4
