"""The offline data stages on a real data set, where it is at hand: TWINLINE_DATA, or shared/data beside the checkout."""

import json
import os
from pathlib import Path

import pytest

from etl.ingest import ingest
from etl.pairs import make_pairs
from etl.params import PairsParams, PrepareParams
from etl.prepare import prepare
from etl.sources import open_source
from tests.checkout import CHECKOUT
from tests.unit.etl.factories import rows, settings

# Read when this file is, because the tests forget the caller's TWINLINE_* variables.
DATA = Path(os.environ.get("TWINLINE_DATA") or CHECKOUT.parent / "shared" / "data") / "scifact"

pytestmark = pytest.mark.skipif(
    not (DATA / "corpus.jsonl").is_file(), reason=f"no SciFact at {DATA}: set TWINLINE_DATA to the folder that holds it"
)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("scifact")
    ingest(open_source(f"beir:{DATA}", settings(home)), home / "snapshot", max_reject_share=0)
    prepare(home / "snapshot", home / "prepared", PrepareParams())
    make_pairs(home / "snapshot", home / "prepared", home / "pairs", PairsParams())
    return home


def test_the_snapshot_holds_all_documents_queries_and_judgements(stages: Path) -> None:
    counts = json.loads((stages / "snapshot" / "snapshot.json").read_text())["counts"]

    assert counts == {"documents": 5_183, "deletions": 0, "queries": 809 + 300 + 103, "judgements": 919 + 339 + 118, "rejects": 0}
    assert len(rows(stages / "prepared" / "documents.parquet")) == 5_183


def test_test_splits_are_whole_and_never_reach_training(stages: Path) -> None:
    queries = rows(stages / "pairs" / "queries.parquet")
    by_split = {split: {row["query_id"] for row in queries if row["split"] == split} for split in ("dev", "test", "test_unseen")}
    trained = {row["query_id"] for row in rows(stages / "pairs" / "train.parquet")}

    assert (len(by_split["test"]), len(by_split["test_unseen"])) == (300, 103)
    assert not trained & set().union(*by_split.values())
    assert len(trained) + len(by_split["dev"]) >= 800
    assert len([row for row in rows(stages / "pairs" / "judgements.parquet") if row["split"] == "test"]) == 339


def test_documents_shared_by_train_and_test_are_counted(stages: Path) -> None:
    report = json.loads((stages / "pairs" / "report.json").read_text())

    # 181 in the data set; some of those train queries are in our development split now.
    assert 100 < report["leaks"]["shared_documents"]["test"] <= 181
    assert report["leaks"]["shared_documents"]["test_unseen"] == 0
    assert not any(report["leaks"]["violations"].values())
