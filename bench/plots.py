"""Pictures of kept results, one a benchmark: the finding in the title, the target as a line, ours and peers in two colours."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.results import Report, latest
from twinline.contract.errors import ContractError

_OURS: Final = "#1f5fa8"
_OURS_UNSERVED: Final = "#9dc0e4"
_PEERS: Final = "#b3b3b3"
_TARGET: Final = "#c2410c"
_SERIES: Final = ("#9dc0e4", "#1f5fa8", "#0f766e", "#6b7280")
_STRIP_INCHES: Final = 0.2
_WIDTH: Final = 10

_REFERENCE: Final = "sentence-transformers torch fp32"
_ENCODER_TARGET: Final = 3
# Times that the whole path must be as fast as each of these, by the beginning of its name.
_PATH_TARGETS: Final = {"sentence-transformers": 3, "ONNX Runtime": 2, "naive consumer": 10}
_BUSY: Final = "indexing"
_STORE: Final = {
    "fill_seconds": "fill, s",
    "index_seconds": "build the graph, s",
    "query_p50_ms": "one query, p50, ms",
    "memory_mib": "memory, MiB",
    "disk_mib": "disk, MiB",
    "restart_seconds": "restart, s",
}
_NO_OP_SECONDS: Final = 2
_CHANGED_SHARE: Final = 0.03


def draw(reports: Sequence[Report], folder: Path) -> list[Path]:
    """Draw the last report of each kind that has a picture into `folder/bench-NAME.png`; return the files.

    Raises:
        ContractError: there is nothing to draw.
    """
    import matplotlib as mpl

    mpl.use("agg")
    found = {name: latest(reports, drawn.bench, drawn.part) for name, drawn in _PICTURES.items()}
    if not any(found.values()):
        raise ContractError(f"no result of {', '.join(_PICTURES)} was kept yet: run one of them first")
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _saved(picture(name, report), folder / f"bench-{name}.png", report)
        for name, report in found.items()
        if report is not None
    ]


def picture(name: str, report: Report) -> Any:
    """Return the figure of a report: `speed`, `query`, `freshness`, `growth` or `stages`."""
    return _PICTURES[name].draw(report)


def _saved(figure: Any, path: Path, report: Report) -> Path:
    machine = report["machine"]
    # A strip below the axes for the line that says where the figures are from.
    strip = _STRIP_INCHES / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, strip, 1, 1 - strip))
    command = f"python -m bench {report['bench']}"
    source = f"{command}; {machine['processor']}, {machine['cores']} cores, {report['at']}"
    figure.text(0.01, 0.005, source, fontsize=7, color="gray")
    figure.savefig(path, dpi=120)
    return path


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained")


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "missed"


def _speed(report: Report) -> Any:
    rows = sorted(report["rows"], key=lambda row: row["chunks_per_second"])
    path = sorted(report.get("path", []), key=lambda row: row["documents_per_second"])
    figure = _figure(1.6 + 0.33 * (len(rows) + len(path)) + (0.6 if path else 0))
    panels = figure.subplots(2 if path else 1, 1, squeeze=False, height_ratios=[len(rows) + 1, len(path) + 1][: 2 if path else 1])
    _encoders(panels[0][0], rows, report)
    if path:
        _whole_path(panels[1][0], path)
    return figure


def _encoders(axes: Any, rows: Sequence[Mapping[str, Any]], report: Report) -> None:
    served = report.get("ours", "")
    colours = [_OURS if row["contender"] == served else _OURS_UNSERVED if _is_ours(row["contender"]) else _PEERS for row in rows]
    size = f"{report['chunks']} chunks of {report['corpus']}"
    if "tokens" in report:
        size += f", {report['tokens'] // report['chunks']} tokens each on average"
    _bars(axes, rows, "chunks_per_second", f"chunks a second ({size})", colours)
    rates = {row["contender"]: row["chunks_per_second"] for row in rows}
    title = f"Bulk embedding: {rows[-1]['contender']} is the fastest"
    if _REFERENCE in rates and served in rates:
        times = next(row.get("ratio", rates[served] / rates[_REFERENCE]) for row in rows if row["contender"] == served)
        verdict = _verdict(times >= _ENCODER_TARGET)
        title = f"{served}: {times:.1f} x as fast as {_REFERENCE} (target {_ENCODER_TARGET} x: {verdict})"
        _vertical(axes, _ENCODER_TARGET * rates[_REFERENCE], f"target: {_ENCODER_TARGET} x {_REFERENCE}")
    axes.set_title(title, fontsize=10)
    _legend(axes, {"ours, as served": _OURS, "ours, other formats": _OURS_UNSERVED, "peers": _PEERS})


def _is_ours(contender: str) -> bool:
    return contender.startswith(("OpenVINO", "streaming path"))


def _whole_path(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    colours = [_OURS if _is_ours(row["contender"]) else _PEERS for row in rows]
    _bars(axes, rows, "documents_per_second", "documents a second", colours)
    told = []
    for place, row in enumerate(rows):
        target = next((times for name, times in _PATH_TARGETS.items() if row["contender"].startswith(name)), None)
        if target is None:
            continue
        wanted = target * row["documents_per_second"]
        axes.plot([wanted, wanted], [place - 0.4, place + 0.4], color=_TARGET, linewidth=2)
        axes.annotate(f" {target} x", (wanted, place), color=_TARGET, fontsize=8, va="center")
        told.append(f"{target} x {row['contender'].split(' (')[0]}: {_verdict(row['path_is_times_faster'] >= target)}")
    rate = max((row["documents_per_second"] for row in rows if _is_ours(row["contender"])), default=0)
    axes.axvline(rate, color=_OURS, linewidth=0.8, linestyle=":")
    axes.set_title(f"The whole path: {rate:g} documents a second\n" + "; ".join(reversed(told)), fontsize=9)


def _bars(axes: Any, rows: Sequence[Mapping[str, Any]], value: str, unit: str, colours: Sequence[str]) -> None:
    middle = [row[value] for row in rows]
    # A result that was kept without its spread is drawn without one.
    has_spread = all({"lowest", "highest"} <= row.keys() for row in rows)
    errors = [[row[value] - row["lowest"] for row in rows], [row["highest"] - row[value] for row in rows]] if has_spread else None
    unit = f"{unit}: median, lowest to highest" if has_spread else f"{unit}: median"
    names = [row["contender"].replace(" (", "\n(") for row in rows]
    axes.barh(names, middle, xerr=errors, color=colours, ecolor="#555555", capsize=2)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel(unit, fontsize=8)


def _vertical(axes: Any, place: float, label: str) -> None:
    axes.axvline(place, color=_TARGET, linestyle="--", linewidth=1.2)
    axes.annotate(f" {label}", (place, 0), color=_TARGET, fontsize=8, va="center")


def _legend(axes: Any, colours: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch

    axes.legend(handles=[Patch(color=colour, label=label) for label, colour in colours.items()], fontsize=8, loc="center right")


def _query(report: Report) -> Any:
    return _percentiles(report["rows"], "A search, text in to hits out", {"p50_ms": 8, "p99_ms": 30})


def _freshness(report: Report) -> Any:
    # Without figures where all was over before the first probe.
    rows = [row for row in report["rows"] if "p50_ms" in row]
    return _percentiles(rows, "From produced to searchable", {"p50_ms": 200, "p99_ms": 1000})


def _percentiles(rows: Sequence[Mapping[str, Any]], what: str, targets: Mapping[str, float]) -> Any:
    """Draw groups of bars; targets are for the row beside indexing, or else for the last one."""
    figure = _figure(4)
    axes = figure.subplots()
    names = ["p50_ms", "p95_ms", "p99_ms"]
    width = 0.8 / len(rows)
    for place, row in enumerate(rows):
        bars = axes.bar(
            [number + place * width for number in range(len(names))],
            [row.get(name, 0) for name in names],
            width,
            label=row["while"],
            color=_SERIES[place % len(_SERIES)],
        )
        axes.bar_label(bars, [f"{row[name]:.3g}" if name in row else "not kept" for name in names], fontsize=7)
    judged = next((row for row in rows if str(row["while"]).startswith(_BUSY)), rows[-1])
    for name, target in targets.items():
        left = names.index(name) - width / 2
        axes.plot([left, left + 0.8], [target, target], color=_TARGET, linestyle="--", linewidth=1.2)
        axes.annotate(f"target {target} ms", (left, target), color=_TARGET, fontsize=8, va="bottom")
    axes.set_xticks([number + 0.4 - width / 2 for number in range(len(names))], [name.removesuffix("_ms") for name in names])
    axes.set_ylabel("ms")
    axes.set_ylim(top=1.15 * max(*targets.values(), *(row.get(name, 0) for row in rows for name in names)))
    verdicts = [
        f"{name.removesuffix('_ms')} {judged[name]:.3g} ms (target {target}: {_verdict(judged[name] <= target)})"
        for name, target in targets.items()
    ]
    axes.set_title(f"{what}, while {judged['while']}:\n{', '.join(verdicts)}", fontsize=10)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 0.9))
    return figure


def _growth(report: Report) -> Any:
    rows = report["rows"]
    exponents = report.get("exponents", {})
    figure = _figure(6)
    sizes = [row["chunks"] for row in rows]
    for axes, (name, label) in zip(figure.subplots(2, 3).flat, _STORE.items(), strict=True):
        # A small collection has no graph to build: nothing is no point of a curve of powers.
        shown = [(size, row[name]) for size, row in zip(sizes, rows, strict=True) if row[name] > 0]
        axes.loglog([size for size, _ in shown], [cost for _, cost in shown], marker="o", color=_OURS)
        if shown:
            (size, cost), limits = shown[-1], axes.get_ylim()
            smallest = shown[0][0]
            axes.loglog([smallest, size], [cost * smallest / size, cost], color=_TARGET, linestyle="--", linewidth=1)
            axes.set_ylim(limits)
        power = exponents.get(name)
        axes.set_title(label if power is None else f"{label}: power {power}", fontsize=9)
        axes.set_xlabel("chunks", fontsize=8)
        axes.grid(alpha=0.3)
    steep = [_STORE[name].split(",")[0] for name, power in exponents.items() if name in _STORE and power and power > 1]
    finding = f"only '{', '.join(steep)}' grows faster than the data" if steep else "nothing grows faster than the data"
    title = f"The embedded store from {sizes[0]:,} to {sizes[-1]:,} chunks: {finding} (dashed: in proportion to it)"
    figure.suptitle(title if exponents else title.split(":")[0], fontsize=10)
    return figure


def _stages(report: Report) -> Any:
    sources = sorted({row["source"] for row in report["stages"]})
    figure = _figure(3.5 * len(sources))
    for source, (left, right) in zip(sources, figure.subplots(len(sources), 2, squeeze=False), strict=True):
        rows = [row for row in report["stages"] if row["source"] == source]
        _stage_seconds(left, rows, source)
        _stage_memory(right, rows, source)
        for axes in (left, right):
            axes.set_xlabel("documents", fontsize=8)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=7, loc="upper left", ncols=2)
    return figure


def _stage_seconds(axes: Any, rows: Sequence[Mapping[str, Any]], source: str) -> None:
    sizes = [row["documents"] for row in rows]
    drawn = {"full run": "first_seconds", "1 % changed": "one_percent_seconds", "nothing changed": "no_op_seconds"}
    for (label, name), colour in zip(drawn.items(), _SERIES[1:], strict=True):
        axes.loglog(sizes, [row[name] for row in rows], marker="o", label=label, color=colour)
    wanted = [_CHANGED_SHARE * row["first_seconds"] for row in rows]
    axes.loglog(
        sizes, wanted, color=_TARGET, linestyle="--", label=f"target for 1 % changed: {100 * _CHANGED_SHARE:.0f} % of a full run"
    )
    axes.axhline(_NO_OP_SECONDS, color=_TARGET, linestyle=":", label=f"target for nothing changed: {_NO_OP_SECONDS} s")
    # Room for the legend above the lines.
    axes.set_ylim(top=8 * max(row["first_seconds"] for row in rows))
    last = rows[-1]
    share = last["one_percent_seconds"] / last["first_seconds"]
    no_op = max(row["no_op_seconds"] for row in rows)
    axes.set_title(
        f"{source}, seconds: 1 % changed costs {100 * share:.0f} % of a full run ({_verdict(share <= _CHANGED_SHARE)});"
        f"\nnothing changed at most {no_op:g} s ({_verdict(no_op < _NO_OP_SECONDS)})",
        fontsize=9,
    )


def _stage_memory(axes: Any, rows: Sequence[Mapping[str, Any]], source: str) -> None:
    sizes = [row["documents"] for row in rows]
    for place, stage in enumerate(rows[0]["stage_peak_mib"]):
        colour = _SERIES[place % len(_SERIES)]
        axes.semilogx(sizes, [row["stage_peak_mib"][stage] for row in rows], marker="o", label=stage, color=colour)
    stage, peak = max(rows[-1]["stage_peak_mib"].items(), key=lambda entry: float(entry[1]))
    growth = sizes[-1] / sizes[0]
    times = peak / rows[0]["stage_peak_mib"][stage]
    axes.set_title(f"{source}, peak MiB: {stage} takes {times:.1f} x the memory\nfor {growth:.0f} x the documents", fontsize=9)
    axes.set_ylim(0, 1.25 * peak)


@dataclass(frozen=True, slots=True)
class _Picture:
    """Which part of which benchmark is drawn, and by what."""

    bench: str
    part: str
    draw: Callable[[Report], Any]


_PICTURES: Final = {
    "speed": _Picture("speed", "rows", _speed),
    "query": _Picture("query", "rows", _query),
    "freshness": _Picture("freshness", "rows", _freshness),
    "growth": _Picture("growth", "rows", _growth),
    "stages": _Picture("growth", "stages", _stages),
}
