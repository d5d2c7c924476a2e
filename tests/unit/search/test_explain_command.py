"""`twinline explain`: the reason first, both ranks, words had and lacked; the service's own JSON for a program."""

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

import twinline.commands.explain as explain_command
from tests.unit.search.conftest import World
from twinline.__main__ import build_app
from twinline.commands import search as search_command
from twinline.contract.errors import SettingsError, TransientError
from twinline.search.exchange import EXPLAIN_PATH


def served_by(world: World) -> httpx.BaseTransport:
    def handler(request: httpx.Request) -> httpx.Response:
        answer = world.client.post(request.url.path, content=request.content, headers={"Content-Type": "application/json"})
        return httpx.Response(answer.status_code, content=answer.content, headers={"Content-Type": "application/json"})

    return httpx.MockTransport(handler)


def run(monkeypatch: pytest.MonkeyPatch, world: World, *options: str) -> Any:
    post = search_command.post
    monkeypatch.setattr(
        explain_command, "post", lambda url, path, fields, always: post(url, path, fields, always, served_by(world))
    )
    arguments = ["explain", *options, "--url", "http://search"]
    return CliRunner().invoke(build_app(arguments), arguments, env={"COLUMNS": "200"})


def test_a_person_sees_the_reason_first_then_both_sides(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    done = run(monkeypatch, world, "dogs run", "--document", "cats", "--limit", "1")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("[notes, cats] ranks below the last of 1 hits, it lacks")
    text = " ".join(done.output.split())
    for part in (
        "Raise `limit`", "stored, explicit version 3, 1 chunks in documents_r1, mode dense", "does not read the log",
        "the last hit (no. 1, notes: dogs)", "best chunk, no. 0, characters 0 to 18: no. 3 by meaning", "cats sleep all day",
    ):  # fmt: skip
        assert part in text, part


def test_a_program_gets_the_explanation_as_the_service_gives_it(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    done = run(monkeypatch, world, "dogs run", "--document", "cats", "--source", "notes", "--tenant", "red", "--json")
    found = json.loads(done.output)
    body = {"question": {"query": "dogs run", "tenant": "red"}, "document": {"key": "cats", "source": "notes"}}
    assert found == world.client.post(EXPLAIN_PATH, json=body).json()
    assert (found["why"], found["conditions"]) == ("filtered", ["tenant 'red'"])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--document", "cats"), "hit"),
        (("--document", "never"), "absent"),
        (("--document", "cats", "--within", "wiki"), "filtered"),
        (("--document", "cats", "--limit", "1"), "below"),
        (("--document", "dogs", "--limit", "1", "--exact"), "hit"),
        (("--document", "cats", "--mode", "dense", "--all-copies"), "hit"),
    ],
)
def test_options_of_the_search_are_options_here(
    monkeypatch: pytest.MonkeyPatch, world: World, options: tuple[str, ...], why: str
) -> None:
    assert json.loads(run(monkeypatch, world, "dogs run", *options, "--json").output)["why"] == why


def test_a_refusal_names_the_remedy(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    world.add("r1", "cats", "cats of the wiki", source="wiki")
    refused = run(monkeypatch, world, "cats", "--document", "cats")
    assert isinstance(refused.exception, SettingsError)
    assert "'notes', 'wiki'" in str(refused.exception)
    assert run(monkeypatch, world, "cats", "--document", "cats", "--source", "wiki").exit_code == 0
    world.store.active_name = None
    assert isinstance(run(monkeypatch, world, "cats", "--document", "cats").exception, TransientError)


def test_what_is_shown_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    world.add("r1", "k\x1b[31m", "cats \x1b[31m red")
    assert "\x1b" not in run(monkeypatch, world, "cats", "--document", "k\x1b[31m").output


@pytest.mark.parametrize(
    ("waiting", "words"),
    [
        ({"messages": 0, "newest": None, "complete": True}, "nothing newer of it"),
        ({"messages": 4, "newest": [2, 17], "complete": True}, "a newer message of it, 2/17"),
        ({"messages": 40_000, "newest": None, "complete": False}, "40,000 messages that are not indexed yet"),
    ],
)
def test_the_log_is_told_in_words(monkeypatch: pytest.MonkeyPatch, world: World, waiting: dict[str, Any], words: str) -> None:
    found = world.client.post(EXPLAIN_PATH, json={"question": {"query": "cats"}, "document": {"key": "cats"}}).json()
    monkeypatch.setattr(explain_command, "post", lambda *_: {**found, "waiting": waiting})
    arguments = ["explain", "cats", "--document", "cats", "--url", "http://search"]
    assert words in CliRunner().invoke(build_app(arguments), arguments, env={"COLUMNS": "200"}).output
