"""Dead letters as entries: which are meant, which are replayed, and what a replayed message says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from streaming.dead_letters import DeadLetter
from streaming.decode import Message, decode
from streaming.message_json import json_of_message, message_of_json
from tests.fixtures_streaming import Log
from twinline.contract.documents.records import Deletion, Document, Version, version_of
from twinline.contract.errors import DocumentError
from twinline.upkeep.dead_letters.acts import Act
from twinline.upkeep.dead_letters.entries import Entry, Selection, attempt_of, document_of, group_entries, message_id
from twinline.upkeep.dead_letters.replay import choose, replay_headers

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ENTRY = Entry("0/5", 0, 5, 1_000, "s", "a", "invalid_json", "decode", "no", "abcdef", NOW.isoformat(), 3, 7, 0)
REPLAYED = replace(ENTRY, act=Act("0/5", "replayed", "", "me"))


@pytest.mark.parametrize(
    ("selection", "is_meant"),
    [
        (Selection(), True),
        (Selection(reason="invalid_json", stage="decode", source="s", key="a", partition=0, offset=5), True),
        (Selection(reason="refused"), False),
        (Selection(stage="index"), False),
        (Selection(stack="abc"), True),  # the beginning is enough
        (Selection(stack="bcd"), False),
        (Selection(key="b"), False),
        (Selection(partition=1), False),
        (Selection(offset=0), False),
        (Selection(since=NOW), True),
        (Selection(since=NOW + timedelta(seconds=1)), False),
        (Selection(until=NOW), False),  # before, not at
        (Selection(until=NOW + timedelta(seconds=1)), True),
        (Selection(states=frozenset({"replayed"})), False),
    ],
)
def test_every_part_of_a_selection_counts(selection: Selection, is_meant: bool) -> None:
    assert selection.matches(ENTRY) is is_meant


def test_a_letter_whose_time_cannot_be_read_is_of_no_time() -> None:
    strange = replace(ENTRY, time="yesterday")
    assert Selection().matches(strange)
    assert not Selection(since=NOW - timedelta(days=999)).matches(strange)


@pytest.mark.parametrize(
    ("entry", "again", "is_chosen"),
    [
        (ENTRY, False, True),
        (replace(ENTRY, attempt=2), False, True),
        (replace(ENTRY, attempt=3), False, False),
        (replace(ENTRY, attempt=3), True, True),
        (REPLAYED, False, False),
        (REPLAYED, True, True),
        (replace(ENTRY, reason="erased"), True, False),  # nothing of it was kept
    ],
)
def test_what_was_replayed_or_failed_too_often_is_left_unless_a_person_insists(
    entry: Entry, again: bool, is_chosen: bool
) -> None:
    choice = choose([entry], again)
    assert (list(choice.chosen) == [entry], entry.message in choice.left) == (is_chosen, not is_chosen)


def test_a_replayed_message_says_which_it_repeats_and_keeps_the_time_it_had() -> None:
    log = Log(offset=40)
    first = log.append(Document("s", "a", "old"))
    letter = DeadLetter.of(replace(first, headers=[("run_id", b"7")]), "index", DocumentError("x", "y"), "r1")
    entry = replace(ENTRY, message="0/41", offset=41, timestamp_ms=first.timestamp_ms)
    headers = replay_headers(letter, entry)
    assert headers[0] == ("run_id", b"7")
    newer = log.append(Document("s", "a", "new"))
    sent = replace(log.append(Document("s", "a", "old")), headers=headers)
    assert decode(sent).version == decode(first).version < decode(newer).version

    # It fails again, and is replayed again: the count goes up, and the time stays.
    again = replay_headers(DeadLetter.of(sent, "index", DocumentError("x", "y"), "r1"), replace(entry, message="0/43", attempt=1))
    assert dict(again)["replay-attempt"] == b"2"
    assert dict(again)["replay-of"] == b"0/43"
    assert dict(again)["replay-version"] == dict(headers)["replay-version"]
    assert [name for name, _ in again].count("replay-version") == 1


@pytest.mark.parametrize("claim", [b"9999999999999/1", b"x", b"1000/8", b"", b"1/2/3/4", b"1/2/", b"1/2/x", b"-1/2"])
def test_nobody_can_claim_a_time_that_is_not_past(claim: bytes) -> None:
    with pytest.raises(DocumentError, match="replay-version"):
        version_of(Deletion("s", "a"), 1000, 7, [("replay-version", claim)])


def test_an_explicit_version_needs_no_other() -> None:
    assert version_of(Deletion("s", "a", 3), 1000, 7, [("replay-version", b"junk")]) == Version("explicit", 3)
    assert version_of(Deletion("s", "a"), 1000, 7, [("replay-version", b"1000/7")]) == Version("log", 1000, 7)


@pytest.mark.parametrize(("raw", "count"), [(b"", 0), (b"2", 2), (b"x", 0), (b"-1", 0), (b"9" * 40, 0)])
def test_a_count_that_is_none_counts_as_none(raw: bytes, count: int) -> None:
    assert attempt_of({"replay-attempt": raw}) == count


def test_like_failures_are_one_group_and_the_largest_comes_first() -> None:
    entries = [ENTRY, replace(ENTRY, message="0/6", act=REPLAYED.act), replace(ENTRY, message="0/7", stack="other")]
    groups = group_entries(entries)
    assert [(group.stack, len(group.entries)) for group in groups] == [("abcdef", 2), ("other", 1)]
    assert groups[0].to_json()["states"] == {"open": 1, "replayed": 1}


def test_a_message_is_known_by_its_place_and_a_foreign_one_by_its_hash() -> None:
    letter = DeadLetter.of(Message(1, 42, 0, b"k", b"v"), "decode", DocumentError("x", "y"), "r")
    assert message_id(letter) == "1/42"
    foreign = DeadLetter.read(b"k", None, [])
    assert message_id(foreign).startswith("sha256:")
    assert message_id(foreign) == message_id(DeadLetter.read(b"k", None, []))


def test_a_key_that_names_no_document_is_shown_as_it_is() -> None:
    assert document_of(b'[ "s", "\\u0061" ]') == ("s", "a")
    assert document_of(b"\xff[bold]") == ("", "\\xff[bold]")
    assert document_of(None) == ("", "")


@pytest.mark.parametrize(
    "message", [Message(0, 1, 2, None, None, []), Message(1, 2, 3, b"\xff", b"\x00", [("h", b"\xfe")], False)]
)
def test_a_message_survives_as_json(message: Message) -> None:
    assert message_of_json(json_of_message(message)) == message
