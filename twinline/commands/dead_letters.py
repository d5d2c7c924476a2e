"""`twinline dead-letters`: the messages that were set aside, the reasons, and their replay."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from twinline.commands.moments import moment
from twinline.contract.errors import SettingsError

if TYPE_CHECKING:
    from twinline.clients.settings import Settings
    from twinline.upkeep.dead_letters.entries import Entry, Selection

app = typer.Typer(no_args_is_help=True)

Reason = Annotated[str | None, typer.Option(help="Only those refused for this reason, such as invalid_json.")]
Stage = Annotated[str | None, typer.Option(help="Only those refused at this stage: decode, version, chunk or index.")]
Stack = Annotated[str | None, typer.Option(help="Only those with this stack digest, or its beginning.")]
Since = Annotated[str | None, typer.Option(help="Set aside at this time or later: 2h, 1d, or 2026-01-31T08:00.")]
Until = Annotated[str | None, typer.Option(help="Set aside before this time.")]
Source = Annotated[str | None, typer.Option(help="Only messages of this source.")]
Key = Annotated[str | None, typer.Option(help="Only messages of this document.")]
Partition = Annotated[int | None, typer.Option(min=0, help="Only messages of this partition of the log.")]
Offset = Annotated[int | None, typer.Option(min=0, help="Only the message at this offset; with --partition.")]
Why = Annotated[str, typer.Option("--why", help="What to remember of your reason.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, on one line.")]


@app.callback()
def _group() -> None:
    """List, show, replay and discard the messages that were set aside."""


@app.command("list")
def list_letters(
    *,
    reason: Reason = None,
    stage: Stage = None,
    stack: Stack = None,
    since: Since = None,
    until: Until = None,
    source: Source = None,
    key: Key = None,
    partition: Partition = None,
    offset: Offset = None,
    state: Annotated[str, typer.Option(help="open, replayed, discarded or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, help="Name at most so many one by one, the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show dead letters in groups of equal failures, with counts, and the newest one by one."""
    from twinline.upkeep.dead_letters.entries import group_entries

    entries = _entries(_settings(), _selection(reason, stage, stack, since, until, source, key, partition, offset, state))
    groups = group_entries(entries)
    if as_json:
        listed = [entry.to_json() for entry in entries[-limit:]]
        _print_json({"count": len(entries), "groups": [group.to_json() for group in groups], "entries": listed})
        return
    from twinline.upkeep.dead_letters.table import show_groups

    show_groups(groups, entries[-limit:], state)


@app.command("show")
def show_letter(
    message: Annotated[str, typer.Argument(metavar="PARTITION/OFFSET", help="A message, as `list` names it.")],
    limit: Annotated[int, typer.Option(min=0, help="Cut the value after so many characters; 0: all of it.")] = 4_000,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter whole: why and where it was refused, its headers, its value."""
    from twinline.upkeep.dead_letters.entries import read_entries, read_letter
    from twinline.upkeep.dead_letters.table import letter_json, show_whole

    settings = _settings()
    found = [entry for entry in read_entries(settings) if entry.message == message]
    if not found:
        raise SettingsError(f"no dead letter is of message {message!r}: `twinline dead-letters list --state all` names them")
    letter = read_letter(settings, found[0])
    if as_json:
        _print_json(letter_json(found[0], letter, limit))
    else:
        show_whole(found[0], letter, limit)


@app.command("replay")
def replay_letters(
    *,
    reason: Reason = None,
    stage: Stage = None,
    stack: Stack = None,
    since: Since = None,
    until: Until = None,
    source: Source = None,
    key: Key = None,
    partition: Partition = None,
    offset: Offset = None,
    everything: Annotated[bool, typer.Option("--any", "--all", help="All that are open, where no filter says less.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was replayed, discarded, or failed too often.")] = False,
    max_attempts: Annotated[int, typer.Option(min=1, help="Leave what was replayed so often and failed again.")] = 3,
    why: Why = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send messages back to the log unchanged, once each. Newer states of their documents stay the newest."""
    from twinline.upkeep.dead_letters.replay import choose, replay

    settings = _settings()
    selection = _selection(reason, stage, stack, since, until, source, key, partition, offset, "all" if again else "open")
    _require_filter(selection, everything)
    choice = choose(_entries(settings, selection), again, max_attempts)
    acts = [] if dry_run else replay(settings, choice.chosen, why)
    if as_json:
        chosen = [entry.message for entry in choice.chosen]
        sent = {act.message: act.sent_to for act in acts}
        _print_json({"replayed": len(acts), "dry_run": dry_run, "chosen": chosen, "sent": sent, "left": choice.left})
        return
    for left, because in choice.left.items():
        typer.echo(f"{left} is left: {because}")
    for act in acts:
        typer.echo(f"{act.message} is on the log again, at {act.sent_to}")
    typer.echo(f"{len(choice.chosen)} {'would be replayed' if dry_run else 'replayed'}, {len(choice.left)} left")


@app.command("discard")
def discard_letters(
    *,
    reason: Reason = None,
    stage: Stage = None,
    stack: Stack = None,
    since: Since = None,
    until: Until = None,
    source: Source = None,
    key: Key = None,
    partition: Partition = None,
    offset: Offset = None,
    everything: Annotated[bool, typer.Option("--any", "--all", help="All that are open, where no filter says less.")] = False,
    why: Why = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Mark messages as discarded: they are no longer listed as open, and stay in the topic."""
    from twinline.upkeep.dead_letters.replay import discard

    settings = _settings()
    selection = _selection(reason, stage, stack, since, until, source, key, partition, offset, "open")
    _require_filter(selection, everything)
    entries = _entries(settings, selection)
    acts = [] if dry_run else discard(settings, entries, why)
    if as_json:
        _print_json({"discarded": len(acts), "dry_run": dry_run, "chosen": [entry.message for entry in entries]})
        return
    typer.echo(f"{len(entries)} {'would be discarded' if dry_run else 'discarded'}")


def _settings() -> "Settings":
    from twinline.clients.kafka.connect import ensure_topics
    from twinline.clients.settings import load_settings

    settings = load_settings()
    ensure_topics(settings)
    return settings


def _entries(settings: "Settings", selection: "Selection") -> Sequence["Entry"]:
    from twinline.upkeep.dead_letters.entries import read_entries

    return [entry for entry in read_entries(settings) if selection.matches(entry)]


def _selection(
    reason: str | None,
    stage: str | None,
    stack: str | None,
    since: str | None,
    until: str | None,
    source: str | None,
    key: str | None,
    partition: int | None,
    offset: int | None,
    state: str,
) -> "Selection":
    from twinline.upkeep.dead_letters.entries import Selection, State

    if offset is not None and partition is None:
        raise SettingsError("--offset is of a partition: give --partition too")
    known = get_args(State)
    if state not in (*known, "all"):
        raise SettingsError(f"--state {state!r}: there are {', '.join(known)} and all")
    states = frozenset(known if state == "all" else (cast(State, state),))
    # An empty filter is none: a scheduler passes its parameters on, empty ones too.
    named = (
        reason or None,
        stage or None,
        stack or None,
        moment(since or None),
        moment(until or None),
        source or None,
        key or None,
    )
    return Selection(*named, partition, offset, states)


def _require_filter(selection: "Selection", everything: bool) -> None:
    names = ("reason", "stage", "stack", "since", "until", "source", "key", "partition", "offset")
    if not everything and all(getattr(selection, name) is None for name in names):
        raise SettingsError("say which: a filter such as --reason invalid_json or --partition 0 --offset 7, or else --all")


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
