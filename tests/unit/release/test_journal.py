"""Who made which release the active one is written down once, whole, also when a kill comes between any two steps."""

from pathlib import Path

import pytest

from twinline.contract.errors import MismatchError
from twinline.release.journal import Act, Journal, Promotion, history, way_back, who


def promotion(kind: Act, before: str, release: str) -> Promotion:
    return Promotion("2026-05-01T00:00:00.000+00:00", before, release, kind, "ada@host")


A = promotion("promote", "", "a")
B = promotion("promote", "a", "b")


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.read() == []
    for entry in (A, B):
        journal.append(entry)
    assert Journal(tmp_path).read() == [A, B]


def test_a_line_that_a_kill_cut_off_was_never_there_and_the_next_one_is_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(A)
    with (tmp_path / "promotions.jsonl").open("ab") as file:
        file.write(B.line().encode()[:20])
    assert journal.read() == [A]
    journal.append(B)
    assert journal.read() == [A, B]


def test_a_whole_line_that_is_no_promotion_is_an_error_and_names_its_place(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(A)
    with (tmp_path / "promotions.jsonl").open("ab") as file:
        file.write(b'{"release": "b"}\n')
    with pytest.raises(MismatchError, match=r"promotions\.jsonl:2"):
        journal.read()


@pytest.mark.parametrize(
    ("written", "intent", "active", "added"),
    [
        # nothing was ever active
        ([], None, "", None),
        # all is as it should be
        ([A], None, "a", None),
        # killed before the alias was renamed: the intent came to nothing
        ([A], B, "a", None),
        # killed after it: the switch is recorded as what it was, by whom it was
        ([A], B, "b", B),
        # killed after the line and before the intent was forgotten
        ([A, B], B, "b", None),
    ],
)
def test_the_journal_is_settled_by_the_alias(
    tmp_path: Path, written: list[Promotion], intent: Promotion | None, active: str, added: Promotion | None
) -> None:
    journal = Journal(tmp_path)
    for entry in written:
        journal.append(entry)
    if intent:
        journal.intend(intent)
    assert journal.settle(active, "ada@host") == added
    assert journal.read() == written + ([added] if added else [])
    assert journal.settle(active, "ada@host") is None
    # what came about is unfinished until somebody says so, what did not is forgotten
    assert journal.unfinished(active) == (intent if intent and intent.release == active else None)
    journal.finish()
    assert [path.name for path in tmp_path.iterdir() if "intent" in path.name] == []


def test_a_change_that_nobody_wrote_down_is_a_repair(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(A)
    journal.intend(B)
    found = journal.settle("c", "ada@host")
    assert found is not None
    assert (found.kind, found.before, found.release) == ("repair", "a", "c")


@pytest.mark.parametrize(
    ("entries", "stack"),
    [
        ([], []),
        ([A, B], ["a", "b"]),
        # gone back: the next roll-back goes further back, not forth again
        ([A, B, promotion("rollback", "b", "a")], ["a"]),
        ([A, B, promotion("rollback", "b", "a"), B], ["a", "b"]),
        # back over two
        ([A, B, promotion("promote", "b", "c"), promotion("rollback", "c", "a")], ["a"]),
        # the same one again is one
        ([A, promotion("repair", "a", "a")], ["a"]),
    ],
)
def test_a_roll_back_takes_away_what_it_went_back_over(entries: list[Promotion], stack: list[str]) -> None:
    assert history(entries) == stack


def test_the_way_back_names_each_release_once_nearest_first() -> None:
    entries = [A, B, promotion("promote", "b", "a"), promotion("promote", "a", "c")]
    assert way_back(entries, "c") == ["a", "b"]
    assert way_back(entries, "a") == ["b"]
    assert way_back([], "a") == []


def test_a_dag_signs_with_its_run_and_a_person_with_user_and_host() -> None:
    assert who({"AIRFLOW_CTX_DAG_ID": "release_encoder", "AIRFLOW_CTX_DAG_RUN_ID": "manual__1"}) == (
        "airflow release_encoder manual__1"
    )
    assert "@" in who({})
