"""Plots of kept results, one picture a benchmark, drawn only when somebody asks for them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.results import Report, latest
from twinline.contract.errors import ContractError

_STORE: Final = ("fill_seconds", "index_seconds", "query_p50_ms", "memory_mib", "disk_mib", "restart_seconds")
_STRIP_INCHES: Final = 0.2


def draw(reports: Sequence[Report], folder: Path) -> list[Path]:
    """Draw the last report of each kind that has a picture into `folder/bench-NAME.png`; return the files.

    Raises:
        ContractError: there is nothing to draw.
    """
    import matplotlib as mpl

    mpl.use("agg")
    found = {name: latest(reports, picture.bench, picture.part) for name, picture in _PICTURES.items()}
    if not any(found.values()):
        raise ContractError(f"no result of {', '.join(_PICTURES)} was kept yet: run one of them first")
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _saved(_PICTURES[name].draw(report), folder / f"bench-{name}.png", report)
        for name, report in found.items()
        if report is not None
    ]


def _saved(figure: Any, path: Path, report: Report) -> Path:
    machine = report["machine"]
    # A strip below the axes for the line that says where the figures are from.
    strip = _STRIP_INCHES / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, strip, 1, 1 - strip))
    figure.text(0.01, 0.005, f"{machine['processor']}, {machine['cores']} cores, {report['at']}", fontsize=7, color="gray")
    figure.savefig(path, dpi=120)
    return path


def _speed(report: Report) -> Any:
    rows = sorted(report["rows"], key=lambda row: row["chunks_per_second"])
    title = f"{report['chunks']} chunks of {report['corpus']}, {report['tokens'] // report['chunks']} tokens each on average"
    return _bars(rows, "contender", "chunks_per_second", "chunks a second (median, lowest to highest)", title)


def _query(report: Report) -> Any:
    return _percentiles(report["rows"], "search, text in to hits out")


def _freshness(report: Report) -> Any:
    # Without figures where all was over before the first probe.
    return _percentiles([row for row in report["rows"] if "p50_ms" in row], "produced to searchable")


def _growth(report: Report) -> Any:
    from matplotlib.figure import Figure

    rows = report["rows"]
    figure = Figure(figsize=(10, 6), layout="constrained")
    sizes = [row["chunks"] for row in rows]
    for axes, name in zip(figure.subplots(2, 3).flat, _STORE, strict=True):
        # A small collection has no graph to build: nothing is no point of a curve of powers.
        shown = [(size, row[name]) for size, row in zip(sizes, rows, strict=True) if row[name] > 0]
        axes.loglog([size for size, _ in shown], [cost for _, cost in shown], marker="o")
        axes.set_title(f"{name.replace('_', ' ')}, exponent {report.get('exponents', {}).get(name)}", fontsize=9)
        axes.set_xlabel("chunks")
        axes.grid(alpha=0.3)
    return figure


def _stages(report: Report) -> Any:
    from matplotlib.figure import Figure

    sources = sorted({row["source"] for row in report["stages"]})
    figure = Figure(figsize=(10, 3.5 * len(sources)), layout="constrained")
    drawn = {"full run": "first_seconds", "1 % changed": "one_percent_seconds", "nothing changed": "no_op_seconds"}
    for source, (left, right) in zip(sources, figure.subplots(len(sources), 2, squeeze=False), strict=True):
        rows = [row for row in report["stages"] if row["source"] == source]
        sizes = [row["documents"] for row in rows]
        for label, name in drawn.items():
            left.loglog(sizes, [row[name] for row in rows], marker="o", label=label)
        for stage in rows[0]["stage_peak_mib"]:
            right.semilogx(sizes, [row["stage_peak_mib"][stage] for row in rows], marker="o", label=stage)
        left.set_title(f"ingest to pairs, {source}: seconds", fontsize=9)
        right.set_title(f"{source}: peak of each stage's process, MiB", fontsize=9)
        right.set_ylim(bottom=0)
        for axes in (left, right):
            axes.set_xlabel("documents")
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
    return figure


def _bars(rows: Sequence[Mapping[str, Any]], label: str, value: str, unit: str, title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    middle = [row[value] for row in rows]
    errors = [[row[value] - row["lowest"] for row in rows], [row["highest"] - row[value] for row in rows]]
    axes.barh([row[label] for row in rows], middle, xerr=errors, color="#4878a8", ecolor="gray", capsize=2)
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=10)
    return figure


def _percentiles(rows: Sequence[Mapping[str, Any]], title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    names = ["p50_ms", "p95_ms", "p99_ms"]
    width = 0.8 / len(rows)
    for place, row in enumerate(rows):
        axes.bar(
            [number + place * width for number in range(len(names))], [row[name] for name in names], width, label=row["while"]
        )
    axes.set_xticks([number + 0.4 - width / 2 for number in range(len(names))], [name.removesuffix("_ms") for name in names])
    axes.set_ylabel("ms")
    axes.set_title(title, fontsize=10)
    axes.legend()
    return figure


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
