"""The stage caches: they save work, and change nothing."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import etl.gather
import etl.prepare
from etl.ingest import ingest
from etl.pairs import make_pairs
from etl.params import PairsParams, PrepareParams
from etl.prepare import prepare
from etl.sources import open_source
from etl.stage_cache import StageCache
from twinline.clients.settings import Settings
from twinline.contract.errors import ContractError

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

    def run(self, name: str, cache: Path | None, params: PrepareParams | None = None) -> dict[str, str]:
        """Run ingest, prepare and pairs; return the hash of every file that came out of the last two."""
        corpus, out = self.folder / "corpus.jsonl", self.folder / name
        rows = (json.dumps({"key": key, "title": "", "text": text}) for key, text in self.texts.items())
        corpus.write_text("\n".join(rows) + "\n")
        ingest(open_source(f"files:{corpus}", Settings()), out / "snapshot", max_reject_share=0.5)
        prepare(out / "snapshot", out / "prepared", params or PrepareParams(), cache=cache)
        make_pairs(out / "snapshot", out / "prepared", out / "pairs", PAIRS, cache)
        files = sorted([*(out / "prepared").iterdir(), *(out / "pairs").iterdir()])
        return {f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    return Corpus(tmp_path, monkeypatch)


def test_only_documents_that_changed_are_made_again_and_every_byte_is_as_in_a_cold_run(corpus: Corpus) -> None:
    cache = corpus.folder / "kept"
    corpus.run("first", cache)
    corpus.made.clear()
    corpus.texts["7"] = "Another summary of number 7\n\n" + SENTENCE.format("seven") * 2
    corpus.texts["new"] = "A summary that is new here\n\n" + SENTENCE.format("new")
    corpus.texts["empty"] = " \u200b "
    del corpus.texts["11"]
    warm = corpus.run("warm", cache)
    assert corpus.made == [("prepare", 3), ("pairs", 2)]
    assert corpus.run("cold", None) == warm


def test_nothing_is_made_when_nothing_changed(corpus: Corpus) -> None:
    cache = corpus.folder / "kept"
    first = corpus.run("first", cache)
    corpus.made.clear()
    assert corpus.run("again", cache) == first
    assert corpus.made == []


def test_a_parameter_that_decides_the_result_makes_all_of_it_again(corpus: Corpus) -> None:
    cache = corpus.folder / "kept"
    corpus.run("first", cache)
    corpus.made.clear()
    other = PrepareParams(shingle_words=2)
    warm = corpus.run("other", cache, other)
    assert ("prepare", 40) in corpus.made
    assert corpus.run("cold", None, other) == warm
    # and the cache of the other parameters is gone
    assert len(list(cache.glob("prepare-*.parquet"))) == 1


def results(cache: StageCache, numbers: list[int], make: Callable[[pa.Table], pa.Table], block: int = 2) -> list[int]:
    """Let documents pass by in blocks; return the column `result` of each."""
    hashes = [hashlib.sha256(str(number).encode()).hexdigest() for number in numbers]
    whole = pa.table({"content_hash": hashes, "number": numbers})

    def documents(columns: Sequence[str]) -> Iterator[pa.Table]:
        yield from (whole.slice(start, block).select(columns) for start in range(0, whole.num_rows, block))

    found: list[int] = []
    for given, made in cache.made(documents, ["number"], make):
        assert given.num_rows == made.num_rows
        found += made["result"].to_pylist()
    return found


RESULT = pa.schema([("result", pa.int64())])


def times(factor: int) -> Callable[[pa.Table], pa.Table]:
    return lambda new: pa.table({"result": [factor * number for number in new["number"].to_pylist()]})


def test_other_code_keeps_nothing_of_what_this_code_made(tmp_path: Path) -> None:
    assert results(StageCache(tmp_path, "stage", {"code": "one"}, RESULT), [1, 2, 3], times(2)) == [2, 4, 6]
    assert results(StageCache(tmp_path, "stage", {"code": "one"}, RESULT), [1, 2, 3], times(0)) == [2, 4, 6]
    assert results(StageCache(tmp_path, "stage", {"code": "other"}, RESULT), [1, 2, 3], times(0)) == [0, 0, 0]
    assert results(StageCache(None, "stage", {"code": "one"}, RESULT), [1, 2, 3], times(3)) == [3, 6, 9]


@pytest.mark.parametrize("block", [1, 2, 3, 100])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_and_goes_each_document_has_its_result_and_is_made_once(tmp_path: Path, block: int, seed: int) -> None:
    random = Random(seed)
    known: set[int] = set()
    for _ in range(6):
        numbers = sorted(random.sample(range(40), random.randrange(1, 30)))
        made: list[int] = []

        def doubled(new: pa.Table, made: list[int] = made) -> pa.Table:
            made += new["number"].to_pylist()
            return times(2)(new)

        assert results(StageCache(tmp_path, "stage", {}, RESULT), numbers, doubled, block) == [2 * number for number in numbers]
        assert made == [number for number in numbers if number not in known]
        known = set(numbers)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_run_that_ends_half_way_keeps_what_was_kept_before(tmp_path: Path) -> None:
    results(StageCache(tmp_path, "stage", {}, RESULT), [1, 2, 3], times(2))

    def broken(new: pa.Table) -> pa.Table:
        raise ContractError("no more")

    with pytest.raises(ContractError, match="no more"):
        results(StageCache(tmp_path, "stage", {}, RESULT), [1, 2, 3, 4, 5], broken)
    assert results(StageCache(tmp_path, "stage", {}, RESULT), [1, 2, 3], broken) == [2, 4, 6]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("others", [[3, 4, 5, 6, 7, 8], None])
def test_a_run_that_puts_its_own_in_this_place_meanwhile_changes_nothing(tmp_path: Path, others: list[int] | None) -> None:
    results(StageCache(tmp_path, "stage", {}, RESULT), [1, 2, 3, 4, 5, 6], times(2))
    whole = pa.table(
        {"content_hash": [hashlib.sha256(str(n).encode()).hexdigest() for n in range(1, 10)], "number": range(1, 10)}
    )
    passes = 0

    def documents(columns: Sequence[str]) -> Iterator[pa.Table]:
        nonlocal passes
        passes += 1
        if passes == 1:  # between the two readings of the cache
            if others is None:
                next(tmp_path.glob("stage-*.parquet")).unlink()
            else:
                results(StageCache(tmp_path, "stage", {}, RESULT), others, times(2))
        yield whole.select(columns)

    made = [
        value
        for _, block in StageCache(tmp_path, "stage", {}, RESULT).made(documents, ["number"], times(2))
        for value in block["result"].to_pylist()
    ]
    assert made == [2 * number for number in range(1, 10)]
    assert results(StageCache(tmp_path, "stage", {}, RESULT), list(range(1, 10)), times(0)) == made


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f".stage-0123.parquet.{2**22 + 1}"  # no process has such a number
    left.write_bytes(b"half")
    results(StageCache(tmp_path, "stage", {}, RESULT), [1, 2], times(2))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_prepare_that_was_overtaken_by_another_run_says_so(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = corpus.folder / "kept"
    corpus.run("first", cache)
    writes = etl.prepare._write

    def overtaken(*arguments, **options):  # type: ignore[no-untyped-def]
        monkeypatch.setattr(etl.prepare, "_write", writes)
        corpus.texts["8"] = "Another summary of number 8\n\n" + SENTENCE.format("eight")
        corpus.run("other", cache)
        return writes(*arguments, **options)

    monkeypatch.setattr(etl.prepare, "_write", overtaken)
    with pytest.raises(ContractError, match="replaced by another run"):
        corpus.run("again", cache)


def test_a_damaged_file_is_named_and_not_believed(corpus: Corpus) -> None:
    cache = corpus.folder / "kept"
    corpus.run("first", cache)
    for path in (*cache.glob("prepare-*.parquet"), *cache.glob("pairs-*.parquet")):
        sound, stamp = path.read_bytes(), path.stat()
        raw = bytearray(sound)
        # In the middle of the texts that are read again, clean where there are others: between pages nothing matters.
        group = pq.ParquetFile(path).metadata.row_group(0)
        columns = {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}
        texts = columns.get("clean_text", columns.get("text"))
        raw[texts.data_page_offset + texts.total_compressed_size // 2] ^= 0xFF
        path.write_bytes(bytes(raw))
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        with pytest.raises(ContractError, match=rf"(?s){path.name}.*is damaged.*remove it"):
            corpus.run("again", cache)
        path.write_bytes(sound)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def test_a_file_that_somebody_wrote_over_in_place_is_not_believed(corpus: Corpus) -> None:
    cache = corpus.folder / "kept"
    first = corpus.run("first", cache)
    prepared = corpus.folder / "first" / "prepared" / "documents.parquet"
    rows = pq.read_table(prepared)
    rows = rows.set_column(
        rows.schema.get_field_index("clean_text"), "clean_text", pa.array(["mine"] * rows.num_rows, pa.large_string())
    )
    with prepared.open("r+b") as file:  # the cache is the same file under another name
        file.truncate()
        pq.write_table(rows, file)
    assert corpus.run("again", cache) == first
