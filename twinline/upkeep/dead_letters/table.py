"""Dead letters for people."""

import json
from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streaming.dead_letters import DeadLetter
from twinline.contract.canonical import JSON
from twinline.upkeep.dead_letters.entries import Entry, Group

_DIGEST_CHARS = 12


def show_groups(groups: Sequence[Group], entries: Sequence[Entry], state: str) -> None:
    """Print groups of like failures, and some entries one by one."""
    console = Console()
    if not groups:
        what = "no dead letters" if state == "all" else f"no dead letters that are {state}"
        console.print(f"{what}: every other message was indexed")
        return
    console.print(_table(("count", "reason", "stage", "stack", "newest", "example"), [_group_row(group) for group in groups]))
    console.print()
    headings = ("time", "message", "state", "document", "reason", "tried", "error")
    console.print(_table(headings, [_entry_row(entry) for entry in entries]))


def letter_json(entry: Entry, letter: DeadLetter, limit: int) -> dict[str, JSON]:
    """Return all of one letter; `cut_characters` counts the omitted characters of the value."""
    value, cut = printed_value(letter.message.value, limit)
    headers: list[JSON] = [[name, raw.decode(errors="backslashreplace")] for name, raw in letter.message.headers]
    return {**entry.to_json(), "headers": headers, "value": value, "cut_characters": cut}


def show_whole(entry: Entry, letter: DeadLetter, limit: int) -> None:
    """Print all of one letter."""
    console = Console(highlight=False, markup=False)
    said = entry.to_json()
    for name in ("message", "state", "source", "key", "stage", "reason", "error", "stack", "time", "releases", "attempt", "size"):
        console.print(f"{name:>10}  {_printable(str(said[name]))}", soft_wrap=True)
    if entry.act is not None:
        console.print(f"{'act':>10}  {_printable(str(said['act']))}", soft_wrap=True)
    for name, raw in letter.message.headers:
        console.print(f"{'header':>10}  {_printable(name)}: {_printable(raw.decode(errors='backslashreplace'))}", soft_wrap=True)
    value, cut = printed_value(letter.message.value, limit)
    console.print("     value" if value is not None else "     value  null: a deletion")
    for line in (value or "").splitlines():
        console.print(f"    {_printable(line)}", soft_wrap=True)
    if cut:
        console.print(f"... and {cut} more characters: --limit 0 shows all")


def printed_value(value: bytes | None, limit: int) -> tuple[str | None, int]:
    """Return a readable value, JSON with an indent, cut after `limit` characters; and the number of characters cut."""
    if value is None:
        return None, 0
    text = value.decode(errors="backslashreplace")
    # An invalid JSON text, perhaps the reason of the dead letter, is shown unchanged.
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return (text[:limit], max(0, len(text) - limit)) if limit else (text, 0)


def _group_row(group: Group) -> tuple[str, ...]:
    said = group.to_json()
    stack = group.stack[:_DIGEST_CHARS]
    return (str(said["count"]), group.reason, group.stage, stack, str(said["newest"]), str(said["example"]))


def _entry_row(entry: Entry) -> tuple[str, ...]:
    document = f"[{entry.source}, {entry.key}]" if entry.source else entry.key
    return (entry.time, entry.message, entry.state, document, f"{entry.stage}: {entry.reason}", str(entry.attempt), entry.error)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*headings)
    for row in rows:
        # A key or an error may look like the console's own mark-up.
        table.add_row(*(escape(_printable(cell)) for cell in row))
    return table


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
