"""`twinline publish`: documents onto the log."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinline.clients.run import VerdictError
from twinline.clients.settings import Settings, load_settings
from twinline.clients.source_spec import PUBLISH_USAGE
from twinline.contract.errors import SettingsError
from twinline.contract.principal import LOCAL_OPERATOR

if TYPE_CHECKING:
    from etl.feeds import Feed
    from etl.publish import Report
    from twinline.upkeep.searchable import Place


class ErasedError(VerdictError):
    """Documents that were erased were to be published again."""


def command(
    files: Annotated[list[str] | None, typer.Argument(help="Files and folders; `-` reads JSON Lines.")] = None,
    *,
    source: Annotated[str, typer.Option(help=f"{PUBLISH_USAGE}.")] = "",
    delete: Annotated[list[str] | None, typer.Option(help="Key of a document to delete; may be repeated.")] = None,
    name: Annotated[str, typer.Option(help="Source name of the documents in FILES or of the keys to delete.")] = "files",
    version: Annotated[int | None, typer.Option(help="Version of a deletion, where documents have explicit ones.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also documents that have not changed.")] = False,
    delete_missing: Annotated[
        bool, typer.Option(help="With --source: delete what it held when last published and no longer holds.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return once all of it is searchable; exit code 1 if some was set aside.")
    ] = False,
) -> None:
    """Write documents to the log: FILES, JSON Lines on standard input, or a whole source; only changed documents.

    A line of JSON Lines is {"key": ..., "title": ..., "text": ...}, and may have "source", "version", "metadata", "tenant";
    {"key": ..., "deleted": true} deletes.
    """
    from etl.lineage import find_lineage
    from etl.progress import counted
    from etl.publish import Mode, publish_documents
    from etl.sources.items import ERASED

    settings = load_settings()
    feed = _feed(files or [], source, delete or [], name, version, settings)
    mode = Mode(everything=everything, delete_missing=delete_missing)
    lineage = find_lineage(os.environ, settings.project)
    before = _place(settings) if wait else None
    report = publish_documents(feed, settings, lineage, LOCAL_OPERATOR, mode, counted("publish", feed.total))
    typer.echo(report.summary(settings.topic))
    if before is not None:
        _wait(settings, before, report)
    if refused := report.rejected.get(ERASED):
        # An error, not only a count: the publisher must know that this document cannot come back.
        raise ErasedError(
            f"{refused} documents were refused, because they were erased; the others were published. Each is named by its hash "
            f"in {report.rejects_file}: take them out of your source, or, where that is no longer right, twinline erase --lift"
        )


def _place(settings: Settings) -> "Place":
    from twinline.upkeep.searchable import Place

    return Place.now(settings)


def _wait(settings: Settings, before: "Place", report: "Report") -> None:
    from etl.sources.items import ERASED
    from twinline.upkeep.searchable import SetAsideError, wait_until_searchable

    count = wait_until_searchable(settings, before)
    typer.echo(f"searchable: all {count} messages")
    # The erased ones have an error of their own.
    if refused := sum(count for reason, count in report.rejected.items() if reason != ERASED):
        raise SetAsideError(f"{refused} documents were set aside before they were sent, in {report.rejects_file}")


def _feed(files: list[str], source: str, delete: list[str], name: str, version: int | None, settings: Settings) -> "Feed":
    from etl.feeds import deletions_feed, files_feed, lines_feed, source_feed

    if sum(map(bool, (files, source, delete))) != 1:
        raise SettingsError("say what to publish: FILES, `-` for JSON Lines, --source KIND:LOCATION, or --delete KEY")
    if source:
        return source_feed(source, settings)
    if delete:
        return deletions_feed(delete, name, version)
    if files == ["-"]:
        return lines_feed(sys.stdin.buffer, name)
    return files_feed([Path(file) for file in files], name, settings)
