"""Draws docs/architecture.png: the two lines, the contract between them, and the five doors. `make docs` runs it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

_OUT: Final = Path(__file__).with_name("architecture.png")
_OFFLINE: Final = "#dbeafe"
_ONLINE: Final = "#dcfce7"
_CONTRACT: Final = "#fde68a"
_RELEASE: Final = "#ede9fe"
_OUTSIDE: Final = "#f3f4f6"
_INK: Final = "#1f2937"
_DOOR: Final = "#b91c1c"
_HALF_HEIGHT: Final = 0.36


@dataclass(frozen=True, slots=True)
class Box:
    """A part: its centre, its width, a title, and a line that says more."""

    x: float
    y: float
    width: float
    title: str
    detail: str
    colour: str
    door: int = 0


_OFF_Y, _REL_Y, _CON_Y, _ON_Y = 6.3, 1.3, 4.85, 3.3
BOXES: Final = {
    "sources": Box(0.9, 4.85, 1.3, "sources", "files, tables,\nBEIR, Kafka", _OUTSIDE),
    "ingest": Box(2.7, _OFF_Y, 1.4, "ingest", "snapshot, id by\nits bytes", _OFFLINE),
    "pairs": Box(4.6, _OFF_Y, 1.6, "prepare, pairs", "no duplicates,\nno leaks", _OFFLINE),
    "train": Box(6.5, _OFF_Y, 1.4, "train", "fine-tuning", _OFFLINE, 1),
    "evaluate": Box(8.4, _OFF_Y, 1.6, "evaluate", "against base,\nchampion, BM25", _OFFLINE),
    "export": Box(10.4, _OFF_Y, 1.7, "export, parity", "ONNX, OpenVINO,\nquality a format", _OFFLINE, 1),
    "package": Box(12.3, _OFF_Y, 1.3, "package", "the release\nfolder", _OFFLINE),
    "log": Box(2.7, _ON_Y, 1.4, "Kafka", "the log of\ndocuments", _ONLINE),
    "consumer": Box(4.9, _ON_Y, 1.7, "consumer", "streaming: durable,\nthen committed", _ONLINE, 3),
    "triton": Box(7.2, _ON_Y, 1.6, "Triton", "tokenizer, encoder,\nper release", _ONLINE, 2),
    "store": Box(9.5, _ON_Y, 1.6, "Qdrant", "one collection\na release", _ONLINE, 4),
    "search": Box(11.5, _ON_Y, 1.4, "search", "API and page", _ONLINE, 5),
    "people": Box(13.2, _ON_Y, 1.1, "people", "and programs", _OUTSIDE),
    "gate": Box(12.3, _REL_Y, 1.7, "gate, register", "GTO: a Git tag", _RELEASE),
    "publish": Box(7.2, _REL_Y, 1.6, "publish", "to every Triton,\nor to none", _RELEASE),
    "build": Box(4.9, _REL_Y, 1.7, "build", "a collection from\nsnapshot and log", _RELEASE),
    "fetch": Box(9.75, _REL_Y, 1.3, "fetch", "a version", _RELEASE),
    "promote": Box(2.5, _REL_Y, 1.7, "verify, promote", "the alias is the\ncommit point", _RELEASE),
}
# From, to, and how far the arrow bends.
ARROWS: Final = (
    ("sources", "ingest", 0.0),
    ("sources", "log", 0.0),
    ("ingest", "pairs", 0.0),
    ("pairs", "train", 0.0),
    ("train", "evaluate", 0.0),
    ("evaluate", "export", 0.0),
    ("export", "package", 0.0),
    ("log", "consumer", 0.0),
    ("consumer", "triton", 0.0),
    ("consumer", "store", -0.28),
    ("search", "store", 0.0),
    ("search", "triton", -0.28),
    ("people", "search", 0.0),
    ("gate", "fetch", 0.0),
    ("fetch", "publish", 0.0),
    ("publish", "build", 0.0),
    ("build", "promote", 0.0),
)
# Place and text of what is said above each lane.
LANES: Final = (
    (2.0, _OFF_Y + 0.62, "OFFLINE", "batches, versions, lineage: DVC says what is stale, Airflow when it runs"),
    (2.0, _ON_Y + 0.62, "ONLINE", "low latency, fresh data"),
    (1.65, _REL_Y + 0.62, "RELEASE", "a new encoder takes over"),
)
IN_THE_CONTRACT: Final = (
    "cleaning  ·  chunker  ·  tokenizer file  ·  limits  ·  role prefixes  ·  pooling  ·  ids  ·  golden texts"
)


def draw(out: Path) -> None:
    """Draw the picture into a file."""
    mpl.use("agg")
    figure = Figure(figsize=(13.8, 7.4))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0.1, 14.1), ylim=(0.1, 7.5))
    axes.axis("off")
    axes.text(7.1, 7.25, "Two lines, one contract", ha="center", fontsize=15, weight="bold", color=_INK)
    _contract(axes)
    for start, end, bend in ARROWS:
        _arrow(axes, BOXES[start], BOXES[end], bend)
    _elbow(axes)
    for box in BOXES.values():
        _box(axes, box)
    for x, y, name, more in LANES:
        axes.text(x, y, f"{name}  {more}", fontsize=8.5, color="#4b5563", va="center")
    key = "1 loading weights   2 loading in Triton   3 starting a consumer   4 opening an index   5 answering a query"
    axes.text(7.1, 0.35, f"Five doors refuse a mismatch:  {key}", ha="center", fontsize=9, color=_DOOR)
    figure.savefig(out, dpi=110)


def _contract(axes: Any) -> None:
    """Draw the contract as a bar, with a line to each part that calls it."""
    for name in ("ingest", "pairs", "train", "evaluate", "export", "package"):
        box = BOXES[name]
        axes.plot([box.x, box.x], [_CON_Y + 0.3, box.y - _HALF_HEIGHT], color="#d97706", linewidth=2.5, alpha=0.6, zorder=1)
    for name in ("consumer", "triton", "store", "search"):
        box = BOXES[name]
        axes.plot([box.x, box.x], [_CON_Y - 0.3, box.y + _HALF_HEIGHT], color="#d97706", linewidth=2.5, alpha=0.6, zorder=1)
    bar = FancyBboxPatch(
        (2.0, _CON_Y - 0.32), 11.1, 0.64, boxstyle="round,pad=0.02,rounding_size=0.1", fc=_CONTRACT, ec="#d97706", lw=1.5
    )
    axes.add_patch(bar)
    axes.text(
        7.55,
        _CON_Y + 0.12,
        "twinline.contract: the same code and files in both lines",
        ha="center",
        va="center",
        fontsize=11,
        weight="bold",
    )
    axes.text(7.55, _CON_Y - 0.14, IN_THE_CONTRACT, ha="center", va="center", fontsize=8.5)


def _box(axes: Any, box: Box) -> None:
    corner = (box.x - box.width / 2, box.y - _HALF_HEIGHT)
    shape = FancyBboxPatch(
        corner,
        box.width,
        2 * _HALF_HEIGHT,
        boxstyle="round,pad=0.02,rounding_size=0.08",
        fc=box.colour,
        ec="#6b7280",
        lw=1,
        zorder=3,
    )
    axes.add_patch(shape)
    axes.text(box.x, box.y + 0.2, box.title, ha="center", va="center", fontsize=10, weight="bold", color=_INK, zorder=4)
    axes.text(box.x, box.y - 0.12, box.detail, ha="center", va="center", fontsize=7.5, color=_INK, linespacing=1.05, zorder=4)
    if box.door:
        x, y = box.x + box.width / 2 - 0.02, box.y + _HALF_HEIGHT
        axes.text(
            x,
            y,
            str(box.door),
            ha="center",
            va="center",
            fontsize=8,
            weight="bold",
            color="white",
            zorder=5,
            bbox={"boxstyle": "circle,pad=0.25", "fc": _DOOR, "ec": "white"},
        )


def _arrow(axes: Any, start: Box, end: Box, bend: float) -> None:
    if bend:
        tail, head = (start.x, start.y - _HALF_HEIGHT), (end.x, end.y - _HALF_HEIGHT)
        style = f"arc3,rad={bend if start.x > end.x else -bend}"
    elif start.y == end.y:
        side = 1 if end.x > start.x else -1
        tail, head = (start.x + side * start.width / 2, start.y), (end.x - side * end.width / 2, end.y)
        style = "arc3"
    else:
        tail, head = (start.x + 0.2, start.y + (0.38 if end.y > start.y else -0.38)), (end.x - end.width / 2, end.y)
        style = "arc3"
    arrow = FancyArrowPatch(tail, head, connectionstyle=style, arrowstyle="-|>", mutation_scale=13, color=_INK, lw=1.3, zorder=2)
    axes.add_patch(arrow)


def _elbow(axes: Any) -> None:
    """Draw the paths between lanes: package to gate, publish to Triton, build and promote to the collection."""
    package, gate = BOXES["package"], BOXES["gate"]
    right = 13.95
    axes.plot(
        [package.x + package.width / 2, right - 0.1, right - 0.1], [package.y, package.y, gate.y], color=_INK, lw=1.3, zorder=2
    )
    axes.annotate(
        "", (gate.x + gate.width / 2, gate.y), (right - 0.1, gate.y), arrowprops={"arrowstyle": "-|>", "color": _INK, "lw": 1.3}
    )
    for name, target in (("publish", "triton"), ("build", "consumer")):
        start, end = BOXES[name], BOXES[target]
        axes.annotate(
            "",
            (end.x, end.y - _HALF_HEIGHT - 0.02),
            (start.x, start.y + _HALF_HEIGHT),
            arrowprops={"arrowstyle": "-|>", "color": "#7c3aed", "lw": 1.3, "linestyle": "--"},
        )


if __name__ == "__main__":
    draw(_OUT)
