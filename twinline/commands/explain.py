"""`twinline explain`: why a document was or was not found by a question."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from twinline.clients.settings import load_settings
from twinline.commands.search import post, printable, sides, snippet, where_option
from twinline.search.exchange import EXPLAIN_PATH
from twinline.search.results import MAX_HITS, Mode, Question


def command(
    query: Annotated[str, typer.Argument(help="The question, as it was asked.")],
    *,
    document: Annotated[str, typer.Option("--document", metavar="KEY", help="Key of the document.")],
    source: Annotated[str | None, typer.Option(help="Source of the document, where several have this key.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MAX_HITS, help="The documents that were asked for.")] = 10,
    tenant: Annotated[str | None, typer.Option(help="The tenant that the search was limited to.")] = None,
    within: Annotated[str | None, typer.Option(metavar="SOURCE", help="The source that the search was limited to.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="The search compared with every vector.")] = False,
    mode: Annotated[Mode, typer.Option(help="The mode of the search.")] = "hybrid",
    group: Annotated[bool, typer.Option("--group/--all-copies", help="As in `twinline search`.")] = True,
    where: Annotated[list[str] | None, typer.Option(help="As in `twinline search`. May be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; its `why` is the reason as a word.")] = False,
    url: Annotated[str | None, typer.Option(help="The search API; by default the one of the settings.")] = None,
) -> None:
    """Say whether a document is in the index, what leaves it out, its exact ranks, and the words that it has and lacks."""
    question = Question(query, limit, tenant, within, exact, mode, group, where_option(where))
    asked = {"question": asdict(question), "document": {"key": document, "source": source}}
    explained = post(url or load_settings().search_url, EXPLAIN_PATH, asked, "why")
    if as_json:
        typer.echo(json.dumps(explained, ensure_ascii=False, indent=2))
    else:
        show(explained, Console(highlight=False))


def show(explained: Mapping[str, Any], console: Console) -> None:
    """Print an explanation for a person, the reason first."""
    console.print(Text(printable(explained["reason"]), style="bold"))
    for line in (explained["remedy"], explained["note"]):
        if line:
            console.print(Text(printable(line), style="yellow"))
    console.print(Text(printable(_state(explained))))
    console.print(Text(printable(_log(explained))))
    if (score := explained["score"]) is not None:
        console.print(Text(printable(f"score {score:.4f}{_against_last(explained['last'], score)}")))
    best, nearest = explained["best"], explained["nearest"]
    if best is not None:
        _show_chunk("best chunk", best, console)
    if nearest is not None and best is not None and nearest["point"] != best["point"]:
        _show_chunk("nearest chunk", nearest, console)
    for term in explained["terms"]:
        adds = f"adds {term['adds']:,}" if term["adds"] else "not in its best chunk"
        console.print(Text(printable(f"  {term['term']}: rarity {term['rarity']:,}, {adds}")))


def _state(explained: Mapping[str, Any]) -> str:
    version = explained["version"]
    number = "" if version is None else f", {version['kind']} version {version['number']}"
    return f"{explained['state']}{number}, {explained['chunks']:,} chunks in {explained['collection']}, mode {explained['mode']}"


def _log(explained: Mapping[str, Any]) -> str:
    waiting = explained["waiting"]
    if waiting is None:
        return str(explained["log"])
    if waiting["newest"] is not None:
        partition, offset = waiting["newest"]
        return f"the log holds a newer message of it, {partition}/{offset}: the index is behind (`twinline status`)"
    if not waiting["complete"]:
        return f"the log holds {waiting['messages']:,} messages that are not indexed yet, too many to look through"
    return "the log holds nothing newer of it"


def _against_last(last: Mapping[str, Any] | None, score: float) -> str:
    if last is None:
        return ""
    return f", the last hit (no. {last['rank']}, {last['source']}: {last['key']}) has {last['score']:.4f}: {sides(last)}"


def _show_chunk(name: str, chunk: Mapping[str, Any], console: Console) -> None:
    place = f"{name}, no. {chunk['index']}, characters {chunk['start']} to {chunk['end']}"
    console.print(Text(printable(f"{place}: {sides(chunk)} among all chunks")))
    console.print(Padding(snippet(chunk["text"], []), (0, 0, 0, 4)))
