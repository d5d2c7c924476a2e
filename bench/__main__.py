"""Figures, measured side by side in one run.

python -m bench quality    retrieval quality offline and live, of base and tuned encoder
python -m bench exact-names  codes that one document alone holds: how often it comes first, offline and live
python -m bench backlog    memory of the consumer over a large backlog
python -m bench speed      rate of embedding and of the whole streaming path, against peers
python -m bench query      time of one question, alone and during indexing
python -m bench freshness  time from a document's production to the first search that finds it
python -m bench metadata   embeddings made by updates of metadata alone, and their rate
python -m bench first-index  rate of a first index of pages with copies, before and now
python -m bench growth     cost against size and against change
python -m bench training   rate of training, against sentence-transformers' trainer
python -m bench index      recall and cost of index settings
python -m bench copies     what counts as a near copy on real passages, and the time of grouping
python -m bench formats    quality and speed of each format, against fp32
python -m bench page       write the page of hybrid search from reports of quality
python -m bench beir       write a set of questions with answers as a BEIR folder
python -m bench generate   first token and tokens a second of the generator's engine, by precision and clients
python -m bench peers      make the environments of the peers;  python -m bench plot  draw stored results
"""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from bench import performance
from twinline.clients.run import run
from twinline.contract.encoder.specification import CHUNKER_VERSIONS

_CONTRACTS = ("none", "tokens", *(f"tokens@{version}" for version in CHUNKER_VERSIONS))

_FIGURES, _PAGE = Path("docs/figures/hybrid.jsonl"), Path("docs/figures/hybrid.md")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


for _command in performance.COMMANDS:
    app.command()(_command)


@app.callback()
def benchmarks() -> None:
    """Figures, measured side by side in one run."""


@app.command()
def quality(
    data: Annotated[Path, typer.Option(help="A BEIR folder or zip, or a folder of passages.jsonl and questions_*.jsonl.")],
    live: Annotated[bool, typer.Option(help="Publish, index and search in the running platform as well.")] = False,
    encoders: Annotated[str, typer.Option(help="Encoders: base, tuned (on the set's train split), or both.")] = "base,tuned",
    contracts: Annotated[str, typer.Option(help="Chunkers: none, tokens, tokens@1 (an older rule).")] = "none,tokens",
    workspace: Annotated[Path, typer.Option(help="Folder for data, weights and the stack's state.")] = Path("var/bench/quality"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print nDCG@10 of each encoder under each contract, offline and live, with intervals."""
    from bench.quality import QualityRun, measure_quality
    from bench.tables import quality_table

    run = QualityRun(data.resolve(), _names(encoders, ("base", "tuned")), _names(contracts, _CONTRACTS), live)
    report = measure_quality(run, workspace.resolve())
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        quality_table(report)


@app.command("exact-names")
def exact_names(
    data: Annotated[
        Path | None, typer.Option(help="A BEIR folder or zip; by default docstrings of the installed packages.")
    ] = None,
    documents: Annotated[int, typer.Option(min=200, help="Texts, beside the 200 copies of them that hold a code.")] = 1_000,
    live: Annotated[bool, typer.Option(help="Publish, index and search in the running platform as well.")] = False,
    workspace: Annotated[Path, typer.Option(help="Folder for data and the stack's state.")] = Path("var/bench/exact-names"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Plant 200 codes in copies of real texts, ask for each, and print how often the right copy comes first."""
    from bench.exact_names import measure_exact_names
    from bench.tables import report_tables

    report = measure_exact_names(data and data.resolve(), documents, workspace.resolve(), live=live)
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        report_tables(report)


@app.command()
def page(
    reports: Annotated[list[Path] | None, typer.Argument(exists=True, dir_okay=False, help="From bench quality --json.")] = None,
    results: Annotated[Path, typer.Option(help="JSON lines, one a run: figures of the reports are added.")] = _FIGURES,
    out: Annotated[Path, typer.Option(help="The page.")] = _PAGE,
) -> None:
    """Write the page of hybrid search by data set; a report replaces earlier figures of its set, encoders and contracts."""
    from bench.quality_page import add_report, read_lines, write_lines
    from bench.quality_page import page as written

    lines = read_lines(results)
    for report in reports or ():
        lines = add_report(json.loads(report.read_bytes()), lines)
    if reports:
        write_lines(results, lines)
    out.write_text(written(lines), "utf-8")
    typer.echo(f"{out}: {len(lines)} runs")


@app.command()
def beir(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Of passages.jsonl and questions_*.jsonl, or .gz.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier one is replaced. Read it by --source beir:FOLDER.")],
) -> None:
    """Write a set of questions with answers as a BEIR folder, and print one JSON object: the rule of its splits, and counts."""
    from bench.passages import is_passages, write_beir

    if not is_passages(data):
        raise typer.BadParameter(f"{data} has no passages.jsonl and questions_*.jsonl", param_hint="--data")
    typer.echo(json.dumps(write_beir(data, out), indent=2))


@app.command()
def copies(
    data: Annotated[Path, typer.Option(help="JSON lines with a field `text`, plain or .gz: a BEIR corpus.jsonl.")],
    most: Annotated[int, typer.Option(min=2, help="Passages that are compared, each with each.")] = 2_500,
) -> None:
    """Print one JSON object: near pairs by threshold and floor, those that are grouped, and milliseconds of CPU an answer."""
    from bench.copies import measure_copies

    typer.echo(json.dumps(measure_copies(data, most), indent=2))


@app.command()
def backlog(
    messages: Annotated[int, typer.Option(min=1_000, help="Messages of the backlog; 100,000 are about 40 MB.")] = 100_000,
    encoder: Annotated[str, typer.Option(help="hash: vectors of hashes, no model; triton: the real one.")] = "hash",
    release: Annotated[Path | None, typer.Option(help="A packaged release; by default the base model is exported.")] = None,
    workspace: Annotated[Path, typer.Option(help="Folder for the log and the collections.")] = Path("var/bench/backlog"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Consume a backlog of messages of all sizes, and print the memory over the messages."""
    from bench.backlog import measure_backlog
    from bench.tables import backlog_table

    (chosen,) = _names(encoder, ("hash", "triton"))
    report = measure_backlog(workspace.resolve(), release and release.resolve(), messages, chosen)  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        backlog_table(report)


@app.command("first-index")
def first_index(
    release: Annotated[Path, typer.Option(help="A packaged base model: python -m export base --serve fastest --out FOLDER.")],
    documents: Annotated[int, typer.Option(min=50, help="Docstrings; those of one module are a page.")] = 400,
    versions: Annotated[int, typer.Option(min=1, help="Versions of every page, one in five changed with each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Index pages of which many are copies, in fp32 and in the quickest format, with and without known vectors."""
    from bench.first_index import measure_first_index

    report = measure_first_index(release.resolve(), documents, versions)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    typer.echo(f"{report['pages']} pages in {report['versions']} versions")
    for name, figures in report["contenders"].items():
        typer.echo(
            f"{name:45} {figures['chunks_per_second']:7.1f} chunks/s, {figures['seconds']:6.1f} s: {figures['chunks']} chunks, "
            f"{figures['embedded']} embedded, {figures['reused']} reused"
        )


@app.command()
def generate(
    model: Annotated[Path, typer.Option(help="A generator: a folder with config.json and model.safetensors.")],
    precisions: Annotated[str, typer.Option(help="Precisions: fp32, bf16, int8.")] = "fp32,bf16,int8",
    turns: Annotated[int, typer.Option(min=1, help="Turns of each row; the median counts.")] = 3,
    threads: Annotated[int, typer.Option(min=0, help="Threads of the engine; 0: all cores.")] = 0,
    workspace: Annotated[Path, typer.Option(help="Folder for the exported files.")] = Path("var/bench/generate"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Answer 1, 4, 8 and 16 prompts at once in process, free and under a mask, and print times and rates."""
    from bench.generate import PRECISIONS, Size, measure_generate
    from bench.tables import report_tables

    chosen = _names(precisions, PRECISIONS)
    report = measure_generate(model.resolve(), workspace.resolve(), chosen, Size(turns=turns, threads=threads))  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        report_tables(report)


def _names(listed: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in listed.split(",") if name.strip())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise typer.BadParameter(f"{listed!r}: choose from {', '.join(known)}")
    return names


def main() -> None:
    """Run a benchmark."""
    # The libraries' own notes and bars would hide the output. Set before they are imported.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    run("bench", app)


if __name__ == "__main__":
    main()
