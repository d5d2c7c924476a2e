"""The switch bench can fail: planted mixtures, losses and failures are counted."""

import collections
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from uuid import UUID

import pytest

from proofs.kills import kill_at
from proofs.kills import run as kills
from proofs.kills.cases import CASES, NEEDS, Case
from proofs.kills.kill_at import Plan
from proofs.switch.checks import AnswerChecker, Verdict, check_answers
from proofs.switch.load import Asked, HitSeen, latencies, longest_gap_seconds
from proofs.switch.run import build_beside_estimate, passed
from proofs.switch.writes import SOURCE, Ledger, account, real_texts
from tests.unit.release.factories import make_release
from twinline.clients.builds import BuildRecord, write_record
from twinline.clients.store.protocol import Head, StoredPoint, version_fields
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import Version
from twinline.contract.errors import ContractError, TransientError
from twinline.contract.release.manifest import Manifest, collection_name

ONE, TWO = Version("explicit", 1), Version("explicit", 2)


class Stored:
    """Collections in dicts."""

    def __init__(self) -> None:
        self.points: dict[str, dict[UUID, StoredPoint]] = collections.defaultdict(dict)

    def put(self, manifest: Manifest, key: str, version: Version, chunks: int = 1, *, deleted: bool = False) -> None:
        held = self.points[collection_name(manifest.release)]
        head = Head(SOURCE, key, version, deleted, 0 if deleted else chunks)
        held[head.id] = StoredPoint(head.id, head.to_payload())
        for index in range(head.chunk_count):
            id_ = point_id(SOURCE, key, index)
            payload = {"release": manifest.release, "space": manifest.space, **version_fields(version)}
            held[id_] = StoredPoint(id_, payload)

    def read_points(self, name: str, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
        return {id_: self.points[name][id_] for id_ in ids if id_ in self.points[name]}


@pytest.fixture
def manifests(tmp_path: Path) -> tuple[Manifest, Manifest]:
    a = make_release(tmp_path / "a")
    b = replace(make_release(tmp_path / "b", ("gamma",)), space="space-2")
    return a, b


def hit(manifest: Manifest, key: str = "k", version: Version = ONE, index: int = 0) -> HitSeen:
    place = (str(point_id(SOURCE, key, index)), SOURCE, key, index, version)
    return HitSeen(*place, manifest.release, manifest.space, manifest.fingerprints.contract)


def answer(manifest: Manifest, *hits: HitSeen) -> Asked:
    return Asked(0.0, "during", 5.0, "", manifest.release, manifest.space, collection_name(manifest.release), hits)


def judge(manifests: tuple[Manifest, Manifest], stored: Stored, *answers: Asked) -> Verdict:
    verdict = Verdict()
    check_answers(answers, {manifest.release: manifest for manifest in manifests}, stored, verdict)
    return verdict


def test_hits_of_the_own_collection_are_no_mixture(manifests: tuple[Manifest, Manifest]) -> None:
    a, b = manifests
    stored = Stored()
    for manifest in manifests:
        stored.put(manifest, "k", ONE)
    # superseded since, in one by a shorter version, in the other by a deletion
    stored.put(a, "long", TWO, 1)
    stored.put(b, "gone", TWO, deleted=True)
    verdict = judge(
        manifests, stored, answer(a, hit(a), hit(a, "long", ONE, 3)), answer(b, hit(b), hit(b, "gone")), answer(a, hit(a))
    )
    assert (verdict.answers, verdict.hits, verdict.mixed) == (3, 5, 0)


def test_each_kind_of_mixture_is_counted(manifests: tuple[Manifest, Manifest]) -> None:
    a, b = manifests
    stored = Stored()
    stored.put(a, "k", ONE)
    stored.put(b, "k", ONE)
    stored.put(b, "only-b", ONE)
    stored.put(a, "foreign", ONE)
    held = stored.points[collection_name(a.release)][point_id(SOURCE, "foreign", 0)]
    stored.points[collection_name(a.release)][held.id] = replace(held, payload={**held.payload, "release": b.release})
    planted = {
        "a hit of the other release": answer(a, hit(a), hit(b)),
        "a hit that says the right release and is not there": answer(a, hit(a, "only-b")),
        "a version that was never there": answer(a, hit(a, "k", TWO)),
        "a point that the other release has written": answer(a, hit(a, "foreign")),
        "the other's space": replace(answer(a, hit(a)), space=b.space),
        "the other's collection": replace(answer(a, hit(a)), collection=collection_name(b.release)),
        "a release that nobody knows": replace(answer(a), release="r9"),
    }
    for name, mixed in planted.items():
        verdict = judge(manifests, stored, answer(a, hit(a)), mixed)
        assert verdict.mixed == 1, name
        assert len(verdict.reasons) == 1, name


def test_what_is_not_there_as_the_log_has_it_is_counted(manifests: tuple[Manifest, Manifest]) -> None:
    a, _ = manifests
    name, stored = collection_name(a.release), Stored()
    ledger = Ledger({"whole": 2, "gone": 2}, {"gone"})
    stored.put(a, "whole", TWO, 2)
    stored.put(a, "gone", TWO, deleted=True)
    found = account(ledger, name, stored)
    assert (found.missing, found.stale) == ([], [])
    # each fault by itself
    ledger.versions["never"] = 1
    assert account(ledger, name, stored).missing == [f"{name}: never was never seen"]
    del ledger.versions["never"]
    stored.put(a, "gone", ONE)
    assert len(account(ledger, name, stored).stale) == 1
    stored.put(a, "gone", TWO, deleted=True)
    left = stored.points[name].pop(point_id(SOURCE, "gone", 0))
    assert account(ledger, name, stored).stale == []
    stored.points[name][left.id] = left
    assert account(ledger, name, stored).stale == [f"{name}: gone chunk 0 is left over"]
    del stored.points[name][left.id]
    del stored.points[name][point_id(SOURCE, "whole", 1)]
    assert account(ledger, name, stored).missing == [f"{name}: whole chunk 1 is not there"]
    assert head_id(SOURCE, "whole") in stored.points[name]


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"failed": 1}, False),
        ({"mixed": 1}, False),
        ({"missing": 1}, False),
        ({"stale": 1}, False),
        # a run in which only one release ever answered has shown nothing
        ({"release_seen": {"r1": 9}}, False),
        ({"answers_checked": 8}, False),
    ],
)
def test_a_run_passes_only_when_nothing_is_wrong_and_all_was_looked_at(change: dict[str, object], good: bool) -> None:
    report = {"failed": 0, "mixed": 0, "missing": 0, "stale": 0, "searches": 9, "answers_checked": 9}
    assert passed({**report, "release_seen": {"r1": 4, "r2": 5}, **change}) is good  # type: ignore[dict-item]


class Endless(SimpleQueue[Asked]):
    """Somebody goes on searching."""

    def __init__(self, each: Asked) -> None:
        self._each = each

    def get(self, block: bool = True, timeout: float | None = None) -> Asked:
        return self._each


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("estimated", "found"),
    [
        (80.0, {"seconds": 100.0, "estimated_seconds": 80.0, "ratio": 1.25, "chunks": 3_000}),
        (None, {"seconds": 100.0, "estimated_seconds": None, "ratio": None, "chunks": 3_000}),
    ],
)
def test_the_build_of_a_switch_is_told_beside_its_estimate(
    tmp_path: Path, estimated: float | None, found: dict[str, object]
) -> None:
    assert build_beside_estimate(tmp_path, "r2") is None
    write_record(tmp_path, BuildRecord("r2", "onnx_fp32", "base", 1_000, 3_000, 3_000, 100.0, estimated))
    assert build_beside_estimate(tmp_path, "r2") == found
    assert build_beside_estimate(tmp_path, "r1") is None


def test_a_step_that_fails_is_reported_though_answers_still_come(manifests: tuple[Manifest, Manifest]) -> None:
    answers = Endless(answer(manifests[0]))
    with pytest.raises(ContractError, match="refused"), AnswerChecker(answers, {}, Stored()):
        raise ContractError("the release is refused")


class Away:
    """The store is gone, too."""

    def read_points(self, name: str, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
        raise TransientError("the store is away")


def _fail_in(checker: AnswerChecker) -> None:
    with checker:
        checker._thread.join(10)  # until it has met it
        raise ContractError("the release is refused")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_the_checker_meets_because_of_a_failed_step_does_not_hide_it(manifests: tuple[Manifest, Manifest]) -> None:
    answers: SimpleQueue[Asked] = SimpleQueue()
    answers.put(answer(manifests[0], hit(manifests[0])))
    by_id = {manifests[0].release: manifests[0]}
    checker = AnswerChecker(answers, by_id, Away())
    with pytest.raises(ContractError, match="refused"):
        _fail_in(checker)
    assert isinstance(checker._broken[0], TransientError)


def test_percentiles_are_of_answers_and_gaps_are_between_them() -> None:
    asked = [Asked(float(at), "during", 100.0, "") for at in range(10)] + [Asked(10.0, "during", 9_000.0, "503")]
    figures = latencies(asked)
    assert (figures["answers"], figures["p50"], figures["max"]) == (10, 100.0, 100.0)
    assert longest_gap_seconds(asked) == 1.0
    # unanswered from 3 to 7
    assert longest_gap_seconds([one for one in asked if not 3 <= one.sent_at < 7]) == 5.0
    assert longest_gap_seconds([replace(one, problem="away") for one in asked]) == 10.0


def test_texts_are_real_and_the_same_each_time() -> None:
    texts = real_texts(collections)
    assert len(texts) == len(set(texts)) > 3
    assert texts == real_texts(collections)


# --- kills ---


def test_every_kill_has_a_point_that_there_is() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 15
    assert {case.step for case in CASES} == set(NEEDS)
    assert {case.victim for case in CASES} == {"self", "online", "triton", "broker paused"}
    assert 3 <= sum(case.short for case in CASES) <= 5
    for case in CASES:
        module, _, path = case.point.partition(":")
        found: object = __import__(module, fromlist=["_"])
        for part in path.split("."):
            found = getattr(found, part)
        assert callable(found), case.point


@pytest.mark.parametrize(("when", "call", "happened"), [("before", 1, []), ("after", 1, [1]), ("before", 3, [1, 2])])
def test_the_kill_comes_at_its_call_and_on_its_side(
    monkeypatch: pytest.MonkeyPatch, when: str, call: int, happened: list[int]
) -> None:
    class Killed(BaseException):
        pass

    def strike(victim: str) -> None:
        raise Killed(victim)

    done: list[int] = []
    monkeypatch.setattr(kill_at, "strike", strike)
    monkeypatch.setattr(kills, "_line", done.append)
    kill_at.wrap(Plan("", "proofs.kills.run:_line", when, call))  # type: ignore[arg-type]

    def three_calls() -> None:
        for number in (1, 2, 3):
            kills._line(number)  # type: ignore[call-arg, arg-type]

    with pytest.raises(Killed, match="self"):
        three_calls()
    assert done == happened


@pytest.mark.parametrize(
    ("victim", "problems", "faults"),
    [
        ("self", ["", ""], 0),
        ("self", ["503", ""], 1),
        ("online", ["refused", ""], 0),
        # not back at the end
        ("online", ["", "refused"], 1),
        ("triton", [], 1),
    ],
)
def test_searches_may_fail_only_while_what_answers_them_is_away(victim: str, problems: list[str], faults: int) -> None:
    outcome = kills.Outcome("a kill", "publish", victim, -9)
    case = Case("a kill", "publish", victim, "x:y")  # type: ignore[arg-type]
    kills._judge_service(outcome, case, [Asked(float(at), "", 5.0, problem) for at, problem in enumerate(problems)])
    assert len(outcome.faults) == faults


def test_a_run_without_kills_proves_nothing() -> None:
    assert not kills.passed(kills.report([], 1.0))
    assert kills.passed(kills.report([kills.Outcome("a", "publish", "self", -9)], 1.0))
    assert not kills.passed(kills.report([kills.Outcome("a", "publish", "self", -9, faults=["left over"])], 1.0))
