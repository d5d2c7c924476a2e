"""Stage prepare: cleaning by the contract's rules, clusters of near-duplicates, nothing lost."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from etl import clusters
from etl.clusters import near_duplicates
from etl.ingest import ingest
from etl.params import PrepareParams
from etl.prepare import prepare
from etl.signatures import band_hashes
from etl.sources import Item
from tests.unit.etl.factories import ListSource, body, rows
from twinline.clients.erasure_list import Erased, Erasures
from twinline.contract.documents.records import Document
from twinline.contract.errors import ContractError, SettingsError


def prepared(items: list[Item], home: Path, out: str = "prepared") -> dict[str, dict[str, object]]:
    ingest(ListSource(items), home / "snapshot", max_reject_share=1.0)
    prepare(home / "snapshot", home / out, PrepareParams())
    return {row["key"]: row for row in rows(home / out / "documents.parquet")}


def test_near_duplicates_share_a_cluster_and_every_document_stays(tmp_path: Path) -> None:
    long = " ".join(body(n) for n in range(5))
    items: list[Item] = [
        Document("list", "a", long),
        Document("list", "b", long.replace("w2x7", "changed")),  # one word of two hundred
        Document("list", "c", long.upper().replace(" ", "\n ") + "!"),  # case, white space, punctuation
        Document("list", "d", body(9)),
        Document("list", "e", body(9) + " " + body(10)),  # contains d, but is half something else
    ]

    found = prepared(items, tmp_path)

    assert {key: row["cluster_id"] for key, row in found.items()} == {
        "a": '["list", "a"]',
        "b": '["list", "a"]',
        "c": '["list", "a"]',
        "d": '["list", "d"]',
        "e": '["list", "e"]',
    }
    report = json.loads((tmp_path / "prepared" / "report.json").read_text())
    assert (report["documents"], report["clusters"], report["largest_cluster"]) == (5, 3, 3)


def test_raw_text_stays_beside_the_clean_text(tmp_path: Path) -> None:
    found = prepared([Document("list", "a", "One\x00  two\r\n\r\n\r\nthree", title=" T ")], tmp_path)

    assert found["a"]["text"] == "One\x00  two\r\n\r\n\r\nthree"
    assert (found["a"]["clean_title"], found["a"]["clean_text"]) == ("T", "One two\n\nthree")


def test_a_document_that_cleaning_empties_is_a_kept_reject(tmp_path: Path) -> None:
    items: list[Item] = [Document("list", "a", "\x01\u200b"), Document("list", "b", "words")]

    assert list(prepared(items, tmp_path)) == ["b"]
    [reject] = rows(tmp_path / "prepared" / "rejects.parquet")
    assert (reject["key"], reject["reason"]) == ("a", "no_text")


def test_documents_that_are_only_a_title_are_compared_by_it(tmp_path: Path) -> None:
    items: list[Item] = [Document("list", key, "", title=title) for key, title in (("a", "Tides"), ("b", "Wind"), ("c", "Tides"))]

    found = prepared(items, tmp_path)

    assert [found[key]["cluster_id"] for key in "abc"] == ['["list", "a"]', '["list", "b"]', '["list", "a"]']


def test_preparing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    items: list[Item] = [Document("list", f"{n}", body(n % 40)) for n in range(60)]
    prepared(items, tmp_path, "one")
    prepared(items[::-1], tmp_path, "two")

    for name in ("documents.parquet", "rejects.parquet", "report.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_documents_that_were_all_erased_leave_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.block_tables.ROW_GROUP", 2)
    monkeypatch.setattr("etl.block_tables._BLOCK_ROWS", 2)
    ingest(
        ListSource([Document("list", key, body(n)) for n, key in enumerate("abcdef")]), tmp_path / "snapshot", max_reject_share=0
    )
    known = Erasures({}, b"secret")
    tokens = [known.token("list", key) for key in "cd"]  # a whole block
    erased = Erasures({token: Erased(token, 1, "2026-01-01", "me", "asked") for token in tokens}, b"secret")

    report = prepare(tmp_path / "snapshot", tmp_path / "prepared", PrepareParams(), erased)

    assert [row["key"] for row in rows(tmp_path / "prepared" / "documents.parquet")] == list("abef")
    assert (report["documents"], report["rejects"]) == (4, 2)


class InMemory:
    """Documents as `near_duplicates` reads them, without a file."""

    def __init__(self, signatures: NDArray[np.uint32], bands: int) -> None:
        self.count = len(signatures)
        self._signatures, self._hashes = signatures, band_hashes(signatures, bands)

    def band(self, number: int) -> NDArray[np.uint64]:
        return self._hashes[:, number]

    def rows(self, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        return self._signatures[rows]


def test_similarity_is_followed_through_a_chain() -> None:
    values = np.arange(8 * 16, dtype=np.uint32).reshape(8, 16)
    values[5, :12] = values[2, :12]
    values[7, 4:] = values[5, 4:]

    assert near_duplicates(InMemory(values, 8), bands=8, similarity=0.7).tolist() == [0, 1, 2, 3, 4, 2, 6, 2]


def test_rows_that_share_a_band_but_too_little_else_stay_apart() -> None:
    values = np.arange(2 * 16, dtype=np.uint32).reshape(2, 16)
    values[1, :2] = values[0, :2]

    assert near_duplicates(InMemory(values, 8), bands=8, similarity=0.7).tolist() == [0, 1]


@pytest.mark.parametrize("full", [2, 3, 5, 512])
@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_those_of_every_pair_that_shares_a_band(monkeypatch: pytest.MonkeyPatch, full: int, seed: int) -> None:
    """Against the rule, pair by pair: buckets of all sizes, and blocks of few pairs, so that sets join in between."""
    monkeypatch.setattr(clusters, "_FULL_BUCKET", full)
    monkeypatch.setattr(clusters, "_PAIRS_AT_ONCE", 7)
    documents = InMemory(np.random.default_rng(seed).integers(0, 3, (120, 16), np.uint32), 8)
    joined = clusters.Groups(documents.count)
    for band in range(8):
        values = documents.band(band).tolist()
        for value in set(values):
            bucket = [number for number, own in enumerate(values) if own == value]
            for place, one in enumerate(bucket[: full - 1]):
                for other in bucket[place + 1 :]:
                    if (documents.rows(np.array([one])) == documents.rows(np.array([other]))).mean() >= 0.6:
                        joined.join(one, other)

    found = near_duplicates(documents, bands=8, similarity=0.6)

    assert found.tolist() == joined.names().tolist()
    assert 1 < len(set(found.tolist())) < 120


def test_a_folder_that_is_no_snapshot_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="python -m etl ingest"):
        prepare(tmp_path, tmp_path / "out", PrepareParams())


@pytest.mark.parametrize("wrong", [{"hashes": 100, "bands": 32}, {"shingle_words": 0}, {"near_duplicate_similarity": 1.5}])
def test_parameters_out_of_bounds_are_an_error(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="prepare"):
        PrepareParams(**wrong)  # type: ignore[arg-type]
