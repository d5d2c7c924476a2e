"""`twinline questions`: the project's own questions and judgements, which the evaluation asks."""

import json
import os
from datetime import UTC, datetime
from typing import Annotated

import typer

from twinline.clients.settings import load_settings

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
def list_command(as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False) -> None:
    """List the questions, each with the documents that answer it."""
    from dataclasses import asdict

    from twinline.clients.questions import QUESTIONS_FILE, read_questions

    known = read_questions(load_settings().find_project() / QUESTIONS_FILE)
    if as_json:
        typer.echo(json.dumps({"questions": [asdict(asked) for asked in known]}, ensure_ascii=False))
        return
    for asked in known:
        typer.echo(f"{asked.question}\n    {asked.source} {asked.key}, grade {asked.grade}, {asked.by} {asked.on}")
    typer.echo(f"{len({asked.query_id for asked in known})} questions, {len(known)} judgements")
