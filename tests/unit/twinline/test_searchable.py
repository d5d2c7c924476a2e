"""`publish --wait` ends when all is searchable, says what was set aside, and does not wait for a consumer that gave up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from etl.publish import Report
from streaming.dead_letters import DeadLetter
from streaming.decode import Message
from twinline.clients.online import CollectionStatus, OnlineStatus
from twinline.clients.run import exit_code
from twinline.clients.settings import Settings
from twinline.commands.publish import command
from twinline.contract.errors import DocumentError, SettingsError, TransientError, TwinlineError
from twinline.upkeep import searchable
from twinline.upkeep.searchable import Place, SetAsideError, wait_until_searchable

SERVED = CollectionStatus("documents_r1", "r1", "s", "c", True, True, 1, 1, 0, [])


def letter(partition: int, offset: int, release: str = "r1", reason: str = "no_text") -> DeadLetter:
    message = Message(partition, offset, 0, b'["s","k"]', b"{}", [])
    return DeadLetter.of(message, "decode", DocumentError(reason, "a reason"), release)


@dataclass
class Platform:
    """A log of two partitions, its consumer and its dead letters; the clock goes on while somebody sleeps."""

    committed: list[dict[int, int]]
    ends: dict[int, int] = field(default_factory=lambda: {0: 10, 1: 5})
    letters: list[DeadLetter] = field(default_factory=list)
    status: OnlineStatus = field(default_factory=lambda: OnlineStatus("documents_r1", [SERVED], {}))
    seconds: float = 0.0
    groups: list[str] = field(default_factory=list)

    def commits(self, _: Settings, group: str, topic: str) -> dict[int, int]:
        self.groups.append(group)
        return self.committed.pop(0) if len(self.committed) > 1 else self.committed[0]

    def read(self, _: Settings, starts: dict[int, int]) -> Iterator[tuple[Any, DeadLetter]]:
        yield from ((None, each) for each in self.letters)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        assert self.seconds < 10_000, "waits for good"

    def wait(self, monkeypatch: pytest.MonkeyPatch, before: dict[int, int] | None = None) -> int:
        for name, stand_in in {
            "end_offsets": lambda *_: self.ends,
            "beginning_offsets": lambda *_: dict.fromkeys(self.ends, 0),
            "committed_offsets": self.commits,
            "read_letters": self.read,
        }.items():
            monkeypatch.setattr(searchable, name, stand_in)
        monkeypatch.setattr("twinline.clients.online.AdminClient.status", lambda _: self.status)
        follow = searchable._follow
        monkeypatch.setattr(searchable, "_follow", lambda *given: follow(*given, sleep=self.sleep, clock=lambda: self.seconds))
        return wait_until_searchable(Settings(), Place(before or {0: 4, 1: 5}, {0: 0}))


DONE = {0: 10, 1: 5}


@pytest.mark.parametrize(
    ("committed", "polls"),
    [
        ([DONE], 0),
        ([{}, {0: 3}, {0: 10}, DONE], 3),  # a group without commits is behind by everything
        ([{0: 9, 1: 5}, {0: 9, 1: 5}, DONE], 2),
        ([{0: 12, 1: 9}], 0),  # others have published since
        ([{0: 10, 1: 4}, {0: 2, 1: 4}, DONE], 2),  # a release that became active meanwhile is further behind
    ],
)
def test_it_ends_when_the_consumer_has_committed_past_the_end(
    monkeypatch: pytest.MonkeyPatch, committed: list[dict[int, int]], polls: int
) -> None:
    platform = Platform(committed)
    assert platform.wait(monkeypatch) == 6
    assert platform.seconds == polls
    assert len(set(platform.groups)) == 1


@pytest.mark.parametrize(
    ("letters", "said"),
    [
        ([], ""),
        ([letter(0, 4)], r"^1 messages .*no_text 1"),
        ([letter(0, 4), letter(0, 9, reason="too_large")], r"^2 messages .*no_text 1, too_large 1"),
        ([letter(0, 4), letter(0, 4)], r"^1 messages"),  # delivered twice, set aside once
        ([letter(0, 3)], ""),  # before the publication
        ([letter(0, 10), letter(1, 5)], ""),  # after it
        ([letter(0, 4, release="r2")], ""),  # by a release that does not answer
        ([letter(7, 0)], ""),  # a partition that was not there
    ],
)
def test_what_was_set_aside_is_an_error_and_counted(
    monkeypatch: pytest.MonkeyPatch, letters: Sequence[DeadLetter], said: str
) -> None:
    platform = Platform([DONE], letters=list(letters))
    if not said:
        assert platform.wait(monkeypatch) == 6
        return
    with pytest.raises(SetAsideError, match=said) as caught:
        platform.wait(monkeypatch)
    assert exit_code(caught.value) == 1


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (OnlineStatus("documents_r1", [replace(SERVED, faults=["not being indexed: lz4"])], {}), "lz4"),
        (OnlineStatus("documents_r1", [replace(SERVED, consumer_running=False)], {}), "the consumer of r1 has ended"),
        (OnlineStatus("documents_r1", [], {"documents_r1": "another contract"}), "another contract"),
    ],
)
def test_a_consumer_that_gave_up_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, status: OnlineStatus, said: str) -> None:
    platform = Platform([{0: 4}], status=status)
    with pytest.raises(TransientError, match=said):
        platform.wait(monkeypatch)
    assert platform.seconds == pytest.approx(61)


def test_one_that_only_takes_long_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    platform = Platform([*[{0: 4}] * 500, DONE])
    assert platform.wait(monkeypatch) == 6
    assert platform.seconds == 500


def test_without_an_active_release_it_says_that_nothing_becomes_searchable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="no release is active"):
        Platform([{}], status=OnlineStatus(None, [], {})).wait(monkeypatch)


@pytest.mark.parametrize(
    ("rejected", "said"),
    [
        ({}, ""),
        ({"no_text": 2, "unsupported_format": 1}, "3 documents were set aside before they were sent"),
        ({"erased": 1}, "erased"),
    ],
)
def test_what_the_publisher_set_aside_is_an_error_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str], rejected: dict[str, int], said: str
) -> None:
    monkeypatch.setenv("TWINLINE_HOME", str(tmp_path))
    monkeypatch.setattr("etl.publish.publish_documents", lambda *_: Report(sent=5, rejected=rejected, rejects_file="here"))
    monkeypatch.setattr(searchable, "wait_until_searchable", lambda *_: 5)
    monkeypatch.setattr(Place, "now", lambda _: Place({}, {}))
    (tmp_path / "a.md").write_text("text")
    if not said:
        command([str(tmp_path / "a.md")], wait=True)
        assert "searchable: all 5 messages" in capsys.readouterr().out
        return
    with pytest.raises(TwinlineError, match=said) as caught:
        command([str(tmp_path / "a.md")], wait=True)
    assert exit_code(caught.value) == 1
