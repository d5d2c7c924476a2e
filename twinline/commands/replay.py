"""`twinline replay`: apply a stretch of the log again, to a collection in service or a new one."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from twinline.commands.moments import moment
from twinline.contract.errors import SettingsError


def command(
    *,
    from_offset: Annotated[
        list[str] | None, typer.Option(metavar="PARTITION:OFFSET", help="Begin here; once a partition, the others are left out.")
    ] = None,
    from_time: Annotated[str | None, typer.Option(help="Begin with what came at this time: 2h, 1d or 2026-01-31T08:00.")] = None,
    until_offset: Annotated[
        list[str] | None, typer.Option(metavar="PARTITION:OFFSET", help="End before this offset; by default, where the log ends.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="End before what came at this time.")] = None,
    into: Annotated[str, typer.Option("--into", help="A release that is in service; the active one by default.")] = "",
    new: Annotated[
        bool, typer.Option("--new", help="Build a new collection of the release, and replace the old one by it.")
    ] = False,
    snapshot: Annotated[str, typer.Option(help="With --new: begin with this snapshot of the topic.")] = "",
    embed_again: Annotated[bool, typer.Option("--embed-again", help="With --new: keep no vector of the old collection.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="With --new: go on although documents are left out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, on one line.")] = False,
) -> None:
    """Apply messages of the log again, by the consumer's own law: newer states stay, and nothing is stored twice.

    Nothing is published. With --new and no stretch, all of the log goes into a new collection, after --snapshot if one is named.
    """
    from tqdm import tqdm

    from twinline.clients.kafka.connect import ensure_topics
    from twinline.clients.release import open_release
    from twinline.clients.settings import load_settings
    from twinline.upkeep.reconcile.target import releases_in_service
    from twinline.upkeep.replay import find_stretch, rebuild, replay_into

    settings = load_settings()
    ensure_topics(settings)
    if not new and (snapshot or embed_again or partial):
        raise SettingsError("--snapshot, --embed-again and --partial are of a new collection: say --new")
    release = into or releases_in_service(settings)[1]
    if release is None:
        raise SettingsError("no release is active: name one with --into, or deploy one (twinline release deploy)")
    has_stretch = bool(from_offset) or from_time is not None or not new
    stretch = (
        find_stretch(settings, from_offset or [], moment(from_time), until_offset or [], moment(until)) if has_stretch else None
    )
    opened, total = open_release(settings, release), stretch.size if stretch else None
    with tqdm(total=total, unit=" messages", desc=f"replaying into {release}", mininterval=0.5, disable=as_json) as bar:
        if new:
            done = rebuild(settings, opened, stretch, snapshot, embed_again, partial, bar.update)
        elif stretch is not None:
            done = replay_into(settings, opened, stretch, bar.update)
    if as_json:
        typer.echo(json.dumps({"release": release, "new": new, **asdict(done)}))
    else:
        typer.echo(f"{done.messages} messages applied to {'a new' if new else 'the'} collection of {release}: {done.counts}")
