"""Made-up codes: each is a name, none is in another text, and the data set that is written can be read again."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import exact_names
from bench.exact_names import CODES, measure_exact_names
from bench.offline import Ranked
from bench.planted_codes import SPLIT, made_up_code, plant_codes, write_data_set
from bench.queries import Questions
from etl.sources.beir import Beir
from etl.sources.items import Judgement, Query
from twinline.contract.documents.records import Document
from twinline.contract.errors import SettingsError
from twinline.contract.sparse.analyzer import words
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.names import names

ENGLISH = "the pump stops and it is not clear what the reason is when the light of the unit goes out"
TURKISH = "bu pompa çok eski ama yine de her gün çalışıyor ve ne yazık ki bir gün duracak gibi görünüyor"


def texts(count: int, text: str = ENGLISH) -> list[Document]:
    return [Document("s", f"d{number}", f"{text} of part {chr(97 + number % 26)}", title="Pumps") for number in range(count)]


def test_every_code_is_a_name_and_no_two_are_alike() -> None:
    codes = [made_up_code(number) for number in range(400)]
    assert all(names(f"it says {code} there") == [code] for code in codes)
    joined = ["".join(words(code)) for code in codes]
    assert len(set(joined)) == len(codes)
    assert codes == [made_up_code(number) for number in range(400)]
    assert not any(first in second for first in joined for second in joined if first != second)


@pytest.mark.parametrize(("text", "word"), [(ENGLISH, "mean"), (TURKISH, "anlama")])
def test_codes_are_planted_in_copies_and_asked_for_in_the_language_of_the_texts(text: str, word: str) -> None:
    documents = texts(40, text)
    planted = plant_codes(documents, 30)
    assert planted == plant_codes(documents[::-1], 30), "the order of the documents says nothing"
    by_key = {document.key: document for document in documents}
    for number, one in enumerate(planted):
        original = by_key[one.document.key.rsplit("-with-", 1)[0]]
        assert one.document.text.replace(f" ({one.code})", "") == original.text
        assert (one.form == "bare") == (number % 2 == 0) == (one.query == one.code)
        assert names(one.query) == [one.code]
    assert len({one.document.key for one in planted}) == 30
    assert any(word in one.query for one in planted)


def test_the_data_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    documents = texts(12)
    planted = plant_codes(documents, 10)
    write_data_set(tmp_path / "codes", documents, planted)
    items = list(Beir("s", str(tmp_path / "codes")).items())
    assert [item.key for item in items if isinstance(item, Document)] == [
        *(document.key for document in documents),
        *(one.document.key for one in planted),
    ]
    assert {(item.query_id, item.text, item.split) for item in items if isinstance(item, Query)} == {
        (str(number), one.query, SPLIT) for number, one in enumerate(planted)
    }
    judged = {item.query_id: item.key for item in items if isinstance(item, Judgement)}
    assert judged == {str(number): one.document.key for number, one in enumerate(planted)}


def test_texts_that_hold_a_code_already_are_refused() -> None:
    documents = texts(12)
    with pytest.raises(SettingsError, match="not certain"):
        plant_codes([*documents, Document("s", "x", f"see {made_up_code(3).lower()}")], 10)
    with pytest.raises(SettingsError, match="12 documents are fewer than the 13 codes"):
        plant_codes(documents, 13)


def test_the_report_counts_first_hits_by_mode_and_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = texts(CODES)
    planted = plant_codes(documents, CODES)
    right = {str(number): {json.dumps(["s", one.document.key]): 1.0} for number, one in enumerate(planted)}
    asked = Questions({}, {query: dict.fromkeys(found, 1) for query, found in right.items()})
    wrong = right | {"0": {"other": 1.0}}

    class Workspace:
        def module(self, *arguments: str) -> None:
            said.append(arguments[0])
            (tmp_path / f"pydocs-{CODES}" / "data" / "snapshot").mkdir(parents=True, exist_ok=True)
            (tmp_path / f"pydocs-{CODES}" / "data" / "snapshot" / "documents-0.parquet").touch()

    class Loaded:
        fusion = Fusion()

    class Index:
        def __init__(self, *_: object) -> None: ...

        def rank(self, questions: object, fusion: Fusion) -> Ranked:
            assert fusion == Loaded.fusion
            return Ranked({"dense": {SPLIT: {}}, "words": {SPLIT: right}, "hybrid": {SPLIT: wrong}}, {})

    said: list[str] = []
    monkeypatch.setattr(exact_names, "read_documents", lambda corpus, count: documents[:count])
    monkeypatch.setattr(exact_names, "make_workspace", lambda folder, changes: Workspace())
    monkeypatch.setattr(exact_names, "read_questions", lambda snapshot, split: asked)
    monkeypatch.setattr(exact_names, "OfflineIndex", Index)
    monkeypatch.setattr(exact_names.Manifest, "load", lambda folder: Loaded())
    report: dict[str, Any] = measure_exact_names(None, CODES, tmp_path, live=False)
    assert said == ["etl", "export"]
    assert [(row["mode"], row["bare"], row["in_a_sentence"]) for row in report["rows"]] == [
        ("dense", 0.0, 0.0),
        ("words", 1.0, 1.0),
        ("hybrid", 0.99, 1.0),
    ]
    assert report["rows"][2]["not_first"] == [planted[0].query]
    assert (report["documents"], report["queries"]) == (2 * CODES, CODES)
