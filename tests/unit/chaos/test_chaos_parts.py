"""The parts of the chaos harness that decide what a run means: a law of its own, points that kill, answers that are judged."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest

from proofs.chaos.brokers import NamedBroker
from proofs.chaos.deck import Kill, Record
from proofs.chaos.law import Record as Message
from proofs.chaos.law import UnusableError, replay, understand
from proofs.chaos.load import Ledger
from proofs.chaos.messages import Outgoing, Writer
from proofs.chaos.points import Points
from proofs.chaos.searcher import Answers, Asked, Searcher, availability
from proofs.chaos.supervised import Supervised
from proofs.switch.load import Searchers
from tests.checkout import CHECKOUT
from twinline.contract.documents.records import decode_message
from twinline.contract.errors import DocumentError

TEXTS = [(f"title {number}", f"text {number}\n\nwith a second paragraph of number {number}") for number in range(9)]


def written(count: int) -> list[Message]:
    writer = Writer(3, TEXTS, ["log-a", "numbered-a"], pins=True)
    messages = [*writer.first(), *(writer.next() for _ in range(count))]
    return [
        Message(0, offset, 1_000 + offset // 3, message.key, message.value, (*message.headers, message.label))
        for offset, message in enumerate(messages)
    ]


def kind_of(record: Message) -> str:
    return dict(record.headers)["chaos"].decode()


def test_the_checks_own_law_and_the_platform_agree_on_what_breaks_the_envelope() -> None:
    for record in written(3_000):
        refused = (is_refused_by_the_check(record), is_refused_by_the_platform(record))
        assert refused in ((True, True), (False, False)), kind_of(record)
        assert refused[0] == kind_of(record).startswith("poison:")


def is_refused_by_the_check(record: Message) -> bool:
    try:
        understand(record)
    except UnusableError:
        return True
    return False


def is_refused_by_the_platform(record: Message) -> bool:
    try:
        decode_message(record.key, record.value, record.headers)
    except DocumentError:
        return True
    return False


def test_the_load_has_every_kind_of_change_in_it() -> None:
    kinds = Counter(kind_of(record).partition(":")[0] for record in written(1_500))
    wanted = {"create", "update", "grow", "shrink", "relabel", "delete", "recreate", "duplicate", "newer_first", "poison"}
    wanted |= {"older_after_newer", "late_after_delete", "mixed_versions", "invisible", "after_invisible", "pinned"}
    assert {kind for kind in wanted if kinds[kind] < 5} == set()


def test_late_and_older_messages_change_nothing() -> None:
    truth = replay(written(1_500), lambda name, said: ())
    late = [record for record in written(1_500) if kind_of(record) in ("late_after_delete", "older_after_newer")]
    assert late
    places = {state.place for state in truth.documents.values()}
    assert not places & {record.place for record in late}


def test_a_late_message_is_older_than_the_deletion_whatever_was_refused_in_between() -> None:
    deleted: dict[bytes | None, int] = {}
    late = 0
    for record in written(9_000):
        if kind_of(record) == "delete" and "version" in dict(record.headers):
            deleted[record.key] = int(dict(record.headers)["version"])
        if kind_of(record) == "late_after_delete":
            late += 1
            assert json.loads(record.value or b"")["version"] < deleted[record.key]
    assert late > 100


def test_an_armed_point_kills_the_process_that_gets_there_at_the_pass_that_was_asked_for(tmp_path: Path) -> None:
    points = Points(tmp_path)
    points.armed.write_text(json.dumps({"point": "here", "skip": 2, "victim": None}))
    code = (
        "import sys; from pathlib import Path; from proofs.chaos.points import Points; points = Points(Path(sys.argv[1]))\n"
        "for number in range(9): points.passing('elsewhere'); print(number, flush=True); points.passing('here')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["0", "1", "2"]), done.stderr
    assert json.loads(points.reached.read_text())["point"] == "here"
    assert not points.armed.exists()


def test_a_broker_that_is_not_ours_is_killed_and_started_by_the_commands_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert NamedBroker().acts == (), "without a command it is left alone"
    monkeypatch.setenv("CHAOS_BROKER_KILL", f"echo killed >> {tmp_path}/acts")
    monkeypatch.setenv("CHAOS_BROKER_START", f"echo started >> {tmp_path}/acts")
    broker = NamedBroker()
    assert broker.acts == ("killed",)
    broker.act("killed", seconds=0.0)
    assert (tmp_path / "acts").read_text().split() == ["killed", "started"]


def test_a_supervised_program_is_started_again_and_each_end_of_it_is_on_record(tmp_path: Path) -> None:
    program = Supervised("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), tmp_path / "log")
    program.start()
    first = program.wait_for_pid(10)
    assert first is not None
    assert program.kill() == first
    ended = program.wait_for_end(first, 10)
    assert ended is not None
    assert ended.was_killed
    second = program.wait_for_pid(10)
    assert second not in (None, first)
    assert program.stop(10) == -signal.SIGTERM
    assert [one.code for one in program.ended] == [-signal.SIGKILL, -signal.SIGTERM]


def test_a_document_is_gone_only_when_its_deletion_is_committed_and_nobody_wrote_since(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    key = json.dumps(["s", "k"]).encode()
    deletion, document = Outgoing("delete", key, None), Outgoing("recreate", key, b"{}")
    ledger.confirm(deletion, ledger.sending(deletion), (1, 7))
    assert ledger.gone({1: 7}) == set()
    assert ledger.gone({1: 8}) == {("s", "k")}
    late = Outgoing("late_after_delete", key, b"{}")
    ledger.confirm(late, ledger.sending(late), (1, 8))
    assert ledger.gone({1: 9}) == {("s", "k")}
    ledger.sending(document)
    assert ledger.gone({1: 9}) == set()
    ledger.close()


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        ({"release": "r1", "hits": ["one", "two", "three"]}, {}),
        ({"release": "r1", "hits": ["one", "three"]}, {"missing": 1}),
        ({"release": "r2", "hits": ["one", "two", "three"]}, {"other_release": 1}),
        ({"release": "r1", "hits": ["one", "two", "three", "deleted"]}, {"deleted_found": 1}),
    ],
)
def test_a_wrong_answer_is_counted_as_what_it_is(answer: dict[str, object], counted: dict[str, int]) -> None:
    gone = {("pinned", "deleted")}
    searcher = Searcher("http://127.0.0.1:9", "r1", ["q"], lambda: gone, seed=1)
    hits = [{"source": "pinned", "key": key, "lineage": {"release": "r1"}} for key in answer["hits"]]  # type: ignore[attr-defined]
    searcher._judge({**answer, "hits": hits}, gone, pinned=True)
    found = {name: getattr(searcher.answers, name) for name in ("missing", "other_release", "deleted_found")}
    assert {name: count for name, count in found.items() if count} == counted


def test_of_two_deaths_in_a_row_the_restart_ends_with_the_answer_after_the_second() -> None:
    record = Record(
        kills=[Kill("online_at_random", "online", 10.0), Kill("start_first_batch", "online", 12.0, search_seconds=3.0)]
    )
    assert sorted(record.disturbed()) == [(9.0, 15.0), (11.0, 15.0)]


def test_a_request_that_failed_is_explained_only_by_a_death_about_that_time() -> None:
    asked = [Asked(0, 1, answered=True), Asked(10, 11, answered=False), Asked(20, 21, answered=False)]
    found = availability(asked, [(9.5, 12.0)])
    assert (found["answered"], found["failed_within_restart"], found["failed_outside_restart"]) == (1, 1, 1)
    assert Answers().examples == []


@pytest.mark.parametrize(("mode", "whole"), [("hybrid", True), ("dense", True), ("words", False)])
def test_words_alone_are_no_whole_answer_in_any_proof_and_are_judged_all_the_same(mode: str, whole: bool) -> None:
    hit = {
        "point": "p",
        "source": "pinned",
        "key": "deleted",
        "chunk": {"index": 0},
        "version": {"kind": "explicit", "number": 1},
    }
    lineage = {"release": "r1", "space": "s", "contract": "c"}
    answer = {"mode": mode, "note": "the encoder is away", "release": "r1", "space": "s", "collection": "c"}
    body = {**answer, "hits": [{**hit, "lineage": lineage}]}
    gone = {("pinned", "deleted")}
    searcher = Searcher("http://there", "r1", ["q"], lambda: gone, seed=1)
    searchers = Searchers("http://there", ["q"], 1, 1.0)
    with httpx.Client(base_url="http://there", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=body))) as client:
        searcher._ask(client)
        searchers._ask(client, "q")
    assert [one.answered for one in searcher.answers.asked] == [whole]
    assert searcher.answers.deleted_found == 1
    assert [one.problem for one in searchers.asked] == ["" if whole else "the encoder is away"]
    assert searchers.answers.qsize() == whole
