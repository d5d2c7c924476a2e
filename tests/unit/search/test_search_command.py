"""`twinline search`: readable for people, JSON for programs, clear words when nothing answers."""

import json
import socket
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

import twinline.commands.search as search_command
from twinline.__main__ import build_app
from twinline.contract.errors import SettingsError, TransientError

POINT = "9f0a5c1e-0000-5000-8000-000000000001"
ANSWER = {
    "query": "cats",
    "release": "r1",
    "hits": [
        {
            "point": POINT,
            "source": "notes", "key": "cats", "title": "On \x1b[31mcats", "score": 0.71, "highlights": [[0, 4]],
            "chunk": {"index": 0, "start": 0, "end": 18, "text": "cats sleep all day"},
            "version": {"kind": "explicit", "number": 3, "offset": 0}, "metadata": {}, "tenant": None,
            "lineage": {"release": "r1", "kafka": {"partition": 1, "offset": 42}, "training": {"snapshot": "s" * 64}},
        }
    ],
    "timings": {"embed_ms": 3.0, "search_ms": 1.0, "total_ms": 4.5},
}  # fmt: skip


def answering(status: int, body: Any) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(status, json=body))


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    monkeypatch.setattr(search_command, "ask", lambda url, fields: ANSWER)
    arguments = ["search", "cats", *options]
    result = CliRunner().invoke(build_app(arguments), arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_person_sees_score_text_and_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    output = " ".join(run(monkeypatch).split())
    for part in ("0.710", "cats sleep all day", "notes: cats", "version 3", "log 1/42", "release r1", f"point {POINT}", "4.5 ms"):
        assert part in output


def test_a_title_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in run(monkeypatch)


def test_a_program_gets_one_object_with_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(run(monkeypatch, "--json"))["hits"][0]["key"] == "cats"


def test_nothing_there_is_said_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with pytest.raises(TransientError, match="twinline up"):
        search_command.ask(f"http://127.0.0.1:{port}", {"query": "cats"})


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (503, {"error": "e", "detail": "no release is active", "remedy": "Run it."}, TransientError, "active. Run it."),
        (422, {"error": "e", "detail": "limit: too large", "remedy": "See."}, SettingsError, "limit: too large"),
        (404, {"detail": "Not Found"}, SettingsError, "check --url"),  # somebody else's server
        (200, ["hello"], SettingsError, "check --url"),
    ],
)
def test_a_refusal_is_passed_on_in_words(status: int, body: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        search_command.ask("http://search", {"query": "cats"}, answering(status, body))


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="localhost"):
        search_command.ask("localhost", {"query": "cats"})


@pytest.mark.parametrize(("text", "ranges"), [("short text", []), ("word " * 400 + "needle " + "word " * 400, [[2000, 2006]])])
def test_a_snippet_is_short_and_holds_the_first_highlight(text: str, ranges: list[list[int]]) -> None:
    shown = search_command.snippet(text, ranges)
    assert len(shown) <= 290
    marked = [shown.plain[span.start : span.end] for span in shown.spans if span.style == "bold yellow"]
    assert marked == ["needle"] * len(ranges)
