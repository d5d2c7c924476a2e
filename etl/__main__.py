"""The offline line's data stages, one command each.

    python -m etl ingest     source                -> data/snapshot   an immutable snapshot, stored under its id
    python -m etl prepare    data/snapshot         -> data/prepared   clean texts, clusters of near-duplicates
    python -m etl pairs      data/prepared         -> data/pairs      training pairs, held-out queries, leak check
    python -m etl publish    source or snapshot    -> Kafka           changed documents onto the log
    python -m etl changed    two snapshots         -> a figure        share of the documents that changed between them

Numbers come from params.yaml, addresses and folders from the environment; an option on the command line wins.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from twinline.clients.run import run
from twinline.clients.source_spec import USAGE
from twinline.contract.artefacts import PAIRS, PREPARED, SNAPSHOT
from twinline.contract.errors import SettingsError

app = typer.Typer(add_completion=False, help="Documents to snapshots, pairs and the log.", pretty_exceptions_enable=False)

Out = Annotated[Path, typer.Option(help="Folder to write; it is replaced as a whole.")]
SnapshotFolder = Annotated[Path, typer.Option("--snapshot-folder", help="Snapshot to read.")]


@app.command()
def ingest(
    source: Annotated[str, typer.Option(help=f"{USAGE}; params.yaml's by default.")] = "",
    snapshot: Annotated[str, typer.Option(help="Take this stored snapshot instead of reading the source.")] = "",
    out: Out = Path(SNAPSHOT),
    store: Annotated[bool, typer.Option("--store", help="Only into the snapshot store, not to `out`.")] = False,
) -> None:
    """Read a source into an immutable snapshot, or take a stored one by its id."""
    from etl.params import IngestParams
    from etl.snapshots import fetch_snapshot, store_snapshot
    from twinline.clients.erasure_list import read_list
    from twinline.clients.params import load_params, read_params
    from twinline.clients.settings import load_settings

    if source and snapshot:
        raise SettingsError(f"--source {source} and --snapshot {snapshot}: only one of them is taken, name one")
    settings, top = load_settings(), read_params()
    params = load_params("ingest", IngestParams)
    wanted = snapshot or ("" if source else str(top.get("snapshot") or ""))
    if store:
        # Beside the store, on the same file system. The folder stays until the next run, for its rejects.
        out = settings.snapshots / "last"
    if wanted:
        result = fetch_snapshot(settings.snapshots, wanted, out)
    else:
        from etl.fields import FieldNames
        from etl.ingest import ingest as read
        from etl.progress import counted
        from etl.source_state import open_source_state
        from etl.sources import open_source

        fields = FieldNames(params.key_column, params.title_column, params.text_column)
        opened = open_source(source or str(top.get("source") or ""), settings, fields)
        # The file, not the topic: ingest must work without a broker. `publish` and the consumers keep the file fresh.
        erasures = read_list(settings)
        state = open_source_state(opened, settings, fields, erasures)
        result = read(
            opened,
            out,
            max_reject_share=params.max_reject_share,
            erasures=erasures,
            state=state,
            progress=counted("read"),
        )
        store_snapshot(out, settings.snapshots)
        if state is not None:
            state.save(result.id)
    typer.echo(f"snapshot {result.id} of {result.uri} in {out}: {_listed(result.counts)}")
    if result.reject_reasons:
        typer.echo(f"set aside: {_listed(result.reject_reasons)}; each with its place in {out / 'rejects.parquet'}")
    _last_line({"snapshot": result.id, **result.counts})


@app.command()
def prepare(snapshot_folder: SnapshotFolder = Path(SNAPSHOT), out: Out = Path(PREPARED)) -> None:
    """Clean the documents and cluster the near-duplicates."""
    from etl.params import PrepareParams
    from etl.prepare import prepare as clean_and_cluster
    from etl.storage import use_daft
    from twinline.clients.erasure_list import read_list
    from twinline.clients.params import load_params
    from twinline.clients.settings import load_settings

    params = load_params("prepare", PrepareParams)
    settings = load_settings()
    use_daft(settings.daft_runner)
    report = clean_and_cluster(snapshot_folder, out, params, read_list(settings), settings.kept)
    typer.echo(
        f"prepared {report['documents']} documents of {report['snapshot']} in {report['clusters']} clusters, "
        f"{report['rejects']} set aside: {out}"
    )


@app.command()
def pairs(
    snapshot_folder: SnapshotFolder = Path(SNAPSHOT),
    prepared: Annotated[Path, typer.Option(help="Prepared documents to read.")] = Path(PREPARED),
    out: Out = Path(PAIRS),
) -> None:
    """Make training pairs and held-out queries, and prove that they do not touch."""
    from etl.pairs import make_pairs
    from etl.params import PairsParams
    from etl.storage import use_daft
    from twinline.clients.params import load_params
    from twinline.clients.questions import QUESTIONS_FILE, read_questions
    from twinline.clients.settings import load_settings

    params = load_params("encoder.pairs", PairsParams)
    settings = load_settings()
    use_daft(settings.daft_runner)
    report = make_pairs(snapshot_folder, prepared, out, params, settings.kept, read_questions(Path(QUESTIONS_FILE)))
    typer.echo(f"{report['train_pairs']} training pairs, no leak; held-out queries: {_listed(report['queries'])}: {out}")
    if report["asked"]["judgements"]:
        typer.echo(f"{QUESTIONS_FILE}: {_listed(report['asked'])}")
    shared = {split: count for split, count in report["leaks"]["shared_documents"].items() if count}
    if shared:
        typer.echo(f"documents relevant both in training and in a split of the data set: {_listed(shared)}")


@app.command()
def publish(
    source: Annotated[str, typer.Option(help="KIND:LOCATION to read; the snapshot by default.")] = "",
    snapshot: Annotated[str, typer.Option(help=f"Id of a stored snapshot, or its folder; {SNAPSHOT} by default.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also documents that have not changed.")] = False,
    delete_missing: Annotated[bool, typer.Option(help="Delete documents that have left the source.")] = False,
    yes_delete: Annotated[int, typer.Option(min=0, help="Up to so many deletions; by default a quarter of it, or 10.")] = 0,
    moved: Annotated[bool, typer.Option("--moved", help="The documents lie in another place now, and are the same.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be sent and deleted.")] = False,
) -> None:
    """Write documents to the log."""
    from etl.feeds import ingest_params, open_snapshot, snapshot_feed, source_feed
    from etl.lineage import find_lineage
    from etl.progress import counted
    from etl.publish import Mode, publish_documents
    from twinline.clients.settings import load_settings
    from twinline.contract.errors import ContractError
    from twinline.contract.principal import LOCAL_OPERATOR

    if source and snapshot:
        raise SettingsError(f"--source {source} and --snapshot {snapshot}: only one of them is published, name one")
    if yes_delete and not delete_missing:
        raise SettingsError("--yes-delete would do nothing here: it goes with --delete-missing")
    settings = load_settings()
    folder = None if source else open_snapshot(snapshot or SNAPSHOT, settings.snapshots)
    feed = source_feed(source, settings) if folder is None else snapshot_feed(folder, settings.topic)
    mode = Mode(everything, delete_missing, yes_delete, moved, dry_run, ingest_params(settings).max_reject_share)
    lineage = find_lineage(os.environ, settings.project)
    progress = counted("publish", feed.total)
    report = publish_documents(feed, settings, lineage, LOCAL_OPERATOR, mode, progress, typer.echo)
    typer.echo(report.summary(settings.topic))
    if report.fault:
        raise ContractError(report.fault)
    _last_line(asdict(report))


@app.command()
def changed(
    since: Annotated[str, typer.Option(help="Id of the older stored snapshot, or its folder.")],
    snapshot: Annotated[str, typer.Option(help="Id of the newer one, or its folder.")],
) -> None:
    """Say how much of the documents changed from one snapshot to another."""
    from etl.changes import count_changes
    from etl.feeds import open_snapshot
    from twinline.clients.settings import load_settings

    store = load_settings().snapshots
    changes = count_changes(open_snapshot(since, store), open_snapshot(snapshot, store))
    typer.echo(f"from {since} to {snapshot}: {changes.summary()}")
    _last_line({"since": since, "snapshot": snapshot, "share": changes.share, **asdict(changes)})


def _last_line(result: Mapping[str, object]) -> None:
    """Print the result as one JSON object on the last line: an Airflow task reads it."""
    typer.echo(json.dumps(result, ensure_ascii=False))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def main() -> None:
    """Run one stage."""
    # No stage cuts documents, so the splitter's golden cases, slow to import, are left out.
    run("etl", app, check="rules", role="train")


if __name__ == "__main__":
    main()
