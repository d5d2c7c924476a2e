"""`twinline reconcile`: whether every index agrees with the log."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from twinline.clients.run import VerdictError
from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError, MismatchError, SettingsError, TransientError

if TYPE_CHECKING:
    from twinline.clients.settings import Settings
    from twinline.upkeep.reconcile.measure import Comparison

# Beside 0 (they agree) and 1 (they do not): the comparison was not possible.
EXIT_UNMEASURED = 2


class DifferenceError(VerdictError):
    """Log and index do not agree."""


def command(
    *,
    release: Annotated[str, typer.Option(help="Only this release's collection; all that are in service by default.")] = "",
    repair: Annotated[bool, typer.Option("--repair/--no-repair", help="Put right what is wrong, then compare again.")] = False,
    snapshot: Annotated[str, typer.Option(help="Begin with this snapshot of the topic, where the log has expired.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Name at most so many findings of a collection.")] = 20,
    patience_seconds: Annotated[float, typer.Option(help="How long a consumer that is behind may stand still.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, on one line.")] = False,
) -> None:
    """Compare the log with every index, point by point. Exit code 0: they agree; 1: they do not; 2: no comparison was possible.

    Nothing is published. --repair applies the log's own messages again, and removes points that belong to no document.
    """
    from twinline.clients.kafka.connect import ensure_topics
    from twinline.clients.settings import load_settings
    from twinline.upkeep.reconcile.target import releases_in_service

    settings = load_settings()
    try:
        ensure_topics(settings)
        releases = [release] if release else releases_in_service(settings)[0]
        results = [_reconcile(settings, one, repair, snapshot, limit, patience_seconds) for one in releases]
    except TransientError as exc:
        typer.secho(f"twinline: log and index could not be compared: {exc}", err=True, fg=typer.colors.RED)
        raise typer.Exit(EXIT_UNMEASURED) from exc
    except (MismatchError, SettingsError):
        raise
    except ContractError as exc:
        # An unreadable artefact is a difference: another comparison would find it again.
        raise DifferenceError(str(exc)) from exc
    clean = all(after.clean for _, _, after in results)
    if as_json:
        listed: list[JSON] = [
            {"before": before.to_json(), "repair": {**done} if done else None, "after": after.to_json()}
            for before, done, after in results
        ]
        said: dict[str, JSON] = {"clean": clean, "collections": listed}
        if not results:
            said["skipped"] = "no release is in service, so there is nothing to compare yet: twinline release deploy"
        typer.echo(json.dumps(said, ensure_ascii=False))
    else:
        for before, done, after in results:
            _show(before, done, after)
        if not results:
            typer.echo("no release is in service, so there is nothing to compare yet: twinline release deploy")
    if not clean:
        wrong = ", ".join(f"{after.release}: {after.counts.total()}" for _, _, after in results if not after.clean)
        raise DifferenceError(f"log and index do not agree ({wrong}): `twinline reconcile --repair`")


def _reconcile(
    settings: "Settings", release: str, repair: bool, snapshot: str, limit: int, patience_seconds: float
) -> tuple["Comparison", dict[str, int], "Comparison"]:
    from twinline.clients.release import open_release
    from twinline.upkeep.reconcile import repair as repairing
    from twinline.upkeep.reconcile.measure import Reconciliation
    from twinline.upkeep.reconcile.target import open_target

    with open_target(settings, open_release(settings, release)) as target:
        with Reconciliation(settings, target, snapshot, limit) as first:
            before = first.compare(patience_seconds)
            if before.clean or not repair:
                return before, {}, before
            done = repairing.repair(first.findings(), first.ledger, target.index)
        with Reconciliation(settings, target, snapshot, limit) as second:
            return before, done, second.compare(patience_seconds)


def _show(before: "Comparison", done: dict[str, int], after: "Comparison") -> None:
    from rich.console import Console
    from rich.table import Table

    from twinline.upkeep.reconcile.compare import KINDS

    console = Console(highlight=False, markup=False)
    start = f", from snapshot {after.snapshot} on" if after.snapshot else ""
    console.print(
        f"release {after.release}: {after.documents} documents in the log{start}, {after.points} points stored; "
        f"{after.set_aside} in the dead letters, {after.erased} messages of erased documents, {after.moved} written to meanwhile"
    )
    if before.clean:
        console.print("log and index agree")
        return
    table = Table("finding", "before", *(["after"] if done else []), "meaning", box=None, pad_edge=False)
    for kind, meaning in KINDS.items():
        if before.counts[kind] or after.counts[kind]:
            table.add_row(kind, str(before.counts[kind]), *([str(after.counts[kind])] if done else []), meaning)
    console.print(table)
    if done:
        console.print(f"repaired: {done['removed']} points removed, {done['applied']} messages applied again")
    for finding in after.examples or before.examples:
        console.print(f"  {finding.kind} [{finding.source}, {finding.key}]: {finding.detail}", soft_wrap=True)
