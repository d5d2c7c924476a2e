"""Tables of one release, and of the difference of two, for a person."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from twinline.release.show.described import Described
from twinline.release.show.difference import Difference, flattened
from twinline.release.verify.record import Verification

_UNKNOWN = "not known here"


def show_release(described: Described) -> RenderableType:
    """Return all facts about a release, in the order of a reader's questions."""
    manifest, entry = described.manifest, described.entry
    head = _pairs(
        {
            "release": described.release,
            "space": manifest.get("space"),
            "version": f"{entry.version}, registered {entry.created_at}, commit {entry.revision[:12]}"
            if entry
            else "not registered",
            "stage": (", ".join(entry.stages) if entry else "") or "none",
            "served": _UNKNOWN if described.notes and described.served is None else _served(described.served),
            "base model": manifest.get("base_model"),
            "weights": manifest.get("weights_sha256"),
            "dimension": manifest.get("dimension"),
        }
    )
    parts = [
        *_section("release", head),
        *_section("contract", _pairs({**_prints(manifest), **_values(described.contract)})),
        *_section("formats", _formats(manifest)),
        *_section("metrics", _metrics(manifest)),
        *_section("gate", _gate(described)),
        *_section("last verification", _verification(described.verification)),
        *_section("promotions", _promotions(described)),
        *_section("lineage", _lineage(described)),
        *(Text(note, style="yellow") for note in described.notes),
    ]
    return Group(*parts)


def show_difference(difference: Difference) -> RenderableType:
    """Return the meaning in one line, and below it the differences by section."""
    parts: list[RenderableType] = [Text(f"{difference.a} -> {difference.b}: {difference.meaning}", style="bold")]
    for name, rows in difference.sections.items():
        table = _table("value", difference.a, difference.b, "difference")
        for row in rows:
            table.add_row(row.what, _short(row.a), _short(row.b), "" if row.difference is None else f"{row.difference:+.4g}")
        parts += _section(name, table if rows else Text("no difference", style="dim"))
    parts += [Text(f"{what}: {_UNKNOWN}", style="yellow") for what in difference.unknown]
    return Group(*parts)


def check_lines(checks: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line a check, for a log: the decision, the evidence and the numbers."""
    for check in checks:
        yield f"  {'ok     ' if check['passed'] else 'REFUSED'} {check['name']}: {check['detail']}"


def _formats(manifest: Mapping[str, Any]) -> Table:
    table = _table("format", "precision", "worst distance", "limit", "quality", "MB", "query ms", "")
    served = (manifest.get("serving") or {}).get("format")
    for entry in manifest.get("formats", []):
        parity = entry.get("parity") or {}
        table.add_row(
            entry["name"],
            entry.get("precision", ""),
            _short(parity.get("worst")),
            _short(parity.get("limit")),
            _quality(entry.get("quality")),
            f"{entry['bytes'] / 1e6:.1f}" if isinstance(entry.get("bytes"), int | float) else _UNKNOWN,
            _short(entry["query_ms"]) if entry.get("query_ms") is not None else _UNKNOWN,
            "served" if entry["name"] == served else "",
        )
    for entry in manifest.get("dropped_formats", []):
        table.add_row(entry["name"], "", "", "", "", "", "", Text(f"dropped: {entry['reason']}", style="yellow"))
    return table


def _metrics(manifest: Mapping[str, Any]) -> RenderableType:
    values = dict(flattened(manifest.get("metrics") or {}))
    return _pairs(values) if values else Text("none: it was not evaluated", style="dim")


def _values(contract: Mapping[str, Any]) -> dict[str, Any]:
    # A null in a contract is a value: that step is off.
    return {name: "none" if value is None else value for name, value in flattened(contract)}


def _quality(value: Any) -> str:
    if value is None:
        return _UNKNOWN
    return ", ".join(f"{name} {_short(number)}" if name else _short(number) for name, number in flattened(value))


def _gate(described: Described) -> RenderableType:
    verdict = described.verdict
    if verdict is None:
        said = described.entry.message.strip() if described.entry else ""
        return Text(said or f"{_UNKNOWN}: a release that no pipeline has judged, or whose commit is elsewhere")
    table = _table("", "check", "what was measured")
    table.add_row(*_decided(verdict.get("accepted") is True), "verdict", str(verdict.get("outcome", "")))
    for check in verdict.get("checks", []):
        numbers = ", ".join(f"{name} {_short(number)}" for name, number in flattened(check.get("numbers") or {}))
        said = "; ".join(part for part in (str(check.get("statement", "")), numbers) if part)
        table.add_row(*_decided(check.get("passed") is True), str(check.get("name", "")), said)
    for reason in verdict.get("reasons", []):
        table.add_row("", "reason", reason)
    for name, number in flattened(verdict.get("numbers") or {}):
        table.add_row("", name, _short(number))
    return table


def _verification(verification: Verification | None) -> RenderableType:
    if verification is None:
        return Text("none of the collection that is there now", style="dim")
    table = _table("", "check", "what was measured")
    against = f", beside {verification.against} as the active release" if verification.against else ""
    table.add_row(*_decided(verification.passed), verification.time, f"by {verification.by}{against}")
    for check in verification.checks:
        table.add_row(*_decided(check.passed), check.name, check.detail)
    return table


def _promotions(described: Described) -> RenderableType:
    if not described.promotions:
        return Text("never promoted", style="dim")
    table = _table("time", "what", "by", "before it")
    for promotion in described.promotions:
        table.add_row(promotion.time, promotion.kind, promotion.by, promotion.before or "none")
    return table


def _lineage(described: Described) -> Table:
    counts = (described.snapshot or {}).get("counts") or {}
    rows = dict(flattened(described.manifest.get("lineage") or {}))
    return _pairs({**rows, **{f"snapshot {name}": count for name, count in counts.items()}})


def _prints(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {f"fingerprint {name}": value for name, value in (manifest.get("fingerprints") or {}).items()}


def _served(served: Mapping[str, Any] | None) -> str:
    if served is None:
        return "no"
    documents, lag = ("?" if served[name] is None else served[name] for name in ("documents", "lag"))
    faults = "".join(f"; {fault}" for fault in served["faults"])
    return f"{'active' if served['active'] else 'yes'}, {documents} documents, {lag} offsets behind{faults}"


def _decided(passed: bool) -> tuple[Text]:
    return (Text("ok" if passed else "REFUSED", style="green" if passed else "bold red"),)


def _section(name: str, what: RenderableType) -> tuple[RenderableType, RenderableType]:
    return Text(f"\n{name}", style="bold cyan"), what


def _pairs(values: Mapping[str, Any]) -> Table:
    table = _table("", "", header=False)
    for name, value in values.items():
        table.add_row(name, _short(value))
    return table


def _table(*columns: str, header: bool = True) -> Table:
    table = Table(box=None, pad_edge=False, show_header=header)
    for number, column in enumerate(columns):
        table.add_column(column, style="dim" if not header and number == 0 else None, overflow="fold")
    return table


def _short(value: Any) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:.4g}" if isinstance(value, float) else str(value)
