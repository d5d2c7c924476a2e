"""The offline line's data stages, one command each.

    python -m etl ingest     source                -> data/snapshot   an immutable snapshot, kept in the store under its id
    python -m etl prepare    data/snapshot         -> data/prepared   clean texts, clusters of near-duplicates
    python -m etl pairs      data/prepared         -> data/pairs      training pairs, held-out queries, leak check
    python -m etl publish    source or snapshot    -> Kafka           documents onto the log, only what changed

Numbers come from params.yaml, addresses and folders from the environment; an option on the command line wins.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from clients import telemetry

app = typer.Typer(add_completion=False, help="Documents to snapshots, pairs and the log.", pretty_exceptions_enable=False)

SNAPSHOT = Path("data/snapshot")
PREPARED = Path("data/prepared")
PAIRS = Path("data/pairs")

Out = Annotated[Path, typer.Option(help="Folder to write; it is replaced as a whole.")]
SnapshotFolder = Annotated[Path, typer.Option("--snapshot-folder", help="Snapshot to read.")]


@app.command()
def ingest(
    source: Annotated[str, typer.Option(help="KIND:LOCATION, as pydocs: or files:PATH; params.yaml's by default.")] = "",
    snapshot: Annotated[str, typer.Option(help="Take this stored snapshot instead of reading the source.")] = "",
    out: Out = SNAPSHOT,
) -> None:
    """Read a source into an immutable snapshot, or take a stored one by its id."""
    from clients.params import load_params, read_params
    from clients.settings import load_settings
    from etl.params import IngestParams
    from etl.progress import counted
    from etl.snapshots import fetch_snapshot, store_snapshot

    settings, top = load_settings(), read_params()
    params = load_params("ingest", IngestParams)
    wanted = snapshot or ("" if source else str(top.get("snapshot") or ""))
    if wanted:
        result = fetch_snapshot(settings.snapshots, wanted, out)
    else:
        from etl.ingest import ingest as run
        from etl.sources import FieldNames, open_source

        fields = FieldNames(params.key_column, params.title_column, params.text_column)
        opened = open_source(source or str(top.get("source") or ""), settings, fields)
        result = run(
            opened,
            out,
            max_reject_share=params.max_reject_share,
            runner=settings.daft_runner,
            progress=counted("read"),
        )
        store_snapshot(out, settings.snapshots)
    typer.echo(f"snapshot {result.id} of {result.uri} in {out}: {_listed(result.counts)}")
    if result.reject_reasons:
        typer.echo(f"set aside: {_listed(result.reject_reasons)}; each with its place in {out / 'rejects.parquet'}")


@app.command()
def prepare(snapshot_folder: SnapshotFolder = SNAPSHOT, out: Out = PREPARED) -> None:
    """Clean the documents and cluster the near-duplicates."""
    from clients.params import load_params
    from clients.settings import load_settings
    from etl.params import PrepareParams
    from etl.prepare import prepare as run

    report = run(snapshot_folder, out, load_params("prepare", PrepareParams), load_settings().daft_runner)
    typer.echo(
        f"prepared {report['documents']} documents of {report['snapshot']} in {report['clusters']} clusters, "
        f"{report['rejects']} set aside: {out}"
    )


@app.command()
def pairs(
    snapshot_folder: SnapshotFolder = SNAPSHOT,
    prepared: Annotated[Path, typer.Option(help="Prepared documents to read.")] = PREPARED,
    out: Out = PAIRS,
) -> None:
    """Make training pairs and held-out queries, and prove that they do not touch."""
    from clients.params import load_params
    from clients.settings import load_settings
    from etl.pairs import make_pairs
    from etl.params import PairsParams

    report = make_pairs(snapshot_folder, prepared, out, load_params("pairs", PairsParams), load_settings().daft_runner)
    typer.echo(f"{report['train_pairs']} training pairs, no leak; held-out queries: {_listed(report['queries'])}: {out}")
    shared = {split: count for split, count in report["leaks"]["shared_documents"].items() if count}
    if shared:
        typer.echo(f"documents relevant both in training and in a split of the data set: {_listed(shared)}")


@app.command()
def publish(
    source: Annotated[str, typer.Option(help="KIND:LOCATION; the snapshot in data/snapshot by default.")] = "",
    snapshot_folder: SnapshotFolder = SNAPSHOT,
    everything: Annotated[bool, typer.Option("--all", help="Also documents that have not changed.")] = False,
    delete_missing: Annotated[bool, typer.Option(help="Delete what the source held before and no longer does.")] = False,
) -> None:
    """Write documents to the log."""
    from clients.settings import load_settings
    from etl.publish import Mode, open_documents, publish_documents, say

    settings = load_settings()
    feed = open_documents(source, snapshot_folder, settings)
    say(publish_documents(feed, settings, Mode(everything=everything, delete_missing=delete_missing)))


def _listed(counts: object) -> str:
    return ", ".join(f"{name} {count}" for name, count in dict(counts).items())  # type: ignore[call-overload]


def main() -> None:
    """Run one stage; one clear line on standard error when it cannot do its work."""
    telemetry.apply()
    from contract.errors import SettingsError, TwinlineError

    try:
        app()
    except TwinlineError as error:
        typer.secho(f"etl: {error}", err=True, fg=typer.colors.RED)
        sys.exit(2 if isinstance(error, SettingsError) else 1)


if __name__ == "__main__":
    main()
