"""What stages keep of each document: it saves work, and changes nothing."""

import hashlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import etl.gather
import etl.prepare
from clients.settings import Settings
from contract.errors import ContractError
from etl.ingest import ingest
from etl.kept import Kept
from etl.pairs import make_pairs
from etl.params import PairsParams, PrepareParams
from etl.prepare import prepare
from etl.sources import open_source

PAIRS = PairsParams(min_body_words=5)
SENTENCE = "It says what the river near town number {} looks like in the month of May, and who was there to see it."


class Corpus:
    """Documents in a file, and the stages over them; counts what is really made."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.texts = {str(number): f"Summary number {number} of it\n\n{SENTENCE.format(number)}" for number in range(40)}
        self.made: list[tuple[str, int]] = []
        for module, stage in ((etl.prepare, "prepare"), (etl.gather, "pairs")):
            monkeypatch.setattr(module, "_make", self._counted(stage, module._make))

    def _counted(self, stage: str, make):  # type: ignore[no-untyped-def]
        def counted(documents: pa.Table, params: object) -> pa.Table:
            self.made.append((stage, documents.num_rows))
            return make(documents, params)

        return counted

    def run(self, name: str, kept: Path | None, params: PrepareParams | None = None) -> dict[str, str]:
        """Run ingest, prepare and pairs; return the hash of every file that came out of the last two."""
        corpus, out = self.folder / "corpus.jsonl", self.folder / name
        rows = (json.dumps({"key": key, "title": "", "text": text}) for key, text in self.texts.items())
        corpus.write_text("\n".join(rows) + "\n")
        ingest(open_source(f"files:{corpus}", Settings()), out / "snapshot", max_reject_share=0.5)
        prepare(out / "snapshot", out / "prepared", params or PrepareParams(), kept=kept)
        make_pairs(out / "snapshot", out / "prepared", out / "pairs", PAIRS, kept)
        files = sorted([*(out / "prepared").iterdir(), *(out / "pairs").iterdir()])
        return {f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    return Corpus(tmp_path, monkeypatch)


def test_only_documents_that_changed_are_made_again_and_every_byte_is_as_in_a_cold_run(corpus: Corpus) -> None:
    kept = corpus.folder / "kept"
    corpus.run("first", kept)
    corpus.made.clear()
    corpus.texts["7"] = "Another summary of number 7\n\n" + SENTENCE.format("seven") * 2
    corpus.texts["new"] = "A summary that is new here\n\n" + SENTENCE.format("new")
    corpus.texts["empty"] = " \u200b "
    del corpus.texts["11"]
    warm = corpus.run("warm", kept)
    assert corpus.made == [("prepare", 3), ("pairs", 2)]
    assert corpus.run("cold", None) == warm


def test_nothing_is_made_when_nothing_changed(corpus: Corpus) -> None:
    kept = corpus.folder / "kept"
    first = corpus.run("first", kept)
    corpus.made.clear()
    assert corpus.run("again", kept) == first
    assert corpus.made == []


def test_a_parameter_that_decides_the_result_makes_all_of_it_anew(corpus: Corpus) -> None:
    kept = corpus.folder / "kept"
    corpus.run("first", kept)
    corpus.made.clear()
    other = PrepareParams(shingle_words=2)
    warm = corpus.run("other", kept, other)
    assert ("prepare", 40) in corpus.made
    assert corpus.run("cold", None, other) == warm
    # and what nobody asks for any more is gone
    assert len(list(kept.glob("prepare-*.parquet"))) == 1


def test_other_code_keeps_nothing_of_what_this_code_made(tmp_path: Path) -> None:
    table = pa.table({"content_hash": ["a"], "text": ["one"]})

    def length(documents: pa.Table) -> pa.Table:
        return pa.table({"length": [len(text) for text in documents["text"].to_pylist()]})

    def nothing(documents: pa.Table) -> pa.Table:
        return pa.table({"length": [0] * documents.num_rows})

    assert Kept(tmp_path, "stage", {"code": "one"}).made(table, length)["length"].to_pylist() == [3]
    assert Kept(tmp_path, "stage", {"code": "one"}).made(table, nothing)["length"].to_pylist() == [3]
    assert Kept(tmp_path, "stage", {"code": "other"}).made(table, nothing)["length"].to_pylist() == [0]


def test_new_and_known_documents_come_back_in_the_order_of_the_documents(tmp_path: Path) -> None:
    def doubled(documents: pa.Table) -> pa.Table:
        return pa.table({"double": [2 * number for number in documents["number"].to_pylist()]})

    def table(*numbers: int) -> pa.Table:
        return pa.table({"content_hash": [str(number) for number in numbers], "number": list(numbers)})

    Kept(tmp_path, "stage", {}).made(table(5, 3, 9), doubled)
    found = Kept(tmp_path, "stage", {}).made(table(1, 9, 2, 3, 4), doubled)
    assert found["double"].to_pylist() == [2, 18, 4, 6, 8]


def test_a_damaged_file_is_named_and_not_believed(corpus: Corpus) -> None:
    kept = corpus.folder / "kept"
    corpus.run("first", kept)
    for path in (*kept.glob("prepare-*.parquet"), *kept.glob("pairs-*.parquet")):
        sound, stamp = path.read_bytes(), path.stat()
        raw = bytearray(sound)
        raw[len(raw) // 3] ^= 0xFF
        path.write_bytes(bytes(raw))
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        with pytest.raises(ContractError, match=rf"(?s){path.name}.*is damaged.*remove it"):
            corpus.run("again", kept)
        path.write_bytes(sound)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def test_a_file_that_somebody_wrote_over_in_place_is_not_believed(corpus: Corpus) -> None:
    kept = corpus.folder / "kept"
    first = corpus.run("first", kept)
    prepared = corpus.folder / "first" / "prepared" / "documents.parquet"
    rows = pq.read_table(prepared)
    rows = rows.set_column(
        rows.schema.get_field_index("clean_text"), "clean_text", pa.array(["mine"] * rows.num_rows, pa.large_string())
    )
    with prepared.open("r+b") as file:  # the same file under another name is what is kept
        file.truncate()
        pq.write_table(rows, file)
    assert corpus.run("again", kept) == first
