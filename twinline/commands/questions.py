"""`twinline questions`: the project's own questions and judgements: the evaluation asks them, and so does `run`."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinline.clients.run import VerdictError
from twinline.clients.settings import load_settings
from twinline.contract.errors import SettingsError, TransientError
from twinline.contract.release.checks import MARGIN, Check, UndecidedError
from twinline.search.results import Mode

if TYPE_CHECKING:
    from twinline.clients.online import AdminClient
    from twinline.upkeep.questions.baseline import Comparison
    from twinline.upkeep.questions.measure import Asked, Measured
    from twinline.upkeep.questions.sweep import Sweep, Trial

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]
# Beside 0 (not worse), 1 (worse) and 3 (undecided): as for `twinline skew`.
EXIT_UNMEASURED = 2
_AT_ONCE = 4
_RETRIES = 3

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command("add")
def add(
    question: Annotated[str, typer.Argument(help="A question as people ask it.")],
    *,
    document: Annotated[list[str], typer.Option(help="Key of a document that answers it; may be repeated.")],
    source: Annotated[str, typer.Option(help="Source name of the documents.")] = "files",
    grade: Annotated[int, typer.Option(min=1, max=3, help="How well they answer: 1 to 3.")] = 1,
) -> None:
    """Add a question and the documents that answer it; they are left out of training, so that the measurement is fair."""
    from twinline.clients.questions import QUESTIONS_FILE, Question, add_question, read_questions
    from twinline.release.journal import who

    path = load_settings().find_project() / QUESTIONS_FILE
    today = datetime.now(UTC).date().isoformat()
    added = sum(add_question(path, Question(question, source, key, grade, who(os.environ), today)) for key in document)
    known = read_questions(path)
    typer.echo(
        f"{added} judgements added or changed; {path} has {len({asked.query_id for asked in known})} questions with {len(known)} "
        "judgements: commit it, and train again"
    )


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List the questions, each with the documents that answer it."""
    from twinline.clients.questions import QUESTIONS_FILE, read_questions

    known = read_questions(load_settings().find_project() / QUESTIONS_FILE)
    if as_json:
        typer.echo(json.dumps({"questions": [asdict(asked) for asked in known]}, ensure_ascii=False))
        return
    for asked in known:
        typer.echo(f"{asked.question}\n    {asked.source} {asked.key}, grade {asked.grade}, {asked.by} {asked.on}")
    typer.echo(f"{len({asked.query_id for asked in known})} questions, {len(known)} judgements")


@app.command("run")
def run_command(
    *,
    baseline: Annotated[Path | None, typer.Option(help="Compare with this file, and fail if the answers are worse.")] = None,
    write_baseline: Annotated[Path | None, typer.Option(help="Keep this run as a baseline; not if it is worse.")] = None,
    margin: Annotated[float, typer.Option(min=0.0, max=1.0, help="How much worse it may be, in nDCG@10.")] = MARGIN,
    mode: Annotated[Mode, typer.Option(help="By vectors and words, by vectors alone (dense), or by words alone.")] = "hybrid",
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector, without the index.")] = False,
    release: Annotated[str, typer.Option(help="A release that is served and not active yet, at this machine's admin door.")] = "",
    url: Annotated[str, typer.Option(help="Another search API; the judged documents are then not looked up.")] = "",
    as_json: AsJson = False,
) -> None:
    """Ask the running search every question, score the answers, compare them.

    Exit code 0: not worse; 1: worse; 2: could not be measured; 3: undecided, on too few questions.
    """
    from twinline.upkeep.questions import baseline as kept

    if release and url:
        raise SettingsError("--release asks at the admin door of this machine, --url another search API: name one of them")
    known = kept.read_baseline(baseline) if baseline else None
    asked = _asked()
    try:
        run = _ask(asked, {"mode": mode, "exact": exact}, release, url)
    except TransientError as exc:
        typer.secho(f"twinline: the questions could not be measured: {exc}", err=True, fg=typer.colors.RED)
        raise typer.Exit(EXIT_UNMEASURED) from exc
    compared = kept.compare(run, known, margin) if known else None
    unfit = kept.misfits(run, known)
    said = kept.to_json(run, compared, unfit)
    undecided = compared is not None and compared.outcome == "undecided"
    if not as_json:
        _show(run, compared, unfit)
    elif not undecided:
        # The object of an undecided run is that of its refusal.
        typer.echo(json.dumps(said, ensure_ascii=False))
    if compared and undecided:
        raise UndecidedError(
            f"{compared.sentence()}. Judge more with `twinline questions add`, or write the baseline again",
            [Check("enough questions", False, compared.sentence(), said)],
        )
    if compared and compared.outcome == "worse":
        raise VerdictError(compared.sentence())
    if write_baseline:
        kept.write_baseline(write_baseline, run)
        typer.echo(f"baseline written: {write_baseline}; commit it", err=True)


@app.command("try")
def try_command(
    *,
    fusion: Annotated[
        list[str] | None,
        typer.Option(help="`dense`, `scores:40,50,60` (percent of vectors), `ranks:10,60` (k); may be repeated."),
    ] = None,
    ef: Annotated[str, typer.Option(help="Candidates in the graph: 64,128,256.")] = "",
    depth: Annotated[str, typer.Option(help="Chunks that each side lists: 50,100.")] = "",
    exact: Annotated[bool, typer.Option("--exact", help="Exact search too, which shows what the graph loses.")] = False,
    mode: Annotated[Mode, typer.Option(help="As for `run`; a fusion needs `hybrid`.")] = "hybrid",
    release: Annotated[str, typer.Option(help="A release that is served; the active one by default.")] = "",
    as_json: AsJson = False,
) -> None:
    """Try search settings on the questions, in every combination and without a new release. It changes nothing."""
    from twinline.contract.release.manifest import collection_name
    from twinline.upkeep.questions.measure import HITS, measure
    from twinline.upkeep.questions.sweep import sweep, trials

    combinations, asked = trials(fusion or [], ef, depth, exact=exact), _asked()
    with closing(_admin()) as admin:
        name = collection_name(release) if release else admin.status().active
        if not name:
            raise SettingsError("no release is active: name one with --release, or deploy one (twinline release deploy)")

        def run(trial: "Trial") -> "Measured":
            fields = {"limit": HITS, "mode": mode, **trial.fields}
            found = measure(asked, lambda texts: [admin.trial(name, {"query": text, **fields}) for text in texts], fields)
            if trial.fields.get("rule", "dense") != "dense" and found.mode != "hybrid":
                raise SettingsError(f"release {found.release} answers in mode `{found.mode}`: fusion `{trial.name}` is not used")
            return found

        found = sweep(combinations, run)
    if as_json:
        typer.echo(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        _show_sweep(found)


def _asked() -> "dict[str, Asked]":
    from twinline.clients.questions import QUESTIONS_FILE, read_questions
    from twinline.upkeep.questions.measure import by_question

    path = load_settings().find_project() / QUESTIONS_FILE
    return by_question(read_questions(path), str(path))


def _ask(asked: "Mapping[str, Asked]", settings: Mapping[str, Any], release: str, url: str) -> "Measured":
    from twinline.contract.release.manifest import collection_name
    from twinline.search.client import SearchClient
    from twinline.upkeep.questions.measure import HITS, measure

    fields = {"limit": HITS, **settings}

    def at_the_door(texts: Sequence[str]) -> list[Mapping[str, Any]]:
        with closing(_admin()) as admin:
            return [admin.trial(collection_name(release), {"query": text, **fields}) for text in texts]

    def by_search(texts: Sequence[str]) -> list[Mapping[str, Any]]:
        with SearchClient(url or load_settings().search_url, at_once=_AT_ONCE, retries=_RETRIES) as search:
            return [asdict(found) for found in search.search_many(texts, **fields)]

    run = measure(asked, at_the_door if release else by_search, settings)
    return run if url else _with_documents(run)


def _admin() -> "AdminClient":
    from twinline.clients.online import AdminClient

    return AdminClient(load_settings().admin_url)


def _with_documents(run: "Measured") -> "Measured":
    """Return a run with digests of its judged documents, read at the admin door of this machine."""
    from twinline.upkeep.questions.labels import digests

    with closing(_admin()) as admin:
        judged = {document for asked in run.asked.values() for document in asked.grades}
        return replace(run, documents=digests(admin, run.collection, judged))


def _show(run: "Measured", compared: "Comparison | None", unfit: Mapping[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("metric", "now", "baseline", "difference", "95% interval")
    for metric, mean in run.means().items():
        if compared and metric in compared.intervals:
            found = compared.intervals[metric]
            beside = (f"{compared.baseline_means[metric]:.4f}", f"{found.mean:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}")
            table.add_row(metric, f"{compared.means[metric]:.4f}", *beside)
        else:
            table.add_row(metric, f"{mean:.4f}", "", "", "")
    console.print(table)
    console.print(f"{len(run.asked)} questions, release {run.release}, {run.mode}", markup=False)
    for line in _warnings(run, compared, unfit):
        console.print(f"warning: {line}", style="yellow", markup=False)
    if compared:
        console.print(compared.sentence(), markup=False)


def _warnings(run: "Measured", compared: "Comparison | None", unfit: Mapping[str, str]) -> list[str]:
    lines = [f"{why}: {document}" for document, why in unfit.items()]
    if run.documents is None:
        lines.append(
            "whether the judgements still fit the corpus was not looked up: that needs the online process of this machine"
        )
    if compared:
        lines += [f"left out, {why}: {run.asked[question].text}" for question, why in compared.left_out.items()]
        if compared.dropped:
            lines.append(f"{len(compared.dropped)} questions of the baseline are not asked any more")
    return lines


def _show_sweep(found: "Sweep") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("settings", *found.rows[0].means)
    for row in found.rows:
        table.add_row(row.name, *(f"{mean:.4f}" for mean in row.means.values()))
    console.print(table)
    console.print(f"release {found.release}: {found.sentence()}", markup=False)
