"""`twinline publish`: documents onto the log."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from twinline.clients.run import VerdictError
from twinline.clients.settings import Settings, load_settings
from twinline.clients.source_spec import PUBLISH_USAGE, check_name
from twinline.contract.errors import ContractError, SettingsError
from twinline.contract.principal import LOCAL_OPERATOR

if TYPE_CHECKING:
    from etl.feeds import Feed
    from etl.publish import Report
    from twinline.upkeep.searchable import Place

# The source of JSON Lines that name none.
_STREAM: Final = "files"


class ErasedError(VerdictError):
    """Documents that were erased were to be published again."""


def command(
    files: Annotated[list[str] | None, typer.Argument(help="Files and folders; `-` reads JSON Lines.")] = None,
    *,
    source: Annotated[str, typer.Option(help=f"{PUBLISH_USAGE}.")] = "",
    delete: Annotated[list[str] | None, typer.Option(help="Key of a document to delete; may be repeated.")] = None,
    name: Annotated[
        str, typer.Option(help=f"Source of the documents; without it each folder's own name, and for `-` {_STREAM}.")
    ] = "",
    version: Annotated[
        int | None, typer.Option(help="Version of a deletion; by default the next one of a document that has versions.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also documents that have not changed.")] = False,
    delete_missing: Annotated[
        bool, typer.Option(help="With --source: delete what it held when last published and no longer holds.")
    ] = False,
    yes_delete: Annotated[
        int,
        typer.Option(min=0, help="With --delete-missing: up to so many; by default a quarter of the source, or 10."),
    ] = 0,
    moved: Annotated[bool, typer.Option("--moved", help="The documents lie in another place now, and are the same.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be sent and deleted.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return once all of it is searchable; exit code 1 if some was set aside.")
    ] = False,
) -> None:
    """Write documents to the log: FILES, JSON Lines on standard input, or a whole source; only changed documents.

    A line of JSON Lines is {"key": ..., "title": ..., "text": ...}, and may have "source", "version", "metadata", "tenant";
    {"key": ..., "deleted": true} deletes.
    """
    from etl.feeds import ingest_params
    from etl.lineage import find_lineage
    from etl.progress import counted
    from etl.publish import Mode, publish_documents
    from etl.sources.items import ERASED

    _refuse_unused(
        {
            "--version": (version is not None, bool(delete), "--delete"),
            "--name": (bool(name), not source, "FILES, `-` or --delete; with --source say NAME=KIND:LOCATION"),
            "--delete-missing": (delete_missing, bool(source), "--source: single files are not the whole of a source"),
            "--yes-delete": (yes_delete != 0, delete_missing, "--delete-missing"),
            "--moved": (moved, not delete, "FILES, `-` or --source"),
            "--wait": (wait, not dry_run, "a publication: a dry run sends nothing to wait for"),
        }
    )
    settings = load_settings()
    feed = _feed(files or [], source, delete or [], name, version, settings)
    mode = Mode(everything, delete_missing, yes_delete, moved, dry_run, ingest_params(settings).max_reject_share)
    lineage = find_lineage(os.environ, settings.project)
    progress = counted("publish", feed.total)
    before = _place(settings) if wait else None
    report = publish_documents(feed, settings, lineage, LOCAL_OPERATOR, mode, progress, typer.echo)
    typer.echo(report.summary(settings.topic))
    if report.fault:
        # Nothing to wait for: this is not searchable as a whole.
        raise ContractError(report.fault)
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
        if not name:
            raise SettingsError("--delete KEY: a key is one document of one source: say which with --name SOURCE")
        # Any name: a program may have chosen one that no option takes.
        return deletions_feed(delete, name, version)
    if name:
        check_name(name, "--name")
    if set(files) == {"-"}:
        return lines_feed(sys.stdin.buffer, name or _STREAM)
    if "-" in files:
        raise SettingsError("`-` is standard input: publish files and standard input one after the other")
    return files_feed(files, name, settings)


def _refuse_unused(options: dict[str, tuple[bool, bool, str]]) -> None:
    """Refuse an option that would do nothing, by name: whether it is given, whether it has a use, and with what it has one."""
    for option, (is_given, has_use, what) in options.items():
        if is_given and not has_use:
            raise SettingsError(f"{option} would do nothing here: it goes with {what}")
