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


def copies(count: int) -> list[dict[str, Any]]:
    version = {"kind": "explicit", "number": 2, "offset": 0}
    return [
        {"source": "notes", "key": f"k\x1b{number}", "title": "", "version": version, "point": POINT} for number in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, []),
        (1, ["the same: notes: k 0", "version 2"]),
        (5, ["notes: k 4"]),
        (8, ["notes: k 4", "and 3 more that say the same"]),
    ],
)
def test_copies_are_listed_under_their_hit(monkeypatch: pytest.MonkeyPatch, count: int, words: list[str]) -> None:
    [hit] = ANSWER["hits"]  # type: ignore[misc]
    monkeypatch.setitem(ANSWER, "hits", [{**hit, "copies": copies(count)}])  # type: ignore[dict-item]
    output = " ".join(run(monkeypatch).split())
    for part in words:
        assert part in output
    assert output.count("the same: notes") == min(count, 5)
    assert "k 5" not in output  # beyond five, they are counted


@pytest.mark.parametrize(
    ("dense", "by_words", "said"),
    [
        ({"rank": 1, "score": 0.5}, {"rank": 2_000, "score": 12_345.0}, "no. 1 by meaning (0.500), no. 2,000 by words (12,345)"),
        ({"rank": 3, "score": -0.25}, None, "no. 3 by meaning (-0.250)"),
        (None, {"rank": 1, "score": 7.0}, "no. 1 by words (7)"),
        ({"rank": None, "score": 0.1}, {"rank": None, "score": 0.0}, "not ranked by meaning (0.100), not ranked by words (0)"),
        (None, None, ""),
    ],
)
def test_both_places_of_a_hit_are_said(
    monkeypatch: pytest.MonkeyPatch, dense: dict[str, Any] | None, by_words: dict[str, Any] | None, said: str
) -> None:
    assert search_command.sides({"dense": dense, "words": by_words}) == said
    [hit] = ANSWER["hits"]  # type: ignore[misc]
    monkeypatch.setitem(ANSWER, "hits", [{**hit, "dense": dense, "words": by_words}])  # type: ignore[dict-item]
    assert said in " ".join(run(monkeypatch).split())


@pytest.mark.parametrize(("options", "group"), [((), True), (("--all-copies",), False), (("--group",), True)])
def test_copies_are_grouped_unless_all_are_wanted(monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], group: bool) -> None:
    sent: list[Any] = []

    def answer(_: str, fields: Any) -> Any:
        sent.append(fields)
        return {**ANSWER, "mode": "words", "note": "the encoder is away"}

    monkeypatch.setattr(search_command, "ask", answer)
    arguments = ["search", "cats", *options]
    output = " ".join(CliRunner().invoke(build_app(arguments), arguments).output.split())
    assert sent[0]["group"] is group
    assert "the encoder is away" in output
    assert "mode words" in output
