"""A set of questions with answers, read as retrieval: written as a BEIR folder, each question judged by its passages.

    passages.jsonl(.gz)            corpus.jsonl
    questions_<part>.jsonl(.gz)    queries.jsonl, qrels/train.tsv, dev.tsv, test.tsv

A question without a passage, as an unanswerable one, has nothing to be found; it is left out and counted. The splits hold by
article, a passage's title, so that no passage of the test is in train:

    a set with a training part   its other parts are the test; of the training part, questions that share an article, an equal
                                 passage or a text with the test are left out; a tenth of the rest is for development
    a set without one            half for the test, a fifth for development, the rest for training

The hash of the article decides, so the same files give the same bytes on every machine.
"""

import gzip
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from etl.natural import normal_text
from etl.splits import Asked, assign_splits
from etl.storage import replaced_folder
from twinline.contract.canonical import JSON
from twinline.contract.errors import SettingsError

TRAIN: Final = "train"
DEV: Final = "dev"
TEST: Final = "test"
RULE: Final = "by article: no passage, article or text of a test question is in train or dev"
_SEED: Final = 13
_SHARES_WITHOUT_TRAIN: Final = {TEST: 0.5, DEV: 0.2}
_SHARES_OF_TRAIN: Final = {DEV: 0.1}
# More of them cost hours of training on a CPU, and choose no better.
_MOST: Final = {TRAIN: 5_000, DEV: 1_000}
_PASSAGES: Final = "passages"
_QUESTIONS: Final = "questions_"


@dataclass(frozen=True, slots=True)
class Question:
    """A question that has passages; `part` is the name of its file."""

    id: str
    text: str
    passages: tuple[str, ...]
    part: str


def is_passages(data: Path) -> bool:
    """Return whether a folder is a set of questions with answers, rather than a BEIR data set."""
    return bool(_files(data, _PASSAGES)) and bool(_files(data, f"{_QUESTIONS}*"))


def write_beir(data: Path, out: Path) -> dict[str, JSON]:
    """Write the set as a BEIR folder, in place of an earlier one; return the rule, and counts of splits and of what is left out.

    Args:
        data: a folder for which `is_passages` holds.

    Raises:
        SettingsError: a line lacks a field, an id is there twice, or a question names a passage that is not there.
    """
    passages = {row["id"]: row for row in _rows(data, _PASSAGES, ("id", "title", "text"))}
    questions, left_out = _questions(data, passages)
    splits = split_questions(questions, {key: _links(row) for key, row in passages.items()})
    kept: dict[str, list[Question]] = {split: [] for split in (TRAIN, DEV, TEST)}
    for question in questions:
        split = splits.get(question.id)
        if split is None:
            left_out["shares_with_test"] += 1
        else:
            kept[split].append(question)
    for split, most in _MOST.items():
        left_out[f"beyond_{most}_of_{split}"] += max(0, len(kept[split]) - most)
        kept[split] = sorted(sorted(kept[split], key=lambda one: _point(one.id))[:most], key=lambda one: one.id)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replaced_folder(out) as folder:
        _write_lines(
            folder / "corpus.jsonl",
            ({"_id": key, "title": row["title"], "text": row["text"]} for key, row in sorted(passages.items())),
        )
        asked = sorted((one for own in kept.values() for one in own), key=lambda one: one.id)
        _write_lines(folder / "queries.jsonl", ({"_id": one.id, "text": one.text} for one in asked))
        (folder / "qrels").mkdir()
        for split, own in kept.items():
            judged = [f"{one.id}\t{passage}\t1\n" for one in own for passage in one.passages]
            if judged:
                (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged), "utf-8")
    return {
        "rule": RULE,
        "passages": len(passages),
        "questions": {split: len(own) for split, own in kept.items()},
        "left_out": {reason: count for reason, count in sorted(left_out.items()) if count},
    }


def split_questions(questions: Sequence[Question], links: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the split of every question; none for a question of the training part that touches the test. Pure.

    Args:
        links: of each passage: its article and its text. Questions with a common link, or with an equal text, stay together.
    """
    asked = {one.id: Asked(one.id, one.text, [link for key in one.passages for link in links[key]]) for one in questions}
    if all(one.part != TRAIN for one in questions):
        return assign_splits(asked.values(), _SHARES_WITHOUT_TRAIN, _SEED)
    test = [asked[one.id] for one in questions if one.part != TRAIN]
    of_test = {link for one in test for link in one.clusters}
    texts_of_test = {normal_text(one.text) for one in test}
    free = [
        asked[one.id]
        for one in questions
        if one.part == TRAIN and of_test.isdisjoint(asked[one.id].clusters) and normal_text(one.text) not in texts_of_test
    ]
    return assign_splits(free, _SHARES_OF_TRAIN, _SEED) | {one.query_id: TEST for one in test}


def _links(passage: Mapping[str, Any]) -> tuple[str, str]:
    # A passage without a title is an article of its own.
    article = f"article {passage['title']}" if passage["title"] else f"passage {passage['id']}"
    return article, f"text {normal_text(passage['text'])}"


def _questions(data: Path, passages: Mapping[str, Any]) -> tuple[list[Question], Counter[str]]:
    found: dict[str, Question] = {}
    left_out: Counter[str] = Counter()
    for path in _files(data, f"{_QUESTIONS}*"):
        part = path.name.removeprefix(_QUESTIONS).partition(".")[0]
        for row in _lines(path, ("id", "question", "passage_ids")):
            own = tuple(sorted(set(row["passage_ids"])))
            if lost := [key for key in own if key not in passages]:
                raise SettingsError(
                    f"{path}: question {row['id']} names the passage {lost[0]}, which is not in {_PASSAGES}.jsonl"
                )
            if row["id"] in found:
                raise SettingsError(f"{path}: question {row['id']} is there twice: give every question an id of its own")
            if own:
                found[row["id"]] = Question(row["id"], row["question"], own, part)
            else:
                left_out["unanswerable"] += 1
    return sorted(found.values(), key=lambda one: one.id), left_out


def _rows(data: Path, name: str, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    seen: defaultdict[str, int] = defaultdict(int)
    for path in _files(data, name):
        for row in _lines(path, fields):
            seen[row["id"]] += 1
            if seen[row["id"]] > 1:
                raise SettingsError(f"{path}: passage {row['id']} is there twice: give every passage an id of its own")
            yield row


def _files(data: Path, name: str) -> list[Path]:
    return sorted(path for ending in ("jsonl", "jsonl.gz") for path in data.glob(f"{name}.{ending}"))


def _lines(path: Path, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            row = json.loads(line)
            if missing := [name for name in fields if name not in row]:
                raise SettingsError(f"{path}:{number} has no {missing[0]!r}: a line needs {', '.join(fields)}")
            yield row


def _write_lines(path: Path, rows: Iterable[Mapping[str, JSON]]) -> None:
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _point(identity: str) -> str:
    return hashlib.sha256(f"{_SEED}\0{identity}".encode()).hexdigest()
