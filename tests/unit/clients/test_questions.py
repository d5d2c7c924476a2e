"""The project's own questions: a file that people add to, and that says where it is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from twinline.__main__ import build_app
from twinline.clients.questions import Question, add_question, is_asked, read_questions
from twinline.contract.errors import SettingsError


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(build_app(["questions"]), ["questions", *arguments])


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("twinline.clients.settings.Settings.find_project", lambda _: tmp_path)
    return tmp_path / "questions.jsonl"


def test_what_is_added_is_listed_with_who_and_when(file: Path) -> None:
    documents = ("--document", "docs/a.md", "--document", "docs/b.md")
    assert invoke("add", "how do I roll back?", *documents, "--grade", "2").exit_code == 0
    assert invoke("add", "wie geht das: „zurück“?", "--document", "c", "--source", "wiki").exit_code == 0
    listed = json.loads(invoke("list", "--json").output)["questions"]
    assert [(one["question"], one["source"], one["key"], one["grade"]) for one in listed] == [
        ("how do I roll back?", "files", "docs/a.md", 2),
        ("how do I roll back?", "files", "docs/b.md", 2),
        ("wie geht das: „zurück“?", "wiki", "c", 1),
    ]
    assert all("@" in one["by"] and one["on"].startswith("20") for one in listed)
    assert "2 questions, 3 judgements" in invoke("list").output
    # one line a judgement, readable in a review
    assert len(file.read_text("utf-8").splitlines()) == 3
    assert "„zurück“" in file.read_text("utf-8")


def test_adding_twice_is_adding_once_and_another_grade_replaces_the_first(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    assert add_question(file, Question("what?", "s", "k"))
    assert not add_question(file, Question("  what?\n", "s", "k"))  # the same words
    assert add_question(file, Question("what?", "s", "k", 3, "ann"))
    assert read_questions(file) == [Question("what?", "s", "k", 3, "ann")]


def test_a_question_has_one_id_whatever_document_answers_it() -> None:
    ids = {Question(text, "s", key).query_id for text in ("what?", " what? ") for key in "ab"}
    assert len(ids) == 1
    assert is_asked(ids.pop())
    assert not is_asked("n0123456789")
    assert Question("What?", "s", "a").query_id != Question("what?", "s", "a").query_id


def test_without_a_file_there_are_no_questions(tmp_path: Path) -> None:
    assert read_questions(tmp_path / "none.jsonl") == []
    (tmp_path / "empty.jsonl").write_text("\n\n")
    assert read_questions(tmp_path / "empty.jsonl") == []


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        "null",
        '{"question": "q"}',
        '{"question": "", "source": "s", "key": "k"}',
        '{"question": "  ", "source": "s", "key": "k"}',
        '{"question": "q", "source": 5, "key": "k"}',
        '{"question": "q", "source": "s", "key": null}',
        '{"question": "q", "source": "s", "key": "k", "grade": 0}',
        '{"question": "q", "source": "s", "key": "k", "grade": "1"}',
        '{"question": "q", "source": "s", "key": "k", "grade": true}',
        '{"question": "q", "source": "s", "key": "k", "grade": 2.0}',
        '{"question": "q", "source": "s", "key": "k", "rank": 1}',
        '{"question": "first", "source": "s", "key": "k", "grade": 2}',  # judged by the line above already
    ],
)
def test_a_line_that_is_no_judgement_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "first", "source": "s", "key": "k"}\n' + line + "\n")
    with pytest.raises(SettingsError, match="line 2"):
        read_questions(file)
