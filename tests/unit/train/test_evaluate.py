"""The evaluation stage, its gate, and what may be looked at."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from export.encoder.heldout import read_held_out as read_held_out_files
from export.encoder.words import WordsParams, write_words
from tests.unit.train.conftest import WORDS, write_pairs, write_tiny_base
from tests.unit.train.factories import SIMILARITY, contract_params, evaluate_params, fit_paths, train_params
from train.encoder import evaluate as evaluation
from train.encoder.base_contract import contract_for
from train.encoder.evaluate import EvaluatePaths, evaluate
from train.encoder.fit import fit
from train.encoder.heldout import document_id, read_corpus, read_held_out
from twinline.clients.questions import Question
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import ContractError, MismatchError, SettingsError
from twinline.contract.release.checks import Check
from twinline.contract.release.manifest import Fingerprints, Manifest, Serving, release_id
from twinline.contract.release.verdict import (
    BETTER_THAN_BASE,
    ENOUGH_QUESTIONS,
    EXACT_NAMES,
    FUSION,
    NOT_WORSE_THAN_CHAMPION,
    TRAINED_AS_SERVED,
    WRITTEN_CHECKS,
    Verdict,
)

DOCUMENTS = 26


def write_corpus(folder: Path, code: str = "") -> EvaluatePaths:
    """Write documents of one rare word each, and held-out queries that ask for the rare word; `code` is of each document."""
    documents = [
        {"source": "s", "key": str(n), "title": "", "text": f"{word} number {n} {code.format(n)} " + " ".join(WORDS[:3])}
        for n, word in enumerate(WORDS)
    ]
    documents = [{**row, "clean_title": row["title"], "clean_text": row["text"]} for row in documents]
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
    (folder / "data" / "snapshot").mkdir()
    pq.write_table(pa.table({"split": pa.array([], pa.string())}), folder / "data" / "snapshot" / "queries.parquet")
    empty = pa.table({name: pa.array([], pa.string()) for name in ("split", "source", "key", "title", "text")})
    pq.write_table(empty, pairs / "withheld.parquet")
    return EvaluatePaths(
        folder / "data" / "documents.parquet",
        pairs,
        folder / "data" / "snapshot",
        folder / "models" / "encoder",
        folder / "models" / "evaluation",
        folder / "home",
        folder / "models" / "words",
    )


def preprocessor_of(base: Path, **contract: Any) -> Preprocessor:
    return Preprocessor(*contract_for(base, contract_params(**contract)))


@pytest.fixture
def trained(tiny_base: Path, tmp_path: Path) -> EvaluatePaths:
    paths = write_corpus(tmp_path)
    write_pairs(paths.pairs / "train.parquet", source="elsewhere")
    fit(tiny_base, "tiny", contract_params(), train_params(max_steps=1), fit_paths(tmp_path, paths.pairs / "train.parquet"))
    return paths


def count_words(paths: EvaluatePaths) -> None:
    paths.words.mkdir(parents=True, exist_ok=True)
    write_words([paths.documents], Preprocessor.load(paths.encoder), WordsParams(), paths.words)


def run(base: Path, paths: EvaluatePaths, **params: Any) -> Verdict:
    count_words(paths)
    return evaluate(base, evaluate_params(**params), SIMILARITY, paths)


def check_of(verdict: Verdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


def test_all_are_scored_on_the_same_queries_and_the_verdict_is_written(tiny_base: Path, trained: EvaluatePaths) -> None:
    verdict = run(tiny_base, trained, margin=1.0, slice_margin=1.1)
    report = json.loads((trained.evaluation / "evaluation.json").read_text())
    assert report["corpus"]["statement"] == "all 26 documents"
    assert report["dev"]["queries"] == 13
    # every document has its rare word: BM25 cannot miss, but for the three words that all documents share
    assert report["dev"]["bm25"]["recall_at_100"] == 1.0
    assert report["dev"]["bm25"]["ndcg_at_10"] > 0.9
    for name in ("base", "base_under_this_contract", "tuned"):
        assert 0 <= report["dev"][name]["ndcg_at_10"] <= 1
    # No two of these documents say the same.
    ungrouped = report["dev"]["hybrid"]["ndcg_at_10"]
    assert report["dev"]["hybrid_grouped"] == {
        "ndcg_at_10": pytest.approx(ungrouped), "ndcg_at_10_hits_alone": pytest.approx(ungrouped), "documents_listed": 0,
    }  # fmt: skip
    written = json.loads((trained.evaluation / "verdict.json").read_text())
    assert written["accepted"] is verdict.accepted is True
    assert [check["name"] for check in written["checks"]] == list(WRITTEN_CHECKS)
    assert written["outcome"] == "accepted"
    compared = written["checks"][0]["numbers"]["comparisons"]
    assert compared[0]["tuned"] == pytest.approx(report["dev"]["tuned"]["ndcg_at_10"])
    assert [entry["against"] for entry in compared] == ["the base model", "the base model under this encoder's contract"]


def test_too_few_questions_are_a_verdict_of_their_own(tiny_base: Path, trained: EvaluatePaths) -> None:
    verdict = run(tiny_base, trained, margin=1.0, slice_margin=1.1, min_queries=14)
    written = json.loads((trained.evaluation / "verdict.json").read_text())
    assert (written["accepted"], written["outcome"]) == (False, "undecided")
    check = check_of(verdict, ENOUGH_QUESTIONS)
    assert check.numbers == {"queries": 13, "queries_in_split": 13, "min_queries": 14}
    assert "twinline questions add" in check.detail


@pytest.mark.parametrize(
    ("tokens", "steps", "named"), [(8, 1, True), (None, 1, False), (64, 1, False), (8, 0, False)]
)  # less than serving; the contract's; more than it; no training at all
def test_a_training_that_reads_less_than_serving_is_named(
    tiny_base: Path, tmp_path: Path, tokens: int | None, steps: int, named: bool
) -> None:
    paths = write_corpus(tmp_path)
    write_pairs(paths.pairs / "train.parquet", source="elsewhere")
    params = train_params(max_steps=steps, epochs=0, max_tokens=tokens)
    fit(tiny_base, "tiny", contract_params(), params, fit_paths(tmp_path, paths.pairs / "train.parquet"))
    check = check_of(run(tiny_base, paths, margin=1.0), TRAINED_AS_SERVED)
    assert check.passed
    assert ("training read 8 tokens of each text, serving reads" in check.detail) is named
    report = json.loads((paths.evaluation / "evaluation.json").read_text())
    assert report["deviations"] == check.numbers["deviations"]
    assert len(report["deviations"]) == named


def test_the_base_model_is_read_under_its_own_contract_so_that_a_wrong_prefix_is_seen(tiny_base: Path, tmp_path: Path) -> None:
    paths = write_corpus(tmp_path)
    write_pairs(paths.pairs / "train.parquet", source="elsewhere")
    # so many words that none is left of the query
    wrong = contract_params(query_prefix=" ".join(WORDS[:10]) * 4)
    fit(tiny_base, "tiny", wrong, train_params(epochs=0), fit_paths(tmp_path, paths.pairs / "train.parquet"))
    check = check_of(run(tiny_base, paths, margin=0.02), BETTER_THAN_BASE)
    own, same = check.numbers["comparisons"]
    # the same weights under the same contract: equal to the last digit, and blind
    assert same["difference"]["low"] == same["difference"]["high"] == 0
    # a random model of eight dimensions may gain as well as lose: what counts is that the difference is there, and decides
    assert own["difference"]["low"] < -0.02
    assert not check.passed


def test_what_the_evaluation_asked_is_left_as_files_for_the_formats(tiny_base: Path, trained: EvaluatePaths) -> None:
    run(tiny_base, trained)
    preprocessor = Preprocessor.load(trained.encoder)
    part = read_held_out_files(trained.evaluation / "heldout", preprocessor)
    assert len(part.queries) == 13
    assert set(part.judgements) == set(part.queries)
    assert (len(part.document_ids), sum(part.chunk_counts)) == (26, len(part.chunk_texts))
    assert all(set(queries) <= set(part.queries) for queries in part.slices.values())
    with pytest.raises(MismatchError, match="evaluate again"):
        read_held_out_files(trained.evaluation / "heldout", preprocessor_of(tiny_base, query_prefix="other: "))


def test_a_champion_is_compared_under_its_own_contract_and_one_that_is_not_here_is_named(
    tiny_base: Path, trained: EvaluatePaths
) -> None:
    release = write_champion(trained)
    verdict = run(tiny_base, trained, champion=release, margin=0.0)
    check = check_of(verdict, NOT_WORSE_THAN_CHAMPION)
    # the champion is the encoder itself: equal, so it passes a margin of 0
    assert check.passed
    assert release in check.detail
    assert json.loads((trained.evaluation / "evaluation.json").read_text())["spaces"]["champion"]
    none = check_of(run(tiny_base, trained), NOT_WORSE_THAN_CHAMPION)
    assert none.passed
    assert "empty" in none.detail
    with pytest.raises(SettingsError, match=r"r000.*fetch it"):
        run(tiny_base, trained, champion="r000")


def write_champion(paths: EvaluatePaths) -> str:
    """Write a release that holds the encoder, as far as an evaluation looks at one."""
    import shutil

    preprocessor = Preprocessor.load(paths.encoder)
    folder = paths.home / "releases" / "new"
    folder.mkdir(parents=True)
    shutil.copytree(paths.encoder, folder / "encoder")
    space = json.loads((paths.encoder / "training.json").read_text())["space"]
    prints, serving = Fingerprints.of(preprocessor.contract), Serving("onnx_fp32", (16,), 8)
    name = release_id(space, prints.contract, serving, {})
    Manifest(name, space, prints, "w", 8, "tiny", (), (), serving, {}).save(folder)
    folder.rename(folder.with_name(name))
    return name


@pytest.mark.parametrize(("code", "judged"), [("E{:04}", True), ("", False)])
def test_names_and_codes_of_the_corpus_are_asked_for(tiny_base: Path, tmp_path: Path, code: str, judged: bool) -> None:
    paths = write_corpus(tmp_path, code)
    write_pairs(paths.pairs / "train.parquet", source="elsewhere")
    fit(tiny_base, "tiny", contract_params(), train_params(epochs=0), fit_paths(tmp_path, paths.pairs / "train.parquet"))
    check = check_of(run(tiny_base, paths, exact_names=20, exact_names_min=20, exact_names_in_sentence=1.0), EXACT_NAMES)
    report = json.loads((paths.evaluation / "evaluation.json").read_text())
    assert report["exact_names"] == check.numbers
    assert check.passed
    if not judged:
        assert (check.numbers["names"], check.numbers["queries"]) == (0, 0)
        return
    assert (check.numbers["names"], check.numbers["queries"]) == (26, 20)
    assert check.numbers["first"]["hybrid"] == check.numbers["first"]["words"] == {"bare": 1.0, "in a sentence": 1.0}
    # a random encoder knows nothing of a code
    assert check.numbers["first"]["dense"]["in a sentence"] < 0.5


def test_nothing_is_ranked_twice(tiny_base: Path, trained: EvaluatePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("rank_by_vectors", "rank_by_fusions"):
        real = getattr(evaluation, name)
        monkeypatch.setattr(evaluation, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))[1])
    run(tiny_base, trained)
    # tuned, base, and base under the tuned contract; the choice has ranked the chosen fusion
    assert calls == ["rank_by_vectors"] * 3


def test_the_chosen_fusion_is_reported_as_it_was_ranked_for_the_choice(tiny_base: Path, trained: EvaluatePaths) -> None:
    check = check_of(run(tiny_base, trained), FUSION)
    report = json.loads((trained.evaluation / "evaluation.json").read_text())
    halves, queries = check.numbers["second_half"], check.numbers["queries"]
    first, label = check.numbers["first_half"], next(iter(halves))
    chosen = "dense" if check.numbers["fusion"]["rule"] == "dense" else label
    both = (first[chosen] * queries[0] + halves[chosen] * queries[1]) / sum(queries)
    assert report["dev"]["hybrid"]["ndcg_at_10"] == pytest.approx(both)


def test_a_second_evaluation_gives_the_same_bytes(tiny_base: Path, trained: EvaluatePaths) -> None:
    run(tiny_base, trained)
    first = (trained.evaluation / "evaluation.json").read_bytes()
    run(tiny_base, trained)
    assert (trained.evaluation / "evaluation.json").read_bytes() == first


def test_the_test_split_is_scored_only_when_asked_and_each_look_is_counted(tiny_base: Path, trained: EvaluatePaths) -> None:
    run(tiny_base, trained)
    assert "test" not in json.loads((trained.evaluation / "evaluation.json").read_text())
    looks = trained.home / "evaluation" / "looks.jsonl"
    assert not looks.exists()
    for expected in (1, 2):
        run(tiny_base, trained, look_at_test=True)
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


@pytest.mark.parametrize(("most", "queries"), [(0, 15), (5, 5), (2, 2), (1, 2)])
def test_the_projects_own_questions_are_never_left_to_chance(tiny_base: Path, tmp_path: Path, most: int, queries: int) -> None:
    paths = write_corpus(tmp_path)
    asked = [Question("where is it?", "s", "3"), Question("and that?", "s", "4")]
    for name, own in (
        ("queries", [{"query_id": one.query_id, "text": one.question, "split": "dev"} for one in asked]),
        ("judgements", [{"query_id": o.query_id, "source": "s", "key": o.key, "grade": 1, "split": "dev"} for o in asked]),
    ):
        file = paths.pairs / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist([*pq.read_table(file).to_pylist(), *own]), file)
    part = read_held_out(paths.pairs, "dev", preprocessor_of(tiny_base), max_queries=most, seed=4)
    assert {one.query_id for one in asked} <= set(part.query_ids)
    assert (len(part.query_ids), part.queries_in_split) == (queries, 15)


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


def test_the_contract_takes_limits_and_pooling_from_the_base_model_unless_params_say_otherwise(tmp_path: Path) -> None:
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
