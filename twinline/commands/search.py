"""`twinline search`: a question to the search API, and its hits for a person or, with --json, for a program."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import httpx
import typer
from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from twinline.clients.settings import load_settings
from twinline.contract.errors import ContractError, DocumentError, SettingsError, TransientError
from twinline.search.exchange import JSON_HEADERS, PATH, encoded
from twinline.search.filters import where_of
from twinline.search.results import MAX_HITS, Mode, Question

_TIMEOUT_SECONDS: Final = 30.0
_SNIPPET_CHARS: Final = 280
_SHOWN_COPIES: Final = 5


def command(
    query: Annotated[str, typer.Argument(help="Your question, in your own words.")],
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MAX_HITS, help="How many documents at most.")] = 5,
    tenant: Annotated[str | None, typer.Option(help="Only documents of this tenant.")] = None,
    source: Annotated[str | None, typer.Option(help="Only documents of this source.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector, without the index.")] = False,
    mode: Annotated[Mode, typer.Option(help="By vectors and words, by vectors alone (dense), or by words alone.")] = "hybrid",
    group: Annotated[
        bool, typer.Option("--group/--all-copies", help="Show documents that say the same as one hit, or each as a hit.")
    ] = True,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only documents that meet this: team=red, lang=en,tr, 'year>=2020', 'reviewed?'. May be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; its `hits` are the documents.")] = False,
    url: Annotated[str | None, typer.Option(help="The search API; by default the one of the settings.")] = None,
) -> None:
    """Ask a question; get documents by their best chunk, with scores and origins."""
    question = Question(query, limit, tenant, source, exact, mode, group, where_option(where))
    answer = ask(url or load_settings().search_url, asdict(question))
    if as_json:
        typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        _show(answer, Console(highlight=False))


def where_option(texts: Sequence[str] | None) -> dict[str, Any] | None:
    """Return the conditions of the option `--where`.

    Raises:
        SettingsError: a text holds no condition.
    """
    try:
        return where_of(texts or [])
    except DocumentError as exc:
        raise SettingsError(f"--{exc}") from exc


def ask(url: str, fields: Mapping[str, Any], transport: httpx.BaseTransport | None = None) -> dict[str, Any]:
    """Return the search API's answer to a question.

    Raises:
        TransientError, SettingsError, ContractError: as `post` does.
    """
    return post(url, PATH, fields, "hits", transport)


def post(
    url: str, path: str, fields: Mapping[str, Any], always: str, transport: httpx.BaseTransport | None = None
) -> dict[str, Any]:
    """Return the search API's answer at a path.

    Args:
        always: a field of every answer there; an answer without it is another service's.

    Raises:
        TransientError: there is no answer, or the service is not ready.
        SettingsError: the question or the address is wrong.
        ContractError: the service cannot answer.
    """
    try:
        # trust_env off: a proxy for the outside world must not stand before loopback, nor read questions.
        with httpx.Client(timeout=_TIMEOUT_SECONDS, transport=transport, trust_env=False) as client:
            response = client.post(f"{url.rstrip('/')}{path}", content=encoded(fields), headers=JSON_HEADERS)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as exc:
        raise SettingsError(f"--url {url!r} is no address ({exc}): give one like http://127.0.0.1:18080") from exc
    except httpx.TransportError as exc:
        raise TransientError(
            f"no search service answers at {url} ({exc}): start it with `twinline up`, or name another one with --url"
        ) from exc
    try:
        value: dict[str, Any] = response.json()
        if response.is_success:
            # JSON from another service fails here, or in the next line.
            return {always: value[always], **value}
        message = f"{value['detail']}. {value['remedy']}"
    except (ValueError, KeyError, TypeError) as exc:
        raise SettingsError(f"{url} answers {response.status_code}, but not as Twinline's search: check --url") from exc
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise TransientError(message)
    raise SettingsError(message) if response.is_client_error else ContractError(message)


def snippet(text: str, ranges: Sequence[Sequence[int]], limit: int = _SNIPPET_CHARS) -> Text:
    """Return the part of a text around its first highlight, with all highlights in it marked."""
    first = ranges[0][0] if ranges else 0
    start = max(0, min(first - limit // 4, len(text) - limit))
    end = min(len(text), start + limit)
    shown = Text(printable(text[start:end]))
    for low, high in ranges:
        # Parts of a highlight outside the snippet are dropped.
        shown.stylize("bold yellow", max(0, low - start), max(0, high - start))
    before, after = ("… " if start else ""), (" …" if end < len(text) else "")
    return Text.assemble(before, shown, after)


def _show(answer: Mapping[str, Any], console: Console) -> None:
    hits = answer["hits"]
    for rank, hit in enumerate(hits, start=1):
        heading = Text.assemble(
            (f"{rank:>2}  ", "dim"), (f"{hit['score']:.3f}  ", "cyan"), (printable(hit["title"] or hit["key"]), "bold")
        )
        lines = [_origin(hit), sides(hit), *_copies(hit)]
        body = Group(
            snippet(hit["chunk"]["text"], hit["highlights"]), *(Text(printable(line), style="dim") for line in lines if line)
        )
        console.print(heading, Padding(body, (0, 0, 1, 4)))
    if answer.get("note"):
        console.print(Text(printable(answer["note"]), style="yellow"))
    timings = answer["timings"]
    console.print(
        Text(
            f"{len(hits)} documents in {timings['total_ms']:.1f} ms (encoder {timings['embed_ms']:.1f}, "
            f"store {timings['search_ms']:.1f}) from release {answer['release']}, mode {answer.get('mode', 'dense')}",
            style="dim",
        )
    )


def _origin(hit: Mapping[str, Any]) -> str:
    chunk, lineage = hit["chunk"], hit["lineage"]
    log, training = lineage["kafka"], lineage["training"]
    parts = [
        f"{hit['source']}: {hit['key']}",
        _version(hit["version"]),
        f"chunk {chunk['index']}, characters {chunk['start']} to {chunk['end']}",
        f"log {log['partition']}/{log['offset']}",
        f"release {lineage['release']}",
        f"trained on {str(training['snapshot'])[:12]}" if training.get("snapshot") else "",
        f"point {hit['point']}",
    ]
    return " · ".join(part for part in parts if part)


def sides(places: Mapping[str, Any]) -> str:
    """Return a chunk's rank and score by either side, in words; empty where the service names neither."""
    said = []
    if dense := places.get("dense"):
        said.append(f"{_rank(dense)} by meaning ({dense['score']:.3f})")
    if words := places.get("words"):
        said.append(f"{_rank(words)} by words ({words['score']:,.0f})")
    return ", ".join(said)


def _rank(side: Mapping[str, Any]) -> str:
    return "not ranked" if side["rank"] is None else f"no. {side['rank']:,}"


def _copies(hit: Mapping[str, Any]) -> list[str]:
    """Return a line for each document that says the same, and one for those beyond `_SHOWN_COPIES`."""
    copies = hit.get("copies") or []
    lines = [
        f"the same: {copy['source']}: {copy['key']} · {_version(copy['version'])} · point {copy['point']}"
        for copy in copies[:_SHOWN_COPIES]
    ]
    more = len(copies) - len(lines)
    return (
        [*lines, f"and {more:,} more that say the same: --json lists them, --all-copies shows each as a hit"] if more else lines
    )


def _version(version: Mapping[str, Any]) -> str:
    if version["kind"] == "explicit":
        return f"version {version['number']}"
    received = datetime.fromtimestamp(version["number"] / 1000, tz=UTC)
    return f"received {received:%Y-%m-%d %H:%M:%S} UTC"


def printable(text: str) -> str:
    """Return a text without a terminal's control characters; its length stays, so that ranges hold."""
    return "".join(character if character.isprintable() else " " for character in text)
