"""One's own questions asked of a running search: not worse, worse, undecided or not measured, and never silently green."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from twinline.__main__ import build_app
from twinline.clients.questions import Question
from twinline.clients.run import VerdictError, exit_code
from twinline.clients.store.protocol import StoredPoint
from twinline.commands.questions import _ask as ask_search
from twinline.contract.documents.ids import point_id
from twinline.contract.errors import ContractError, SettingsError, TransientError
from twinline.contract.release.checks import UndecidedError
from twinline.search import client
from twinline.search.client import SearchClient
from twinline.upkeep.questions import baseline as kept
from twinline.upkeep.questions import labels
from twinline.upkeep.questions.baseline import CHANGED, GONE, JUDGED_OTHERWISE, NEW, compare, misfits, read_baseline
from twinline.upkeep.questions.measure import Measured, by_question, document_id, measure
from twinline.upkeep.questions.sweep import AS_SERVED, MOST_TRIALS, Trial, halves, sweep, trials

PLACE = "questions.jsonl"


def judged(count: int) -> list[Question]:
    return [Question(f"question {number}", "s", f"k{number}") for number in range(count)]


def answer(text: str, rank: int, **fields: Any) -> dict[str, Any]:
    """Return a result with the judged document at a rank; 0: not at all."""
    number = text.split()[1]
    keys = [f"other{place}" for place in range(10)]
    if rank:
        keys[rank - 1] = f"k{number}"
    hits = [{"source": "s", "key": key} for key in keys]
    return {"release": "r1", "collection": "documents_r1", "mode": "hybrid", "note": "", "hits": hits, **fields}


def run_at(ranks: Sequence[int], digest: str = "same", settings: Mapping[str, Any] | None = None) -> Measured:
    asked = by_question(judged(len(ranks)), PLACE)

    def answers(texts: Sequence[str]) -> list[dict[str, Any]]:
        return [answer(text, ranks[int(text.split()[1])]) for text in texts]

    run = measure(asked, answers, settings or {"mode": "hybrid", "exact": False})
    return replace(run, documents={document: digest for one in asked.values() for document in one.grades})


def baseline_of(run: Measured, folder: Path) -> kept.Baseline:
    kept.write_baseline(folder / "baseline.json", run)
    return read_baseline(folder / "baseline.json")


@pytest.mark.parametrize(
    ("before", "now", "margin", "outcome"),
    [
        ([1] * 30, [1] * 30, 0.02, "not worse"),
        # equal answers are within a margin of nothing
        ([1] * 30, [1] * 30, 0.0, "not worse"),
        ([3] * 30, [1] * 30, 0.0, "not worse"),
        ([1] * 30, [2] * 30, 0.02, "worse"),
        ([1] * 30, [2] * 30, 0.4, "not worse"),
        ([1] * 30, [0] * 30, 0.4, "worse"),
        # one of thirty lost: the interval reaches below the margin
        ([1] * 30, [0, *[1] * 29], 0.02, "worse"),
        ([1] * 200, [2, *[1] * 199], 0.02, "not worse"),
        # up here and down there: it may be worse
        ([1, 2] * 15, [2, 1] * 15, 0.02, "worse"),
        ([0] * 30, [0] * 30, 0.0, "not worse"),
        # too few to say anything, however clear it looks
        ([1] * 29, [1] * 29, 0.02, "undecided"),
        ([1] * 29, [0] * 29, 0.02, "undecided"),
        ([0], [1], 0.02, "undecided"),
    ],
)
def test_a_run_is_not_worse_worse_or_undecided(
    tmp_path: Path, before: list[int], now: list[int], margin: float, outcome: str
) -> None:
    found = compare(run_at(now), baseline_of(run_at(before), tmp_path), margin)
    assert found.outcome == outcome
    assert found.compared == len(now)
    assert found == compare(run_at(now), baseline_of(run_at(before), tmp_path), margin)  # the same each time


@pytest.mark.parametrize(
    ("questions", "margin", "most"),
    [(30, 0.02, 0), (50, 0.02, 0), (100, 0.02, 2), (200, 0.02, 5), (30, 0.05, 1), (50, 0.05, 2), (100, 0.05, 7), (200, 0.05, 19)],
)
def test_so_many_questions_may_fall_to_the_second_place(tmp_path: Path, questions: int, margin: float, most: int) -> None:
    known = baseline_of(run_at([1] * questions), tmp_path)
    falls = [compare(run_at([2] * fall + [1] * (questions - fall)), known, margin).outcome for fall in (most, most + 1)]
    # the table of docs/decisions/search-settings.md, where the questions that fall are the first by name
    assert falls == ["not worse", "worse"]


def test_equal_runs_write_equal_bytes_and_a_baseline_comes_back_as_it_was(tmp_path: Path) -> None:
    run = run_at([1, 2, 0])
    kept.write_baseline(tmp_path / "a", run)
    kept.write_baseline(tmp_path / "b", run_at([1, 2, 0]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    back = read_baseline(tmp_path / "a")
    assert (back.release, back.mode, back.settings) == ("r1", "hybrid", {"mode": "hybrid", "exact": False})
    assert back.values == run.values
    assert back.questions == run.asked
    assert back.documents == run.documents


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.pop("release"),
        lambda value: value.update(schema=2),
        lambda value: value.update(more=1),
        lambda value: value.update(values={}),
        lambda value: value["values"].update({"asked-x": {"ndcg_at_10": 1.0}}),
        lambda value: next(iter(value["values"].values())).pop("mrr_at_10"),
        lambda value: next(iter(value["values"].values())).update(ndcg_at_10="1"),
        lambda value: next(iter(value["values"].values())).update(ndcg_at_10=2),
        lambda value: next(iter(value["questions"].values())).update(grades=["k"]),
        lambda value: next(iter(value["questions"].values())).pop("text"),
        lambda value: value.update(documents=5),
        lambda value: value.clear(),
    ],
)
def test_a_file_that_is_no_baseline_is_refused(tmp_path: Path, damage: Any) -> None:
    kept.write_baseline(tmp_path / "b.json", run_at([1, 2]))
    value = json.loads((tmp_path / "b.json").read_bytes())
    damage(value)
    (tmp_path / "b.json").write_text(json.dumps(value))
    with pytest.raises(ContractError, match=r"b\.json.*write it again") as caught:
        read_baseline(tmp_path / "b.json")
    assert exit_code(caught.value) == 3


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"schema": NaN}'])
def test_bytes_that_are_no_baseline_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.json").write_bytes(content)
    with pytest.raises(ContractError, match="no baseline of this version"):
        read_baseline(tmp_path / "b.json")


def test_a_baseline_that_is_not_there_is_a_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--write-baseline"):
        read_baseline(tmp_path / "none.json")
    with pytest.raises(SettingsError, match="name another file"):
        kept.write_baseline(tmp_path / "no-folder" / "b.json", run_at([1]))


def test_a_judged_document_that_is_gone_or_changed_is_left_out_and_named(tmp_path: Path) -> None:
    before, now = run_at([1] * 34), run_at([1, 0, 0, *[1] * 31])
    names = [document_id("s", f"k{number}") for number in range(34)]
    assert now.documents is not None
    now = replace(now, documents={**now.documents, names[1]: "", names[2]: "another"})
    known = baseline_of(before, tmp_path)
    assert misfits(now, known) == {names[1]: GONE, names[2]: CHANGED}
    found = compare(now, known, 0.02)
    # both were lost, and neither says anything about the settings
    assert (found.outcome, found.compared, sorted(found.left_out.values())) == ("not worse", 32, sorted([GONE, CHANGED]))


def test_a_document_that_came_back_has_changed_too(tmp_path: Path) -> None:
    known = baseline_of(run_at([0] * 30, digest=""), tmp_path)
    assert set(misfits(run_at([1] * 30), known).values()) == {CHANGED}
    assert compare(run_at([1] * 30), known, 0.02).outcome == "undecided"


def test_what_nobody_could_look_up_is_not_called_fit_or_unfit(tmp_path: Path) -> None:
    run = replace(run_at([1] * 30), documents=None)
    assert misfits(run, baseline_of(run_at([1] * 30), tmp_path)) == {}
    assert kept.to_json(run, None, {})["labels"] == {"checked": False, "unfit": {}}
    assert baseline_of(run, tmp_path).documents is None


def test_labels_that_leave_too_few_questions_are_undecided(tmp_path: Path) -> None:
    known = baseline_of(run_at([1] * 30), tmp_path)
    now = run_at([1] * 30)
    assert now.documents is not None
    now = replace(now, documents={**now.documents, document_id("s", "k7"): ""})
    assert compare(now, known, 0.02).outcome == "undecided"


def test_only_questions_with_the_same_judgements_are_compared(tmp_path: Path) -> None:
    known = baseline_of(run_at([1] * 31), tmp_path)
    more = [*judged(31), Question("question 0", "s", "second"), Question("question 99", "s", "k99")][1:]
    asked = by_question(more, PLACE)
    run = measure(asked, lambda texts: [answer(text, 1) for text in texts], {})
    found = compare(run, known, 0.02)
    assert sorted(found.left_out.values()) == sorted([JUDGED_OTHERWISE, NEW])
    assert (found.compared, found.dropped) == (30, ())
    fewer = measure(by_question(judged(30), PLACE), lambda texts: [answer(text, 1) for text in texts], {})
    assert len(compare(fewer, known, 0.02).dropped) == 1


def test_without_a_common_question_nothing_is_computed_and_nothing_is_green(tmp_path: Path) -> None:
    known = baseline_of(run_at([1]), tmp_path)
    other = measure(by_question([Question("else 5", "s", "k5")], PLACE), lambda texts: [answer(text, 1) for text in texts], {})
    found = compare(other, known, 0.02)
    assert (found.outcome, found.compared, found.intervals) == ("undecided", 0, {})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([{}, {"release": "r2", "collection": "documents_r2"}], "release changed"),
        # words alone are not what people get
        ([{}, {"mode": "words", "note": "the encoder is away, so words alone were searched"}], "the encoder is away"),
        ([{"note": "x"}, {"note": "x"}], "nothing was measured"),
    ],
)
def test_answers_that_are_not_of_one_kind_are_not_measured(fields: list[dict[str, Any]], words: str) -> None:
    asked = by_question(judged(2), PLACE)
    with pytest.raises(TransientError, match=words):
        measure(asked, lambda texts: [answer(text, 1, **more) for text, more in zip(texts, fields, strict=True)], {})


def test_a_question_counts_once_with_all_of_its_documents() -> None:
    asked = by_question([Question("q 1", "s", "a", 2), Question(" q  1", "s", "b"), Question("q 2", "t", "a")], PLACE)
    assert [dict(one.grades) for one in asked.values() if len(one.grades) == 2] == [{'["s","a"]': 2, '["s","b"]': 1}]
    assert len(asked) == 2
    with pytest.raises(SettingsError, match="twinline questions add"):
        by_question([], PLACE)


class Points:
    """The chunks of documents, a page of two at a time."""

    def __init__(self, **texts: Sequence[str]) -> None:
        self.texts = texts

    def points(
        self, name: str, *, source: str | None = None, key: str | None = None, kind: str | None = None, offset: Any = None
    ) -> tuple[list[StoredPoint], Any]:
        assert (name, source, kind) == ("documents_r1", "s", "chunk")
        found = [
            StoredPoint(point_id("s", str(key), index), {"title": "A title", "text": text})
            for index, text in enumerate(self.texts.get(str(key), ()))
        ]
        start = next((place for place, point in enumerate(found) if point.id == offset), 0)
        return found[start : start + 2], found[start + 2].id if len(found) > start + 2 else None


def digest_of(*chunks: str) -> str:
    return labels.digests(Points(k=chunks), "documents_r1", [document_id("s", "k")])[document_id("s", "k")]


@pytest.mark.parametrize(
    ("chunks", "same"),
    [
        (("one two three four",), True),
        (("one two three four", "three four"), True),  # another chunker, with overlap
        (("one two", "three", "four"), True),
        (("one  two\nthree", "four"), True),  # white space
        (("one two three",), False),
        (("one two three four five",), False),
        (("one two three Four",), False),
        (("one two not three four",), False),
        (("one two", "three", "fourth"), False),
    ],
)
def test_a_digest_is_of_the_text_and_not_of_how_it_was_cut(chunks: tuple[str, ...], same: bool) -> None:
    assert (digest_of(*chunks) == digest_of("one two", "two three", "three four")) is same


def test_a_document_without_chunks_is_gone() -> None:
    assert digest_of() == ""


# The command


class Search:
    """Stands for the search API: a rank for every question."""

    ranks: Sequence[int] = ()
    failure: Exception | None = None


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("twinline.clients.settings.Settings.find_project", lambda _: tmp_path)

    def ask(asked: Any, settings: Mapping[str, Any], *_: str) -> Measured:
        if Search.failure:
            raise Search.failure
        run = measure(asked, lambda texts: [answer(text, Search.ranks[int(text.split()[1])]) for text in texts], settings)
        return replace(run, documents={document: "d" for one in asked.values() for document in one.grades})

    monkeypatch.setattr("twinline.commands.questions._ask", ask)
    monkeypatch.setattr(Search, "failure", None)
    return tmp_path


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(build_app(["questions"]), ["questions", *arguments])


def ask_for(project: Path, ranks: Sequence[int], *arguments: str) -> Any:
    Search.ranks = ranks
    lines = [json.dumps({"question": one.question, "source": one.source, "key": one.key}) for one in judged(len(ranks))]
    (project / PLACE).write_text("\n".join(lines))
    return invoke("run", *arguments)


def test_a_baseline_is_written_and_holds_the_next_run_to_it(project: Path) -> None:
    file = str(project / "baseline.json")
    assert ask_for(project, [1] * 30, "--write-baseline", file).exit_code == 0
    green = ask_for(project, [1] * 30, "--baseline", file, "--json")
    assert green.exit_code == 0
    assert json.loads(green.stdout)["outcome"] == "not worse"
    red = ask_for(project, [2] * 30, "--baseline", file, "--json")
    assert isinstance(red.exception, VerdictError)
    assert exit_code(red.exception) == 1
    assert json.loads(red.stdout)["comparison"]["intervals"]["ndcg_at_10"]["high"] < 0
    # a worse run replaces no baseline
    before = Path(file).read_bytes()
    assert ask_for(project, [2] * 30, "--baseline", file, "--write-baseline", file).exit_code == 1
    assert Path(file).read_bytes() == before
    assert ask_for(project, [1] * 30, "--baseline", file, "--write-baseline", file).exit_code == 0


def test_too_few_questions_are_refused_as_undecided(project: Path) -> None:
    file = str(project / "baseline.json")
    ask_for(project, [1] * 29, "--write-baseline", file)
    found = ask_for(project, [1] * 29, "--baseline", file, "--json")
    assert isinstance(found.exception, UndecidedError)
    assert exit_code(found.exception) == 3
    assert found.exception.checks[0].numbers["outcome"] == "undecided"
    assert found.stdout == ""  # the object is that of the refusal


def test_a_search_that_is_away_is_not_a_verdict(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "failure", TransientError("no search service answers"))
    found = ask_for(project, [1])
    assert found.exit_code == 2
    assert "could not be measured: no search service answers" in found.output


def test_a_person_sees_the_numbers_and_the_warnings(project: Path) -> None:
    file = str(project / "baseline.json")
    ask_for(project, [1] * 31, "--write-baseline", file)
    (project / "baseline.json").write_text((project / "baseline.json").read_text().replace('"d"', '"e"', 1))
    found = " ".join(ask_for(project, [1] * 31, "--baseline", file).output.split())
    assert f"warning: {CHANGED}" in found
    assert "ndcg_at_10" in found
    assert "on 30 questions; not worse by more than 0.02" in found
    alone = ask_for(project, [1, 0])
    assert (alone.exit_code, "2 questions, release r1, hybrid" in " ".join(alone.output.split())) == (0, True)


class Door(Points):
    """Stands for the admin door: answers trials, and has the judged documents."""

    def __init__(self, count: int) -> None:
        super().__init__(**{f"k{number}": ("a text",) for number in range(count)})
        self.trials: list[tuple[str, Mapping[str, Any]]] = []
        self.mode = "hybrid"
        self.active: str | None = "documents_r1"

    def status(self) -> Any:
        return SimpleNamespace(active=self.active)

    def trial(self, name: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        self.trials.append((name, fields))
        # seventy percent of vectors is the best here
        rank = 1 if fields.get("dense_percent") == 70 else 2
        return answer(fields["query"], rank, collection=name, release=name.removeprefix("documents_"), mode=self.mode)

    def close(self) -> None: ...


@pytest.fixture
def door(project: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door(60)
    monkeypatch.setattr("twinline.commands.questions._admin", lambda: door)
    lines = [json.dumps({"question": one.question, "source": one.source, "key": one.key}) for one in judged(60)]
    (project / PLACE).write_text("\n".join(lines))
    return door


def test_a_release_that_is_not_active_yet_is_asked_at_the_door(
    project: Path, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("twinline.clients.settings.Settings.find_project", lambda _: project)
    monkeypatch.setattr("twinline.commands.questions._admin", lambda: door)
    found = json.loads(invoke("run", "--release", "r1", "--mode", "dense", "--exact", "--json").stdout)
    assert (found["questions"], found["means"]["mrr_at_10"], found["outcome"]) == (60, 0.5, "not compared")
    assert found["labels"] == {"checked": True, "unfit": {}}
    assert {name for name, _ in door.trials} == {"documents_r1"}
    assert {(fields["mode"], fields["exact"], fields["limit"]) for _, fields in door.trials} == {("dense", True, 10)}
    assert isinstance(invoke("run", "--release", "r1", "--url", "http://search").exception, SettingsError)


def test_the_search_api_is_asked_with_the_settings_and_without_the_door_where_it_is_another_one(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Mapping[str, Any]] = []

    def forward(request: httpx.Request) -> httpx.Response:
        fields = json.loads(request.content)
        seen.append({"host": request.url.host, **fields})
        hit = {
            "point": str(point_id("s", "k0", 0)), "source": "s", "key": "k0", "title": "t", "score": 1.0, "highlights": [],
            "chunk": {"index": 0, "start": 0, "end": 1, "text": "x"}, "metadata": {}, "tenant": None,
            "version": {"kind": "explicit", "number": 1, "offset": 0, "partition": None},
            "lineage": {
                "release": "r1", "space": "s", "contract": "c", "content_hash": "h", "ingest": {}, "training": {},
                "kafka": {"partition": 0, "offset": 0, "timestamp_ms": 0},
            },
        }  # fmt: skip
        found = {"query": fields["query"], "release": "r1", "space": "s", "collection": "documents_r1", "hits": [hit]}
        return httpx.Response(200, json={**found, "timings": {"embed_ms": 0, "search_ms": 0, "total_ms": 0}, "mode": "words"})

    monkeypatch.setattr(client, "SearchClient", partial(SearchClient, transport=httpx.MockTransport(forward)))
    asked = by_question(judged(3), PLACE)
    run = ask_search(asked, {"mode": "words", "exact": False}, "", "http://elsewhere:1")
    assert (run.mode, run.documents) == ("words", None)
    assert sorted(values["mrr_at_10"] for values in run.values.values()) == [0.0, 0.0, 1.0]
    assert {(one["host"], one["mode"], one["limit"], one["exact"]) for one in seen} == {("elsewhere", "words", 10, False)}
    assert door.trials == []
    here = ask_search(asked, {"mode": "words", "exact": False}, "", "")
    assert here.documents is not None
    assert set(here.documents) == {document_id("s", f"k{number}") for number in range(3)}


def test_settings_are_tried_at_the_door_and_confirmed_on_the_other_half(door: Door) -> None:
    found = invoke("try", "--fusion", "scores:30,70", "--ef", "64", "--json")
    said = json.loads(found.stdout)
    assert (found.exit_code, said["outcome"], said["confirmed_on"]) == (0, "better", 30)
    assert said["chosen"] == "scores dense=70%"
    assert [row["name"] for row in said["rows"]][:2] == [AS_SERVED, "ef=64"]
    assert ("documents_r1", {"query": "question 7", "limit": 10, "mode": "hybrid"}) in door.trials
    both = {"rule": "scores", "dense_percent": 70, "ef_search": 64}
    assert ("documents_r1", {"query": "question 7", "limit": 10, "mode": "hybrid", **both}) in door.trials
    assert "is better than the settings as served" in " ".join(invoke("try", "--fusion", "scores:30,70").output.split())
    invoke("try", "--ef", "64", "--release", "r2")
    assert door.trials[-1][0] == "documents_r2"


def test_a_fusion_that_nothing_uses_is_not_measured(door: Door) -> None:
    door.mode = "dense"
    found = invoke("try", "--fusion", "ranks:60")
    assert isinstance(found.exception, SettingsError)
    assert "answers in mode `dense`" in str(found.exception)
    assert invoke("try", "--fusion", "dense").exit_code == 0
    door.active = None
    assert "no release is active" in str(invoke("try", "--ef", "64").exception)


# Other settings


@pytest.mark.parametrize(
    ("fusions", "efs", "depths", "exact", "names"),
    [
        (["scores:40,60"], "", "", False, [AS_SERVED, "scores dense=40%", "scores dense=60%"]),
        (["ranks:10", "dense"], "", "", False, [AS_SERVED, "ranks k=10", "dense"]),
        ([], "64,128", "", False, [AS_SERVED, "ef=64", "ef=128"]),
        ([], "64,64", "", True, [AS_SERVED, "ef=64", "exact"]),
        (["scores"], "", "20", False, [AS_SERVED, "depth=20", "scores dense=50%", "scores dense=50% depth=20"]),
    ],
)
def test_every_combination_is_tried_after_the_settings_as_served(
    fusions: list[str], efs: str, depths: str, exact: bool, names: list[str]
) -> None:
    found = trials(fusions, efs, depths, exact=exact)
    assert [trial.name for trial in found] == names
    assert found[0].fields == {}


@pytest.mark.parametrize(
    ("fusions", "efs", "depths", "words"),
    [
        ([], "", "", "nothing to try"),
        (["best"], "", "", "the rule is one of"),
        (["dense:5"], "", "", "has no numbers"),
        (["scores:half"], "", "", "whole numbers"),
        (["scores:40,,50"], "", "", "whole numbers"),
        (["scores:101"], "", "", "from 0 to 100"),
        (["ranks:-1"], "", "", "k is -1"),
        ([], "64;128", "", "whole numbers"),
        ([], "", "1.5", "whole numbers"),
        ([], ",".join(map(str, range(1, MOST_TRIALS + 1))), "", "at most 64"),
    ],
)
def test_settings_that_do_not_exist_are_refused(fusions: list[str], efs: str, depths: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        trials(fusions, efs, depths, exact=False)


def test_the_halves_are_the_same_each_time_and_share_nothing() -> None:
    names = list(by_question(judged(61), PLACE))
    choosing, confirming = halves(names)
    assert (len(choosing), len(confirming)) == (31, 30)
    assert {*choosing, *confirming} == set(names)
    assert halves(names[::-1]) == (choosing, confirming)


@pytest.mark.parametrize(
    ("ranks", "outcome", "chosen"),
    [
        ({AS_SERVED: [2] * 60, "a": [1] * 60, "b": [3] * 60}, "better", "a"),
        ({AS_SERVED: [1] * 60, "a": [1] * 60, "b": [3] * 60}, "served is best", AS_SERVED),
        ({AS_SERVED: [2] * 59, "a": [1] * 59}, "undecided", "a"),
        ({AS_SERVED: [2] * 5, "a": [1] * 5}, "undecided", "a"),
        ({AS_SERVED: [2], "a": [1]}, "undecided", "a"),
    ],
)
def test_the_half_that_did_not_choose_confirms(ranks: dict[str, list[int]], outcome: str, chosen: str) -> None:
    found = sweep([Trial(name, {}) for name in ranks], lambda trial: run_at(ranks[trial.name]))
    assert (found.outcome, found.chosen) == (outcome, chosen)
    assert [row.name for row in found.rows] == list(ranks)
    assert json.dumps(found.to_json())
    assert found.sentence()


def test_a_best_by_chance_is_not_confirmed() -> None:
    asked = by_question(judged(60), PLACE)
    choosing, _ = halves(list(asked))
    ranks = [1 if any(asked[one].text == f"question {number}" for one in choosing) else 2 for number in range(60)]
    # it wins the half that chooses, and loses as much on the other
    served = [3 - rank for rank in ranks]
    assert sum(ranks) == sum(served)
    found = sweep([Trial(AS_SERVED, {}), Trial("a", {})], lambda trial: run_at(served if trial.name == AS_SERVED else ranks))
    assert (found.chosen, found.outcome) == ("a", "not better")
