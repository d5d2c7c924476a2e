"""How much changed between two snapshots is counted by keys and content; too little is no reason to train."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etl.__main__ import app
from etl.changes import count_changes
from etl.ingest import ingest
from etl.snapshots import store_snapshot
from tests.unit.etl.factories import ListSource
from twinline.contract.documents.records import Document
from twinline.upkeep.training.changed import decide


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWINLINE_HOME", str(tmp_path))
    return tmp_path / "snapshots"


def snapshot(store: Path, texts: Mapping[str, str]) -> str:
    out = store.parent / "out"
    found = ingest(ListSource([Document("list", key, text) for key, text in texts.items()]), out, max_reject_share=0)
    store_snapshot(out, store)
    return found.id


OLD = {str(number): f"text {number}" for number in range(10)}


@pytest.mark.parametrize(
    ("new", "counts", "share"),
    [
        (OLD, (0, 0, 0), 0.0),
        ({**OLD, "10": "a new one"}, (1, 0, 0), 0.1),
        ({**OLD, "3": "another text"}, (0, 1, 0), 0.1),
        ({key: text for key, text in OLD.items() if key != "3"}, (0, 0, 1), 0.1),
        # the same text under another key is one deleted and one added
        ({**{key: text for key, text in OLD.items() if key != "3"}, "x": "text 3"}, (1, 0, 1), 0.2),
        # more came than there was
        ({f"n{number}": "new" for number in range(20)}, (20, 0, 10), 3.0),
    ],
)
def test_added_changed_and_deleted_keys_are_counted(
    store: Path, new: dict[str, str], counts: tuple[int, int, int], share: float
) -> None:
    before, after = snapshot(store, OLD), snapshot(store, new)
    found = count_changes(store / before, store / after)
    assert (found.added, found.changed, found.deleted) == counts
    assert found.share == pytest.approx(share)
    assert (found.before, found.after) == (len(OLD), len(new))


def test_the_command_says_it_in_words_and_as_json(store: Path) -> None:
    before, after = snapshot(store, OLD), snapshot(store, {**OLD, "3": "another text"})
    shown = CliRunner().invoke(app, ["changed", "--since", before, "--snapshot", after])
    assert shown.exit_code == 0, shown.output
    assert "10.0% of 10 documents changed (0 added, 1 changed, 0 deleted)" in shown.output
    assert json.loads(shown.output.splitlines()[-1])["share"] == 0.1


def test_too_little_change_is_no_reason_to_train_and_says_the_figure(store: Path) -> None:
    before, after = snapshot(store, OLD), snapshot(store, {**OLD, "3": "another text"})
    assert "10.0% of 10 documents changed" in str(decide(store, before, after, 0.2)["skipped"])
    assert "skipped" not in decide(store, before, after, 0.1)


@pytest.mark.parametrize(
    ("trained_on", "min_share", "why"),
    [
        # by hand
        ("old", 0.0, "asked to train"),
        (None, 0.5, "no encoder is in production yet"),
        ("", 0.5, "was not trained on a snapshot"),
        # it lies on another machine
        ("s000000000000", 0.5, "not compared"),
    ],
)
def test_what_cannot_be_compared_is_trained_on_and_says_why(
    store: Path, trained_on: str | None, min_share: float, why: str
) -> None:
    before = snapshot(store, OLD)
    decided = decide(store, before if trained_on == "old" else trained_on, before, min_share)
    assert why in str(decided["why"])
    assert "skipped" not in decided
