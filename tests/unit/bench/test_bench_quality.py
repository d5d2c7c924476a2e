"""The parts of `bench quality`: releases by contract, one training, the report's rows, and the questions that choose."""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.offline import MODES, OfflineIndex, Ranked, best_chunks, has_withheld
from bench.passages import RULE
from bench.quality import Parts, QualityRun, _release, as_beir, measure_quality, origin_of_development, train_once
from bench.quality_report import Answers, best, comparisons, rows
from bench.queries import Questions
from bench.workspace import Workspace
from tests.checkout import CHECKOUT
from twinline.contract.artefacts import TRAIN_PAIRS
from twinline.contract.encoder.sparse_settings import ANALYZER_VERSIONS, WEIGHT_VERSIONS, SparseContract
from twinline.contract.errors import ContractError
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.statistics import Statistics
from twinline.contract.sparse.weights import Words
from twinline.scoring.grouping import ScoredGroups
from twinline.scoring.hybrid import Chunks, Queries, WordIndex, rank_by_words
from twinline.scoring.ranking import rank_by_vectors
from twinline.scoring.retrieval import trec_order


class _Recorded:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[str, ...]] = []

    def module(self, *arguments: str) -> None:
        self.calls.append(arguments)


@pytest.mark.parametrize(
    ("contract", "options"),
    [("none", ["none"]), ("tokens", ["tokens"]), ("tokens@1", ["tokens", "--chunker-version", "1"])],
)
def test_a_contract_may_name_an_older_version_of_the_chunker(tmp_path: Path, contract: str, options: list[str]) -> None:
    workspace = _Recorded(tmp_path)
    documents = tmp_path / "data" / "snapshot" / "documents-0.parquet"
    documents.parent.mkdir(parents=True)
    documents.touch()
    assert _release(cast(Workspace, workspace), "base", contract).name == f"base-{contract}"
    (call,) = workspace.calls
    assert list(call[call.index("--chunker") + 1 :]) == [*options, "--documents", str(documents)]


def test_an_encoder_is_trained_once_for_the_same_pairs_parameters_code_and_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "pairs").mkdir(parents=True)
    pairs, params = tmp_path / TRAIN_PAIRS, tmp_path / "params.yaml"
    pairs.write_bytes(b"pairs")
    params.write_bytes((CHECKOUT / "params.yaml").read_bytes())
    encoder = tmp_path / "models" / "encoder"
    fails = [False]

    class Trains(_Recorded):
        def module(self, *arguments: str) -> None:
            super().module(*arguments)
            if fails[0]:
                raise ContractError("killed")
            encoder.mkdir(parents=True, exist_ok=True)
            (encoder / "training.json").write_text("{}")

    workspace = Trains(tmp_path)

    def trained() -> bool:
        before = len(workspace.calls)
        said = train_once(cast(Workspace, workspace))
        assert (said == "now") == (len(workspace.calls) == before + 1)
        return said == "now"

    assert [trained(), trained(), trained()] == [True, False, False]
    assert workspace.calls == [("train", "fit")]
    pairs.write_bytes(b"other pairs")
    assert [trained(), trained()] == [True, False]
    for before, after in (
        ("learning_rate: 3.0e-5", "learning_rate: 4.0e-5"), ("epochs: 1", "epochs: 2"), ("max_steps: 12", "max_steps: 13"),
        ("pooling: null", "pooling: cls"), ("base_model: ", "base_model: /another/"),
    ):  # fmt: skip
        changed = params.read_text().replace(before, after, 1)
        assert changed != params.read_text()
        params.write_text(changed)
        assert [trained(), trained()] == [True, False], after
    # The source, the evaluation and the index are no part of the training.
    params.write_text(
        params.read_text().replace('source: "pydocs:"', 'source: "beir:x"').replace("ef_search: 256", "ef_search: 9")
    )
    assert not trained()
    with monkeypatch.context() as other:
        other.setattr("bench.quality.metadata.version", lambda name: f"{name} 0")
        assert [trained(), trained()] == [True, False]
    assert trained()
    with monkeypatch.context() as other:
        other.setattr("bench.quality.code_hashes", lambda *_: {"train/encoder/fit.py": "changed"})
        assert [trained(), trained()] == [True, False]
    # A training that was killed has no record: neither of its own nor of the encoder before it.
    fails[0] = True
    with pytest.raises(ContractError, match="killed"):
        train_once(cast(Workspace, workspace))
    fails[0] = False
    assert [trained(), trained()] == [True, False]
    (encoder / "training.json").unlink()
    assert trained()


def test_a_release_is_made_again_where_its_documents_or_its_encoder_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = tmp_path / "data" / "snapshot" / "documents-0.parquet"
    documents.parent.mkdir(parents=True)
    documents.write_bytes(b"documents")
    trained = tmp_path / "models" / "encoder" / "training.json"
    trained.parent.mkdir(parents=True)
    trained.write_text("1")

    class Exports(_Recorded):
        def module(self, *arguments: str) -> None:
            super().module(*arguments)
            out = Path(arguments[arguments.index("--out") + 1])
            out.mkdir(parents=True, exist_ok=True)
            (out / "manifest.json").write_text("{}")

    workspace = Exports(tmp_path)

    def exported() -> list[str]:
        workspace.calls.clear()
        for encoder in ("base", "tuned"):
            for contract in ("none", "tokens"):
                _release(cast(Workspace, workspace), encoder, contract)
        return [Path(call[call.index("--out") + 1]).name for call in workspace.calls]

    every = ["base-none", "base-tokens", "tuned-none", "tuned-tokens"]
    assert [exported(), exported()] == [every, []]
    trained.write_text("2")
    assert [exported(), exported()] == [every[2:], []]
    documents.write_bytes(b"others")
    assert [exported(), exported()] == [every, []]
    (tmp_path / "releases" / "base-tokens" / "manifest.json").unlink()
    assert exported() == ["base-tokens"]
    monkeypatch.setattr("bench.quality.code_hashes", lambda *_: {"export": "changed"})
    assert [exported(), exported()] == [every, []]


def row(encoder: str, contract: str, mode: str, split: str, value: float, kind: str = "offline") -> dict[str, Any]:
    return {"encoder": encoder, "contract": contract, "mode": mode, "split": split, f"{kind}_ndcg10": value}


@pytest.mark.parametrize("kind", ["offline", "live"])
@pytest.mark.parametrize("order", [1, -1])
def test_the_best_row_is_named_by_encoder_contract_and_mode_and_no_other_split_can_win(kind: str, order: int) -> None:
    of_test = [
        row("base", "none", "dense", "test", 0.645, kind),
        row("base", "none", "hybrid", "test", 0.744, kind),
        row("tuned", "tokens", "hybrid", "test", 0.749, kind),
        row("tuned", "tokens", "words", "test", 0.69, kind),
    ][::order]
    easier = [{**one, "split": "test_unseen", f"{kind}_ndcg10": 0.9 + place / 100} for place, one in enumerate(of_test)]
    assert best([*of_test, *easier], kind) == row("tuned", "tokens", "hybrid", "test", 0.749, kind)


@pytest.mark.parametrize("release", range(6))
def test_the_best_row_is_the_maximum_of_its_split(release: int) -> None:
    numbers = random.Random(release)
    found = [
        row(encoder, contract, mode, split, numbers.random())
        for encoder in ("base", "tuned")
        for contract in ("none", "tokens")
        for mode in MODES
        for split in ("test", "test_all")
    ]
    named = best(found, "offline")
    assert set(named) == {"encoder", "contract", "mode", "split", "offline_ndcg10"}
    assert named["offline_ndcg10"] == max(one["offline_ndcg10"] for one in found if one["split"] == "test")
    assert any(named.items() <= one.items() for one in found)


def answers(live: bool) -> Answers:
    """Two releases on two splits; every document of `test` but one is a copy of another."""
    asked = {
        split: Questions({"q0": "zero", "q1": "one"}, {"q0": {"d0": 1}, "q1": {"d1": 1}}) for split in ("test", "test_unseen")
    }
    right, wrong = {"q0": {"d0": 2.0, "d1": 1.0}, "q1": {"d1": 2.0}}, {"q0": {"d1": 1.0}, "q1": {"d0": 1.0}}
    runs = {"dense": wrong, "words": wrong, "hybrid": right}
    ranked = Ranked(
        {mode: dict.fromkeys(asked, run) for mode, run in runs.items()},
        {mode: dict.fromkeys(asked, ScoredGroups({"q0": 1.0, "q1": 0.5}, {"q0": 0.0, "q1": 0.5}, 3)) for mode in runs},
    )
    manifest = SimpleNamespace(release="r1", space="space", serving=SimpleNamespace(format="onnx_fp32"))
    releases: dict[Any, Any] = {("base", "none"): manifest, ("base", "tokens"): manifest, ("tuned", "none"): manifest}
    releases |= {("tuned", "tokens"): manifest}
    return Answers(asked, releases, dict.fromkeys(releases, ranked), dict.fromkeys(releases, ranked.runs) if live else {})


# What readers of the report rest on: a key that goes away breaks them.
KEYS = {
    "encoder", "contract", "mode", "split", "queries", "release", "space", "served_format", "offline_ndcg10",
    "offline_interval", "offline", "grouped",
}  # fmt: skip


@pytest.mark.parametrize("live", [False, True])
def test_a_row_has_the_keys_that_it_always_had_and_its_figure_with_copies_grouped(live: bool) -> None:
    found = rows(answers(live))
    of_live = {"live_ndcg10", "live_interval", "live", "live_minus_offline"} if live else set()
    assert all(set(one) == KEYS | of_live for one in found)
    assert len(found) == 4 * 3 * 2
    hybrid = next(one for one in found if one["mode"] == "hybrid")
    assert hybrid["offline_ndcg10"] == 1.0
    assert hybrid["grouped"]["offline_ndcg10"] == 0.75
    assert hybrid["grouped"]["hits_alone_ndcg10"] == 0.25
    assert hybrid["grouped"]["documents_listed"] == 3
    assert hybrid["grouped"]["minus_ungrouped"]["mean"] == -0.25
    assert set(hybrid["grouped"]["minus_ungrouped"]) == {"mean", "low", "high"}
    assert hybrid.get("live_minus_offline", 0.0) == 0.0


def test_both_modes_are_compared_with_vectors_alone_on_every_split() -> None:
    compared: Any = comparisons(answers(live=True))
    assert set(compared) == {"tuned_minus_base", "minus_first_contract", "minus_dense"}
    means = {(one["mode"], one["split"], one["encoder"], one["contract"]): one["mean"] for one in compared["minus_dense"]}
    assert len(means) == 2 * 2 * 4
    assert {mean for (mode, *_), mean in means.items() if mode == "hybrid"} == {1.0}
    assert {mean for (mode, *_), mean in means.items() if mode == "words"} == {0.0}
    assert {one["measured"] for one in compared["minus_dense"]} == {"live"}
    assert [one["contract"] for one in compared["tuned_minus_base"]] == ["none", "none", "tokens", "tokens"]
    assert [one["contract"] for one in compared["minus_first_contract"]] == ["tokens"] * 4


@pytest.mark.parametrize("seed", range(10))
def test_a_documents_best_chunk_is_the_one_with_its_score(seed: int) -> None:
    numbers = np.random.default_rng(seed)
    counts = [int(count) for count in numbers.integers(1, 4, 12)]
    ids = [f'["s","{n}"]' for n in range(12)]
    texts = [" ".join(numbers.choice(["apple", "pear", "fig", "plum", "date"], 3)) for _ in range(sum(counts))]
    vectors = numbers.standard_normal((sum(counts), 8)).astype(np.float32)
    statistics = Statistics.count(text.split() for text in texts)
    words = Words(SparseContract(ANALYZER_VERSIONS[-1], "none", WEIGHT_VERSIONS[-1], 90, 40, "x"), statistics)
    chunks = Chunks(ids, counts, vectors, WordIndex(words, texts))
    asked = Queries(["a", "b"], numbers.standard_normal((2, 8)).astype(np.float32), ["apple fig", "nothing"])
    dense = rank_by_vectors(asked.ids, asked.vectors, ids, counts, vectors)
    shared = rank_by_words(asked, chunks)
    owners = [document for document, count in zip(ids, counts, strict=True) for _ in range(count)]
    found = best_chunks(asked, chunks, {"dense": dense, "words": shared})
    for place, query in enumerate(asked.ids):
        for side, run, scores in (
            ("dense", dense, vectors @ asked.vectors[place]),
            ("words", shared, chunks.words.scores(chunks.words.query(asked.texts[place]))),
        ):
            rows_of = found[side][query]
            assert list(rows_of) == trec_order(run[query])
            assert [owners[number] for number in rows_of.values()] == list(rows_of)
            assert [scores[number] for number in rows_of.values()] == pytest.approx(
                [run[query][one] for one in rows_of], abs=1e-6
            )
    assert found["words"]["b"] == {}


@pytest.mark.parametrize(
    ("made", "withheld", "said"),
    [
        (["test"], ["test"], "the set's own"),
        ([], [], "the set's own"),
        (["dev"], [], "a tenth of the training questions"),
        (["dev"], ["test"], "a tenth of the training questions"),
        (["test", "dev"], ["test", "dev"], "without them"),
    ],
)
def test_the_report_says_which_questions_chose_the_settings(
    tmp_path: Path, made: list[str], withheld: list[str], said: str
) -> None:
    (tmp_path / "data" / "pairs").mkdir(parents=True)
    (tmp_path / "data" / "pairs" / "report.json").write_text(json.dumps({"splits_made_here": made}))
    pq.write_table(pa.table({"split": pa.array(withheld, pa.string())}), tmp_path / "data" / "pairs" / "withheld.parquet")
    assert said in origin_of_development(tmp_path)
    assert has_withheld(tmp_path) == (tmp_path / "data" / "pairs" / "withheld.parquet" if "dev" in withheld else None)


def test_a_beir_folder_is_taken_as_it_is_and_a_set_of_answers_is_converted_beside_the_workspaces(tmp_path: Path) -> None:
    data = tmp_path / "little"
    data.mkdir()
    assert as_beir(data, tmp_path / "work") == (data, None)
    (data / "passages.jsonl").write_text('{"id": "p", "title": "", "text": "Words."}\n')
    (data / "questions_dev.jsonl").write_text('{"id": "q", "question": "Which?", "passage_ids": ["p"]}\n')
    folder, report = as_beir(data, tmp_path / "work")
    assert folder == tmp_path / "work" / "beir" / "little"
    assert (folder / "corpus.jsonl").is_file()
    assert cast(Any, report)["rule"] == RULE


def test_the_time_of_a_part_that_comes_again_is_added_and_a_failure_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 10.0, 14.0, 20.0, 21.5, 30.0])
    monkeypatch.setattr("bench.quality.time.perf_counter", lambda: next(clock))
    parts = Parts()
    for part in ("corpus", "choice"):
        with parts.timed(part):
            pass
    with pytest.raises(ContractError), parts.timed("corpus"):
        raise ContractError("x")
    assert parts.to_json() == {"seconds": 30.0, "seconds_by_part": {"corpus": 3.5, "choice": 4.0}}


@pytest.mark.parametrize("encoders", [("base",), ("base", "tuned")])
def test_a_release_is_opened_once_its_settings_are_chosen_first_and_its_test_splits_are_ranked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoders: tuple[str, ...]
) -> None:
    made = answers(live=False)
    done: list[tuple[str, str]] = []

    class Index:
        def __init__(self, release: Path, workspace: Workspace) -> None:
            self.name = release.name
            done.append(("open", self.name))

        def choose(self, development: Questions) -> tuple[Fusion, str]:
            assert list(development.texts) == ["d"]
            done.append(("choose", self.name))
            return Fusion("ranks"), "it is best"

        def rank(self, questions: Any, fusion: Fusion) -> Ranked:
            assert (list(questions), fusion) == (["test", "test_unseen"], Fusion("ranks"))
            done.append(("rank", self.name))
            return made.offline["base", "none"]

    manifest = SimpleNamespace(**vars(made.manifests["base", "none"]), fusion=Fusion("ranks"))
    workspace = _Recorded(tmp_path)
    for name, value in {
        "data_workspace": lambda *_: workspace,
        "train_once": lambda _: "now",
        "read_development": lambda _: Questions({"d": "dev"}, {}),
        "test_splits": lambda _: list(made.questions),
        "read_questions": lambda _, split: made.questions[split],
        "_release": lambda _, encoder, contract: Path(f"{encoder}-{contract}"),
        "OfflineIndex": Index,
        "write_own_fusion": lambda release, fusion: done.append(("write", release.name)),
        "Manifest": SimpleNamespace(load=lambda _: manifest),
        "origin_of_development": lambda _: "made up",
    }.items():
        monkeypatch.setattr(f"bench.quality.{name}", value)
    report: Any = measure_quality(QualityRun(tmp_path / "data", encoders, ("none", "tokens"), live=False), tmp_path)
    names = [f"{encoder}-{contract}" for encoder in encoders for contract in ("none", "tokens")]
    assert done == [(act, name) for name in names for act in ("open", "choose", "write", "rank")]
    # Others read these keys.
    assert {
        "data", "metric", "encoders", "best", "fusions", "tuned_minus_base", "minus_first_contract", "minus_dense", "seconds",
    } <= set(report)  # fmt: skip
    assert set(report["best"]) == {"encoder", "contract", "mode", "split", "offline_ndcg10"}
    assert (report["best"]["mode"], report["best"]["split"]) == ("hybrid", "test")
    assert report["trained"] == ("now" if "tuned" in encoders else None)
    assert report["settings"] == {"chosen_on": "made up", "questions": 1}
    parts = ["data", *(["train"] if "tuned" in encoders else []), "releases", "corpus", "choice", "offline"]
    assert list(report["seconds_by_part"]) == parts
    json.dumps(report)


@pytest.mark.parametrize("withheld", [[], ["dev"]])
def test_questions_that_were_taken_from_documents_choose_over_the_documents_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, withheld: list[str]
) -> None:
    path = tmp_path / "data" / "pairs" / "withheld.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"split": pa.array(withheld, pa.string())}), path)
    (tmp_path / "params.yaml").write_bytes((CHECKOUT / "params.yaml").read_bytes())
    words: Any = None
    whole = Chunks(["d"], [1], np.ones((1, 2), np.float32), words)
    without = Chunks(["d"], [1], np.zeros((1, 2), np.float32), words)
    read: list[Path] = []
    index = object.__new__(OfflineIndex)
    index._workspace, index._chunks = cast(Any, _Recorded(tmp_path)), whole
    monkeypatch.setattr(index, "_queries", lambda *_: Queries(["q"], np.ones((1, 2), np.float32), ["text"]))
    monkeypatch.setattr(index, "_read", lambda place: (read.append(place), without))
    chosen: list[Chunks] = []

    def choose_fusion(_: Queries, chunks: Chunks, *__: object) -> Any:
        chosen.append(chunks)
        return SimpleNamespace(fusion=Fusion(), check=SimpleNamespace(detail="said"))

    monkeypatch.setattr("train.encoder.fusion_choice.choose_fusion", choose_fusion)
    assert index.choose(Questions({"q": "text"}, {"q": {"d": 1}})) == (Fusion(), "said")
    assert chosen == [without if withheld else whole]
    assert read == ([path] if withheld else [])
