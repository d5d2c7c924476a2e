"""A trace for people: a tree with a branch for each section and a line for each step, the verdict first."""

import json
from collections.abc import Mapping
from itertools import groupby
from typing import Final

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from twinline.contract.canonical import JSON
from twinline.upkeep.trace.steps import STATUSES, Status, Step, Trace

_COLOURS: Final[dict[Status, str]] = {"VERIFIED": "green", "DIFFERS": "bold red", "NOT HERE": "yellow", "RECORDED": "dim"}
_WIDTH: Final = max(map(len, STATUSES))
_LINE_CHARS: Final = 4_000


def show(trace: Trace, console: Console) -> None:
    """Print a trace, and the meaning of its verdicts."""
    tree = Tree(Text(_printable(trace.subject), style="bold"), guide_style="dim")
    for name, steps in groupby(trace.steps, key=lambda step: step.section):
        branch = tree.add(Text(_printable(name), style="bold cyan"))
        for step in steps:
            branch.add(_line(step))
    # The terminal may wrap a line, but a truncated hash or address could not be compared or copied.
    console.width = _LINE_CHARS
    console.print(tree, soft_wrap=True)
    counts = {status: sum(step.status == status for step in trace.steps) for status in STATUSES}
    console.print()
    for status, meaning in STATUSES.items():
        if counts[status]:
            console.print(Text.assemble(f"{counts[status]:>4} ", (f"{status:<{_WIDTH}}", _COLOURS[status]), f"  {meaning}"))


def _line(step: Step) -> Text:
    line = Text.assemble((f"{step.status:<{_WIDTH}}  ", _COLOURS[step.status]), f"{_printable(step.what)}: ")
    line.append(_printable(_words(step.value)))
    if step.status == "DIFFERS":
        line.append(f", found {_printable(_words(step.recomputed))}", style=_COLOURS["DIFFERS"])
    if step.note:
        line.append(f"  ({_printable(step.note)})", style="dim")
    return line


def _words(value: JSON) -> str:
    if value in (None, ""):
        return "none"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return " to ".join(map(str, value)) if len(value) == 2 else ", ".join(map(str, value))
    return str(value)


def _printable(text: str) -> str:
    """Return a text without a terminal's control characters: keys and titles are foreign text."""
    return "".join(character if character.isprintable() else " " for character in text)
