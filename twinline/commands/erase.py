"""`twinline erase`: remove one document everywhere, keep it out, and list where it still is."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from twinline.clients.run import VerdictError
from twinline.contract.errors import SettingsError
from twinline.contract.principal import LOCAL_OPERATOR

if TYPE_CHECKING:
    from twinline.clients.settings import Settings
    from twinline.upkeep.erase.flow import Erased


class IncompleteError(VerdictError):
    """An index still holds a part of the document."""


def command(
    *,
    document: Annotated[str | None, typer.Option("--document", metavar="KEY", help="Key of the document.")] = None,
    source: Annotated[str | None, typer.Option(help="Source of the document.")] = None,
    reason: Annotated[str, typer.Option(help="Why; written on the receipt, so say nothing personal.")] = "",
    lift: Annotated[bool, typer.Option("--lift", help="Let the document be taken in again; needs a reason.")] = False,
    receipt: Annotated[bool, typer.Option("--receipt", help="Only show the receipts of the document.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Only show the list of erased documents, by their hashes.")] = False,
    expire_log: Annotated[str, typer.Option(metavar="SNAPSHOT", help="Expire from the log what this snapshot covers.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, on one line.")] = False,
) -> None:
    """Erase a document: from every index, from the dead letters, and for good. Exit code 1 when an index still has it.

    The receipt lists its texts in the log, in snapshots and in training data, each with the way to remove it.
    """
    from twinline.clients.settings import load_settings
    from twinline.upkeep.dead_letters.acts import who
    from twinline.upkeep.erase import flow

    settings, operator = load_settings(), LOCAL_OPERATOR.signing(who())
    if sum((lift, receipt, listed, bool(expire_log))) > 1:
        raise SettingsError("--lift, --receipt, --list and --expire-log exclude each other")
    if listed:
        _show_list(settings, as_json)
        return
    if expire_log:
        _ask(yes, f"expire what snapshot {expire_log} covers of topic {settings.topic}")
        begins = flow.expire_log(settings, operator, expire_log)
        typer.echo(json.dumps({"begins": begins}) if as_json else f"topic {settings.topic} begins at the offsets {begins} now")
        return
    if document is None or source is None:
        raise SettingsError(
            "name the document: --document KEY --source SOURCE (`twinline trace --document KEY` finds its source)"
        )
    if receipt:
        _show_receipts(settings, source, document, as_json)
        return
    if lift:
        done = flow.lift(settings, operator, source, document, reason)
        typer.echo(json.dumps(done.value) if as_json else f"the document may be published again; receipt: {done.path}")
        return
    _ask(yes, f"erase document [{source}, {document}] from every index, for good")
    erased = flow.erase(settings, operator, source, document, reason, lambda line: typer.echo(line, err=as_json))
    if as_json:
        said = {**erased.receipt.value, "receipt": str(erased.receipt.path), "sha256": erased.receipt.sha256}
        typer.echo(json.dumps({**said, "complete": erased.complete}, ensure_ascii=False))
    else:
        _show(erased)
    if not erased.complete:
        raise IncompleteError(
            f"{erased.left} points of it are left, and not looked into were {sorted(erased.unreached) or 'none'}: bring those "
            "collections into service or retire their releases, then run the same command again"
        )


def _ask(yes: bool, what: str) -> None:
    if not yes and not typer.confirm(f"This cannot be undone: {what}. Go on?"):
        raise SettingsError("nothing was done")


def _show(erased: "Erased") -> None:
    holders = erased.receipt.value["still_holds_it"]
    for holder in holders if isinstance(holders, list) else []:
        typer.echo(f"still holds it: {json.dumps(holder, ensure_ascii=False)}")
    typer.echo(f"receipt: {erased.receipt.path}")


def _show_list(settings: "Settings", as_json: bool) -> None:
    from dataclasses import asdict

    from twinline.clients.kafka.connect import ensure_topics
    from twinline.upkeep.erase.removal import open_list

    ensure_topics(settings)
    entries = [asdict(entry) for _, entry in sorted(open_list(settings).entries.items(), key=lambda pair: pair[1].at_ms)]
    if as_json:
        typer.echo(json.dumps({"erased": entries}, ensure_ascii=False))
        return
    for entry in entries:
        state = "lifted" if entry["lifted_ms"] is not None else "erased"
        typer.echo(f"{entry['token'][:16]}  {state}  {entry['time']}  {entry['by']}  {entry['reason']}")
    if not entries:
        typer.echo("no document was erased")


def _show_receipts(settings: "Settings", source: str, key: str, as_json: bool) -> None:
    from twinline.clients.erasure_list import read_list
    from twinline.upkeep.erase.receipt import read_receipts

    token = read_list(settings).token(source, key)
    found = [receipt for receipt in read_receipts(settings.erasures) if receipt.value["document"] == token]
    if as_json:
        typer.echo(json.dumps({"receipts": [dict(receipt.value) for receipt in found]}, ensure_ascii=False))
        return
    for receipt in found:
        typer.echo(f"{receipt.path}\n{receipt.path.read_text()}")
    if not found:
        typer.echo("there is no receipt of this document here")
