"""The evaluation stage, its gate, and what may be looked at."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.errors import ContractError, SettingsError
from contract.preprocess import Preprocessor
from scoring.metrics import Interval
from tests.unit.train.conftest import WORDS, write_pairs, write_tiny_base
from tests.unit.train.factories import contract_params, evaluate_params, fit_paths, train_params
from train.base_contract import contract_for
from train.evaluate import EvaluatePaths, evaluate
from train.fit import fit
from train.gate import judge
from train.heldout import document_id, read_corpus, read_held_out

DOCUMENTS = 26


def write_corpus(folder: Path) -> EvaluatePaths:
    """Write documents of one rare word each, and held-out queries that ask for the rare word."""
    documents = [
        {"source": "s", "key": str(n), "title": "", "text": f"{word} number {n} " + " ".join(WORDS[:3])}
        for n, word in enumerate(WORDS)
    ]
    queries = [{"query_id": f"q{n}", "text": WORDS[n], "split": "dev" if n % 2 else "test"} for n in range(DOCUMENTS)]
    judgements = [
        {"query_id": f"q{n}", "source": "s", "key": str(n), "grade": 1, "split": "dev" if n % 2 else "test"}
        for n in range(DOCUMENTS)
    ]
    pairs = folder / "data" / "pairs"
    pairs.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(documents), folder / "data" / "documents.parquet")
    pq.write_table(pa.Table.from_pylist(queries), pairs / "queries.parquet")
    pq.write_table(pa.Table.from_pylist(judgements), pairs / "judgements.parquet")
    empty = pa.table({name: pa.array([], pa.string()) for name in ("split", "source", "key", "title", "text")})
    pq.write_table(empty, pairs / "withheld.parquet")
    return EvaluatePaths(
        folder / "data" / "documents.parquet",
        pairs,
        folder / "models" / "encoder",
        folder / "models" / "evaluation",
        folder / "home",
    )


def preprocessor_of(base: Path) -> Preprocessor:
    return Preprocessor(*contract_for(base, contract_params()))


@pytest.fixture
def trained(tiny_base: Path, tmp_path: Path) -> EvaluatePaths:
    paths = write_corpus(tmp_path)
    write_pairs(tmp_path / "pairs.parquet")
    fit(tiny_base, "tiny", contract_params(), train_params(max_steps=1), fit_paths(tmp_path, tmp_path / "pairs.parquet"))
    return paths


def test_all_three_are_scored_on_the_same_queries_and_the_verdict_is_written(tiny_base: Path, trained: EvaluatePaths) -> None:
    verdict = evaluate(tiny_base, evaluate_params(margin=1.0), trained)
    report = json.loads((trained.evaluation / "evaluation.json").read_text())
    assert report["corpus"]["statement"] == "all 26 documents"
    assert report["dev"]["queries"] == 13
    # every document has its rare word: BM25 cannot miss, but for the three words that all documents share
    assert report["dev"]["bm25"]["recall_at_100"] == 1.0
    assert report["dev"]["bm25"]["ndcg_at_10"] > 0.9
    for name in ("base", "tuned"):
        assert 0 <= report["dev"][name]["ndcg_at_10"] <= 1
    written = json.loads((trained.evaluation / "verdict.json").read_text())
    assert written["accepted"] is verdict.accepted is True
    assert written["numbers"]["tuned"] == report["dev"]["tuned"]["ndcg_at_10"]


def test_a_second_evaluation_gives_the_same_bytes(tiny_base: Path, trained: EvaluatePaths) -> None:
    evaluate(tiny_base, evaluate_params(), trained)
    first = (trained.evaluation / "evaluation.json").read_bytes()
    evaluate(tiny_base, evaluate_params(), trained)
    assert (trained.evaluation / "evaluation.json").read_bytes() == first


def test_the_test_split_is_scored_only_when_asked_and_each_look_is_counted(tiny_base: Path, trained: EvaluatePaths) -> None:
    evaluate(tiny_base, evaluate_params(), trained)
    assert "test" not in json.loads((trained.evaluation / "evaluation.json").read_text())
    looks = trained.home / "evaluation" / "looks.jsonl"
    assert not looks.exists()
    for expected in (1, 2):
        evaluate(tiny_base, evaluate_params(look_at_test=True), trained)
        assert json.loads((trained.evaluation / "evaluation.json").read_text())["looks_at_test"] == expected
    assert len(looks.read_text().splitlines()) == 2


def test_a_sample_of_the_corpus_is_stated_and_holds_what_is_judged(tiny_base: Path, tmp_path: Path) -> None:
    paths, preprocessor = write_corpus(tmp_path), preprocessor_of(tiny_base)
    needed = [document_id("s", "3"), document_id("s", "25")]
    corpus = read_corpus(paths.documents, needed, preprocessor, max_documents=10, seed=4)
    assert len(corpus.document_ids) == 10
    assert corpus.documents_in_total == 26
    assert set(needed) <= set(corpus.document_ids)
    assert corpus == read_corpus(paths.documents, needed, preprocessor, max_documents=10, seed=4)
    few = read_held_out(paths.pairs, "dev", preprocessor, max_queries=5, seed=4)
    assert (len(few.queries), few.queries_in_split) == (5, 13)


def test_a_document_that_a_query_was_taken_from_is_searched_without_it(tiny_base: Path, tmp_path: Path) -> None:
    paths, preprocessor = write_corpus(tmp_path), preprocessor_of(tiny_base)
    rest = {"split": "dev", "source": "s", "key": "1", "title": "", "text": "only the rest"}
    pq.write_table(pa.Table.from_pylist([rest]), paths.pairs / "withheld.parquet")
    corpus = read_corpus(paths.documents, [], preprocessor, max_documents=0, seed=0, withheld=paths.pairs / "withheld.parquet")
    assert corpus.full_texts[corpus.document_ids.index(document_id("s", "1"))] == "only the rest"
    assert corpus.full_texts[corpus.document_ids.index(document_id("s", "2"))].startswith("broker")


def test_a_judged_document_that_is_not_there_stops_the_evaluation(tiny_base: Path, tmp_path: Path) -> None:
    paths = write_corpus(tmp_path)
    with pytest.raises(ContractError, match="lacks 1 judged"):
        read_corpus(paths.documents, [document_id("s", "gone")], preprocessor_of(tiny_base), max_documents=0, seed=0)


@pytest.mark.parametrize(
    ("low", "high", "accepted"),
    [
        (0.001, 0.03, True),  # better
        (-0.019, 0.01, True),  # perhaps worse, by less than the margin
        (-0.02, 0.01, False),  # perhaps worse by all of the margin
        (-0.3, -0.1, False),  # worse
    ],
)
def test_the_gate_refuses_what_may_be_worse_by_the_margin(low: float, high: float, accepted: bool) -> None:
    difference = Interval(mean=(low + high) / 2, low=low, high=high)
    verdict = judge({"ndcg_at_10": 0.5}, {"ndcg_at_10": 0.5}, difference, margin=0.02, confidence=0.95, queries=100)
    assert verdict.accepted is accepted
    assert f"{low:+.4f}" in verdict.reasons[0]


def test_an_encoder_that_equals_its_base_passes_a_margin_of_zero() -> None:
    same = Interval(0.0, 0.0, 0.0)
    assert judge({"ndcg_at_10": 0.5}, {"ndcg_at_10": 0.5}, same, margin=0.0, confidence=0.95, queries=9).accepted


def test_the_contract_takes_limits_and_pooling_from_the_base_model_unless_told_otherwise(tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", max_tokens=24)
    (base / "1_Pooling").mkdir()
    (base / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (base / "modules.json").write_text(json.dumps(modules))
    (base / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"document": "passage: "}}))
    contract, _ = contract_for(base, contract_params(query_prefix=None, document_prefix=None))
    assert (contract.vector.max_tokens, contract.vector.pooling) == (24, "cls")
    assert (contract.vector.query_prefix, contract.vector.document_prefix) == ("", "passage: ")
    told, _ = contract_for(base, contract_params(max_tokens=40, pooling="mean", document_prefix=""))
    assert (told.vector.max_tokens, told.vector.pooling, told.vector.document_prefix) == (40, "mean", "")
    with pytest.raises(SettingsError, match="64 positions"):
        contract_for(base, contract_params(max_tokens=65))
