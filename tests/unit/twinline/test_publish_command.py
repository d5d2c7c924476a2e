"""`twinline publish` as a person calls it: what it takes, what it refuses, and how it ends."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.etl.memory_log import Log, published_in_memory
from twinline import __main__ as entry
from twinline.clients.run import DONE, REFUSED, USED_WRONGLY, exit_code
from twinline.contract.documents.records import Deletion
from twinline.contract.errors import TwinlineError


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Log:
    monkeypatch.setenv("TWINLINE_HOME", str(tmp_path / "var"))
    monkeypatch.chdir(tmp_path)
    return published_in_memory(monkeypatch)


def call(*arguments: str, stdin: str = "") -> tuple[int, str]:
    """Return exit code and output of one call."""
    done = CliRunner().invoke(entry.build_app(["publish"]), ["publish", *arguments], input=stdin)
    if isinstance(done.exception, TwinlineError):
        return exit_code(done.exception), f"{done.output}{done.exception}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_folders_of_equal_files_are_two_sources_and_the_line_names_them(log: Log) -> None:
    write("server/README.md", "# Install\n\naardvark")
    write("client/README.md", "# Install\n\nzebra")

    server, client = call("server"), call("client")

    assert server == (DONE, "published 1 documents to documents, 0 deletions, 0 unchanged; source server\n")
    assert client == (DONE, "published 1 documents to documents, 0 deletions, 0 unchanged; source client\n")
    assert {(item.source, item.key) for item in log.items()} == {("server", "README.md"), ("client", "README.md")}


def test_the_working_folder_is_published_by_its_own_name(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    write("docs/a.md", "# A\n\na")
    monkeypatch.chdir("docs")

    assert call(".") == (DONE, "published 1 documents to documents, 0 deletions, 0 unchanged; source docs\n")
    code, shown = call(".", ".")
    assert code == DONE
    assert "0 deletions, 1 unchanged" in shown
    assert ". was named twice, and is read once" in shown


# Options that would do nothing, and calls that say too little, are refused by name.
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say what to publish"),
        (["docs", "--source", "files:docs"], "say what to publish"),
        (["docs", "--version", "3"], "--version would do nothing here: it goes with --delete"),
        (["docs", "--delete-missing"], "--delete-missing would do nothing here: it goes with --source"),
        (["docs", "--yes-delete", "5"], "--yes-delete would do nothing here: it goes with --delete-missing"),
        (["--source", "files:docs", "--name", "kb"], "--name would do nothing here: .*NAME=KIND:LOCATION"),
        (["--source", "files:docs", "--yes-delete", "5"], "--yes-delete would do nothing here"),
        (["--delete", "a.md", "--name", "docs", "--moved"], "--moved would do nothing here"),
        (["docs", "--dry-run", "--wait"], "--wait would do nothing here"),
        (["--delete", "a.md"], "say which with --name SOURCE"),
        (["docs", "--name", "my docs"], "--name: the name 'my docs' must be .*: say my-docs"),
        (["-", "--name", "a/b"], "--name: the name 'a/b'"),
        (["-", "docs"], "`-` is standard input"),
        (["nowhere"], "there is nothing at .*nowhere"),
        (["x" * 5000], "there is nothing at"),
        (["--source", "my docs=files:docs"], "the name 'my docs'"),
        (["--source", "kafka:documents"], "a topic is not published to itself"),
        (["docs", "--nmae", "kb"], "No such option"),
    ],
)
def test_a_call_that_would_not_do_what_it_says_is_used_wrongly(log: Log, arguments: list[str], words: str) -> None:
    write("docs/a.md", "# A\n\na")

    code, shown = call(*arguments)

    assert code == USED_WRONGLY
    assert re.search(words, shown), shown
    assert log.messages == []


def test_another_folder_of_the_same_name_ends_the_call_with_its_remedies(log: Log) -> None:
    write("a/docs/x.md", "# X\n\nx")
    write("b/docs/x.md", "# X\n\nother")
    assert call("a/docs")[0] == DONE

    code, shown = call("b/docs")

    assert code == USED_WRONGLY
    assert "/a/docs" in shown
    assert "--name" in shown
    assert (call("b/docs", "--name", "b-docs")[0], call("b/docs", "--moved")[0]) == (DONE, DONE)


def test_a_publication_of_which_nothing_could_be_taken_is_refused(log: Log) -> None:
    write("d/t.csv", "id,words\n1,open\n")

    code, shown = call("d")

    assert code == REFUSED
    assert "holds no document (missing_column 1)" in shown
    assert call("-", "--name", "s", stdin='{"key": 5}\n')[0] == REFUSED
    assert call("-", "--name", "s", stdin="")[0] == DONE, "nothing was there, and nothing was lost"


def test_deletions_by_absence_are_listed_limited_and_done(log: Log) -> None:
    for number in range(30):
        write(f"d/{number:02}.md", f"# {number}\n\ntext")
    call("--source", "files:d")
    for number in range(12):
        Path(f"d/{number:02}.md").unlink()

    listed = call("--source", "files:d", "--delete-missing", "--yes-delete", "12", "--dry-run")
    refused = call("--source", "files:d", "--delete-missing")
    done = call("--source", "files:d", "--delete-missing", "--yes-delete", "12")

    assert listed[0] == DONE
    assert "delete [d, 00.md]\n" in listed[1]
    assert "would publish 0 documents to documents, 12 deletions, 18 unchanged" in listed[1]
    assert refused[0] == REFUSED
    assert "say --yes-delete 12" in refused[1]
    assert done[0] == DONE
    assert sum(isinstance(item, Deletion) for item in log.items()) == 12


def test_a_deletion_by_key_takes_the_next_version(log: Log) -> None:
    call("-", "--name", "vv", stdin=json.dumps({"key": "ver", "text": "a versioned armadillo", "version": 7}))

    code, shown = call("--name", "vv", "--delete", "ver")

    assert (code, shown) == (DONE, "published 0 documents to documents, 1 deletions, 0 unchanged; source vv\n")
    assert log.items()[-1] == Deletion("vv", "ver", 8)


def test_a_source_with_any_name_can_be_deleted_from(log: Log) -> None:
    call("-", stdin=json.dumps({"source": "my docs", "key": "k", "text": "x"}))

    assert call("--name", "my docs", "--delete", "k")[0] == DONE
    assert log.items()[-1] == Deletion("my docs", "k")
