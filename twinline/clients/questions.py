"""The project's own questions: what people ask, and the documents that answer; the evaluation asks them beside its others.

`questions.jsonl` in the project, one judgement a line, is tracked by Git, so that every experiment names the questions it was
measured on.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from twinline.contract.errors import SettingsError

QUESTIONS_FILE: Final = "questions.jsonl"
_PREFIX: Final = "asked-"
_MOST_GRADE: Final = 3


@dataclass(frozen=True, slots=True)
class Question:
    """A question and one document that answers it.

    Args:
        grade: how well it answers: 1 to 3.
        by: who judged so; `on`: the day.
    """

    question: str
    source: str
    key: str
    grade: int = 1
    by: str = ""
    on: str = ""

    def __post_init__(self) -> None:
        for name in ("question", "source", "key"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise SettingsError(f"{name} is {getattr(self, name)!r}: it must be a text that is not empty")
        if type(self.grade) is not int or not 1 <= self.grade <= _MOST_GRADE:
            raise SettingsError(f"grade is {self.grade!r}: it must be 1, 2 or 3")

    @property
    def query_id(self) -> str:
        """Return the id of the question in an evaluation: the same for all of its documents."""
        return _PREFIX + hashlib.sha256(" ".join(self.question.split()).encode()).hexdigest()[:15]

    @property
    def pair(self) -> tuple[str, str, str]:
        """Return what a judgement is about: a question and a document."""
        return self.query_id, self.source, self.key


def is_asked(query_id: str) -> bool:
    """Say whether a query of an evaluation is one of the project's own questions."""
    return query_id.startswith(_PREFIX)


def read_questions(path: Path) -> list[Question]:
    """Return the judgements of a file, in its order; none where there is no file.

    Raises:
        SettingsError: a line is no judgement, or two lines judge one question and document.
    """
    if not path.is_file():
        return []
    found: dict[tuple[str, str, str], Question] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            asked = _read(json.loads(line))
        except (ValueError, TypeError, SettingsError) as exc:
            raise SettingsError(f"{path} line {number} is no judgement ({exc}): correct the line, or remove it") from exc
        if asked.pair in found:
            raise SettingsError(f"{path} line {number} judges a question and document that an earlier line has: remove one")
        found[asked.pair] = asked
    return list(found.values())


def add_question(path: Path, asked: Question) -> bool:
    """Add a judgement, or give it another grade; return False where the file has it already."""
    known = read_questions(path)
    at = next((place for place, other in enumerate(known) if other.pair == asked.pair), None)
    if at is None:
        known.append(asked)
    elif known[at].grade == asked.grade:
        return False
    else:
        known[at] = replace(known[at], grade=asked.grade, by=asked.by, on=asked.on)
    _write(path, known)
    return True


def _read(value: Any) -> Question:
    if not isinstance(value, dict):
        raise TypeError(f"it is a {type(value).__name__}, not an object")
    if unknown := sorted(value.keys() - {field.name for field in fields(Question)}):
        raise TypeError(f"its field {unknown[0]!r} is not known")
    return Question(**value)


def _write(path: Path, known: Sequence[Question]) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text("".join(json.dumps(asdict(asked), ensure_ascii=False) + "\n" for asked in known), "utf-8")
    beside.replace(path)
