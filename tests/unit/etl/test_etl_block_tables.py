"""Sorted runs merge to one order, in blocks of bounded size, with a bounded part of each run in memory."""

from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from etl import block_tables
from etl.block_tables import Run, merge, write_run

KEYS = ("name", "number")


def runs_of(folder: Path, rows: list[dict[str, object]], count: int) -> list[Run]:
    pieces = [rows[start::count] for start in range(count)]
    return [
        write_run(folder / f"run-{number}", pa.Table.from_pylist(piece), KEYS) for number, piece in enumerate(pieces) if piece
    ]


def table_of(names: str, text: str = "") -> list[dict[str, object]]:
    made: list[dict[str, object]] = [{"name": name, "number": number, "text": text} for number, name in enumerate(names)]
    Random(1).shuffle(made)
    return made


@pytest.mark.parametrize("count", [1, 2, 5, 40])
@pytest.mark.parametrize("together", [(), ("name",)])
def test_runs_come_out_in_one_order_and_what_belongs_together_in_one_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, together: tuple[str, ...]
) -> None:
    monkeypatch.setattr(block_tables, "_BLOCK_ROWS", 3)
    monkeypatch.setattr(block_tables, "_RUN_ROWS", 2)
    rows = table_of("aaaaaaabcddddeffffff")
    blocks = list(merge(runs_of(tmp_path, rows, count), KEYS, together))
    assert pa.concat_tables(blocks).to_pylist() == sorted(rows, key=lambda row: (row["name"], row["number"]))
    names = [set(block["name"].to_pylist()) for block in blocks]
    if together:
        assert all(not one & other for place, one in enumerate(names) for other in names[place + 1 :])
    else:
        assert {block.num_rows for block in blocks[:-1]} == {3}


def test_a_block_of_large_rows_has_few_of_them_and_so_has_what_is_held_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_tables, "_BLOCK_BYTES", 100_000)
    monkeypatch.setattr(block_tables, "_RUN_BYTES", 25_000)
    rows = table_of("a" * 100, text="x" * 10_000)
    runs = runs_of(tmp_path, rows, 3)
    with pa.OSFile(str(tmp_path / "run-0")) as file, pa.ipc.open_file(file) as reader:
        assert max(reader.get_batch(number).num_rows for number in range(reader.num_record_batches)) == 2
    blocks = list(merge(runs, KEYS))
    assert max(block.num_rows for block in blocks) == 9
    assert sum(block.num_rows for block in blocks) == 100


def test_no_rows_are_no_blocks(tmp_path: Path) -> None:
    empty = pa.schema([("name", pa.string()), ("number", pa.int64())]).empty_table()
    assert list(merge([write_run(tmp_path / "run", empty, KEYS)], KEYS)) == []
