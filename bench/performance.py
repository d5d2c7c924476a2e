"""The commands that measure speed: each prints its report, stores it as a line of JSON, and adds it to the log on request."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

_HOME = Path("var/bench")
_RESULTS = _HOME / "results.jsonl"

Short = Annotated[bool, typer.Option("--short", help="Few documents and rounds: a smoke test more than a measurement.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Log = Annotated[
    bool, typer.Option("--append-log", help="Add the tables to docs/figures/runs.md, with the command that made them.")
]
LogFile = Annotated[Path, typer.Option("--log-file", help="The file of --append-log.")]
Results = Annotated[Path, typer.Option(help="File for a line of JSON from every run.")]
Workspace = Annotated[Path, typer.Option(help="Folder for scratch, models and the stack's state.")]
Release = Annotated[Path | None, typer.Option(help="A packaged release; the untuned base model by default.")]
LOG = Path("docs/figures/runs.md")


def speed(
    corpus: Annotated[str, typer.Option(help="Real text: pydocs, or scifact where this machine has it.")] = "pydocs",
    encoders_only: Annotated[
        bool, typer.Option("--encoders-only", help="Leave out the streaming path: no stack is started.")
    ] = False,
    release: Release = None,
    *,
    short: Short = False,
    as_json: AsJson = False,
    append_log: Log = False,
    log_file: LogFile = LOG,
    results: Results = _RESULTS,
    workspace: Workspace = _HOME / "speed",
) -> None:
    """Bulk embedding, the encoder alone and the whole path, against peers in the same run."""
    from bench.speed import measure_speed

    def measure(packaged: Path) -> dict[str, Any]:
        return measure_speed(workspace.resolve(), packaged, corpus, short=short, stream=not encoders_only)

    _run(measure, release, workspace, results, log_file if append_log else None, as_json=as_json)


def query(
    chunks: Annotated[int, typer.Option(help="Size of the searched collection.")] = 10_000,
    full: Annotated[bool, typer.Option("--full", help="100,000 chunks; building the index takes minutes.")] = False,
    release: Release = None,
    *,
    short: Short = False,
    as_json: AsJson = False,
    append_log: Log = False,
    log_file: LogFile = LOG,
    results: Results = _RESULTS,
    workspace: Workspace = _HOME / "query",
) -> None:
    """One query in process and through Triton, and searches, text in to hits out, idle and while indexing."""
    from bench.query import measure_query

    wanted = 100_000 if full else 500 if short else chunks

    def measure(packaged: Path) -> dict[str, Any]:
        return measure_query(workspace.resolve(), packaged, chunks=wanted, short=short)

    _run(measure, release, workspace, results, log_file if append_log else None, as_json=as_json)


def freshness(
    release: Release = None,
    *,
    short: Short = False,
    as_json: AsJson = False,
    append_log: Log = False,
    log_file: LogFile = LOG,
    results: Results = _RESULTS,
    workspace: Workspace = _HOME / "freshness",
) -> None:
    """From a document's production to the first search that finds it, idle and at half the sustained rate."""
    from bench.freshness import measure_freshness

    def measure(packaged: Path) -> dict[str, Any]:
        return measure_freshness(workspace.resolve(), packaged, short=short)

    _run(measure, release, workspace, results, log_file if append_log else None, as_json=as_json)


def metadata(
    release: Release = None,
    *,
    short: Short = False,
    as_json: AsJson = False,
    append_log: Log = False,
    log_file: LogFile = LOG,
    results: Results = _RESULTS,
    workspace: Workspace = _HOME / "metadata",
) -> None:
    """10,000 updates of metadata and tenant alone through the whole path: embeddings made, and updates a second."""
    from bench.metadata import measure_metadata

    def measure(packaged: Path) -> dict[str, Any]:
        return measure_metadata(workspace.resolve(), packaged, short=short)

    _run(measure, release, workspace, results, log_file if append_log else None, as_json=as_json)


def growth(
    most: Annotated[int, typer.Option("--max", help="Largest store, in chunks; a million takes an hour.")] = 1_000_000,
    rows: Annotated[int, typer.Option(help="Largest corpus of the offline stages, in documents.")] = 16_000,
    parts: Annotated[str, typer.Option(help="Parts to measure: store, stages, indexing.")] = "store,stages,indexing",
    release: Release = None,
    *,
    short: Short = False,
    as_json: AsJson = False,
    append_log: Log = False,
    log_file: LogFile = LOG,
    results: Results = _RESULTS,
    workspace: Workspace = _HOME / "growth",
) -> None:
    """Cost against size and against change: store, offline stages, indexing; each with its exponent."""
    from bench.growth import measure_growth

    names = [name.strip() for name in parts.split(",") if name.strip()]
    if unknown := sorted(set(names) - {"store", "stages", "indexing"}):
        raise typer.BadParameter(f"--parts {unknown[0]!r}: choose from store, stages, indexing")
    limits = (min(most, 10_000), min(rows, 400)) if short else (most, rows)

    def measure(packaged: Path) -> dict[str, Any]:
        return measure_growth(
            workspace.resolve(), packaged, names, most=limits[0], rows=limits[1], say=lambda what: typer.echo(what, err=True)
        )

    # Only indexing embeds: without it the minutes for making a release are saved.
    packaged = release if release or "indexing" in names else workspace
    _run(measure, packaged, workspace, results, log_file if append_log else None, as_json=as_json)


def training(
    batch_size: Annotated[int, typer.Option(help="Pairs in a batch; 0: 64 on a CPU, 512 on a GPU.")] = 0,
    *,
    short: Short = False,
    as_json: AsJson = False,
    append_log: Log = False,
    log_file: LogFile = LOG,
    results: Results = _RESULTS,
    workspace: Workspace = _HOME / "training",
) -> None:
    """Pairs a second of fine-tuning, with each of our options, against sentence-transformers' trainer with its defaults."""
    from dataclasses import replace

    from bench.training import default_size, measure_training
    from train.hardware import device

    size = default_size(cuda=device().type == "cuda", short=short)
    report = measure_training(workspace.resolve(), short=short, size=replace(size, batch_size=batch_size or size.batch_size))
    _tell(report, results, log_file if append_log else None, as_json=as_json)


def index(
    most: Annotated[int, typer.Option("--max", help="Largest collection, in chunks; 100,000 take most of the time.")] = 100_000,
    release: Release = None,
    *,
    short: Short = False,
    as_json: AsJson = False,
    append_log: Log = False,
    log_file: LogFile = LOG,
    results: Results = _RESULTS,
    workspace: Workspace = _HOME / "index",
) -> None:
    """Recall, time, memory and disk of index settings: graph, search and quantisation, over real and mixed vectors."""
    from bench.index import Size, measure_index

    def measure(packaged: Path) -> dict[str, Any]:
        size = Size.of(most, short=short)
        return measure_index(workspace.resolve(), packaged, size, lambda what: typer.echo(what, err=True))

    _run(measure, release, workspace, results, log_file if append_log else None, as_json=as_json)


def formats(
    data: Annotated[Path, typer.Option(help="A BEIR folder or zip, or a folder of passages.jsonl and questions_*.jsonl.")],
    names: Annotated[
        str, typer.Option("--formats", help="Formats, with commas; formats that this machine cannot make or run are left out.")
    ] = "openvino_fp32,openvino_bf16,openvino_int8",
    *,
    as_json: AsJson = False,
    append_log: Log = False,
    log_file: LogFile = LOG,
    results: Results = _RESULTS,
    workspace: Workspace = _HOME / "formats",
) -> None:
    """Loss of each format against fp32 on a data set's test queries, and its speed, by the gate's own measurement."""
    from bench.formats import measure_formats

    wanted = [name.strip() for name in names.split(",") if name.strip()]
    _tell(
        measure_formats(data.resolve(), workspace.resolve(), wanted), results, log_file if append_log else None, as_json=as_json
    )


def peers() -> None:
    """Make the environments of peers that cannot be installed beside our own packages, each in .venv-peers."""
    from bench.peers.environments import make_environments

    for name, fault in make_environments().items():
        typer.echo(f"{name}: {fault or 'ready'}")


def plot(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("docs"),
    results: Results = _RESULTS,
) -> None:
    """Draw the last stored result of each benchmark."""
    from bench.plots import draw
    from bench.results import read_results
    from twinline.contract.errors import SettingsError

    if not results.is_file():
        raise SettingsError(f"there is no {results}: run a benchmark first, or name its file with --results")
    for path in draw(read_results(results), out):
        typer.echo(str(path))


COMMANDS: tuple[Callable[..., None], ...] = (speed, query, freshness, metadata, growth, training, index, formats, peers, plot)


def _run(
    measure: Callable[[Path], Mapping[str, Any]],
    release: Path | None,
    workspace: Path,
    results: Path,
    log: Path | None,
    *,
    as_json: bool,
) -> None:
    from bench.system import base_release

    packaged = release.resolve() if release else base_release(workspace.resolve())
    _tell(measure(packaged), results, log, as_json=as_json)


def _tell(measured: Mapping[str, Any], results: Path, log: Path | None, *, as_json: bool) -> None:
    from bench.results import append_to_log, keep
    from bench.tables import report_tables

    report = keep(measured, results)
    if log is not None:
        append_to_log(report, f"python -m bench {' '.join(sys.argv[1:])}", log)
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        report_tables(report)
