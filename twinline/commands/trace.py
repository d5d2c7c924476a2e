"""`twinline trace`: from an answer back to its bytes, or from a document to everything made from it."""

import json
import sys
from contextlib import closing
from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from twinline.clients.settings import load_settings
from twinline.contract.errors import SettingsError


def command(
    point_or_hit: Annotated[
        str, typer.Argument(help="A point id, SOURCE/KEY or SOURCE/KEY#CHUNK; `-` reads a hit as JSON from standard input.")
    ] = "",
    *,
    document: Annotated[
        str | None, typer.Option("--document", metavar="KEY", help="What became of this document, and what was trained on it.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Source of the document; with --key, or with --document.")] = None,
    key: Annotated[str | None, typer.Option(help="Key of the document, whatever characters it has.")] = None,
    chunk: Annotated[int | None, typer.Option(min=0, help="Chunk of the document; the first one by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; its `steps` are the lines.")] = False,
) -> None:
    """Print the whole lineage of an answer, each line computed again now. Exit code 1 when anything differs."""
    from twinline.clients.online import AdminClient
    from twinline.upkeep.trace.backward import trace_point
    from twinline.upkeep.trace.forward import trace_document
    from twinline.upkeep.trace.reach import Reach, read_message
    from twinline.upkeep.trace.show import show
    from twinline.upkeep.trace.target import target_of, target_of_hit

    if document is not None and (point_or_hit or key is not None or chunk is not None):
        raise SettingsError("--document asks what became of a document: give only --source with it")
    settings = load_settings()
    with closing(AdminClient(settings.admin_url)) as admin:
        reach = Reach(settings, settings.project, admin, partial(read_message, settings))
        if document is not None:
            trace = trace_document(reach, source, document)
        elif point_or_hit == "-":
            trace = trace_point(reach, target_of_hit(sys.stdin.read()))
        else:
            trace = trace_point(reach, target_of(point_or_hit, source, key, chunk))
    if as_json:
        typer.echo(json.dumps(trace.to_json(), ensure_ascii=False, indent=2))
    else:
        show(trace, Console(highlight=False, markup=False))
    if trace.differing:
        raise typer.Exit(1)
