"""`twinline demo`: the whole platform at work, on documents that this machine has.

up -> ingest_documents -> train_encoder -> release_encoder -> three questions -> one new document -> the times
"""

import time
from contextlib import closing
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from twinline.clients.settings import Settings, load_settings
from twinline.clients.source_spec import PUBLISH_USAGE
from twinline.commands.search import ask, snippet
from twinline.registry.remote import ensure_remote

LOG_WIDTH: Final = 160  # in a file, lines that are folded at 80 columns cannot be searched
QUESTIONS: Final = (
    "wait for several coroutines to finish",
    "average of some numbers and how far they are spread",
    "take an e-mail message apart",
)


def command(
    *,
    source: Annotated[str, typer.Option(help=f"Other documents, {PUBLISH_USAGE}.")] = "pydocs:",
    question: Annotated[list[str] | None, typer.Option(help="Ask this at the end; may be repeated.")] = None,
) -> None:
    """Show the whole platform at work; safe to run again. The stack is left running: `twinline down` stops it."""
    from twinline.clients.airflow import Airflow
    from twinline.demo import chain
    from twinline.demo.fresh import publish_and_find
    from twinline.demo.show import Times, watch
    from twinline.registry.experiment import absolute_source
    from twinline.stack import lifecycle

    settings = load_settings()
    project = settings.find_project()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    times, began = Times(), time.monotonic()

    _headline(console, "1  The stack", "a Kafka broker, Triton, Qdrant with search and indexing, Airflow")
    with times.measured("start the stack", "broker, Triton, online process, Airflow"):
        ensure_remote(project, settings.home)
        lifecycle.up(settings, without=(), waiting=console.status, report=console.print)

    _headline(console, "2  The pipeline", f"three DAGs, each started by what the one before it made: {settings.airflow_url}")
    with closing(Airflow(settings.airflow_url, settings.home / "airflow")) as airflow:
        try:
            with times.measured("the pipeline", "three DAG runs in Airflow"):
                run_id = chain.start(airflow, {"source": absolute_source(source, project)})
                ended = watch(chain.follow(airflow, run_id), console)
        except chain.TaskFailedError as error:
            console.print(*error.lines, sep="\n", markup=False)
            console.print("\nThe stack is left running, so that you can look at it: `twinline status`, `twinline down`.")
            raise
    times.add_steps(ended.steps)

    asked = question or (QUESTIONS if source == "pydocs:" else ())
    if asked:
        _headline(console, "3  Questions", f"the same on a page: {settings.search_url}")
        with times.measured("questions", f"{len(asked)} searches over HTTP"):
            for text in asked:
                _answer(console, settings, text)

    _headline(console, "4  A new document", "published to the log, indexed by the consumer, found by a search")
    with times.measured("a new document", "published, indexed, found"):
        found = publish_and_find(settings)
    console.print(f"{found.title}: {found.publish_ms:.0f} ms to publish it, found {found.found_ms:.0f} ms later")

    _headline(console, "What it took", "")
    console.print(times.table(time.monotonic() - began))
    _next(console, settings)


def _headline(console: Console, title: str, what: str) -> None:
    console.print(Text.assemble("\n", (title, "bold"), "   ", (what, "dim")))


def _answer(console: Console, settings: Settings, question: str) -> None:
    answer = ask(settings.search_url, {"query": question, "limit": 3})
    console.print(Text.assemble("\n", (question, "bold cyan"), (f"   {answer['timings']['total_ms']:.1f} ms", "dim")))
    for hit in answer["hits"]:
        heading = Text.assemble((f"  {hit['score']:.3f}  ", "cyan"), hit["title"] or hit["key"])
        console.print(heading, Padding(snippet(hit["chunk"]["text"], hit["highlights"], 110), (0, 0, 0, 9)), sep="\n")


def _next(console: Console, settings: Settings) -> None:
    lines = (
        ("search page", f"{settings.search_url}"),
        ("Airflow", f"{settings.airflow_url}"),
        ("your question", 'twinline search "..."'),
        ("your documents", "twinline publish FOLDER"),
        ("your data set", "twinline train --source beir:FOLDER"),
        ("what is served", "twinline status, twinline release list"),
        ("experiments", "dvc exp show --all-commits"),
        ("stop it all", "make down"),
    )
    console.print("\nWhat to try next (commands are in .venv/bin)")
    for name, what in lines:
        console.print(f"  {name:<16}{what}", markup=False)
