"""The evaluation stage: tuned encoder, base model, champion and BM25 on the same held-out queries, and the gate's verdict."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from train.encoder.cache import cached_vectors
from train.encoder.contenders import BASE, BASE_HERE, CHAMPION, TUNED, Contender, contenders
from train.encoder.fusion_choice import choose_fusion
from train.encoder.gate import (
    GATE_METRIC,
    Reference,
    difference,
    judge_base,
    judge_champion,
    judge_exact_names,
    judge_questions,
    judge_slices,
    state_training,
)
from train.encoder.heldout import Corpus, HeldOut, Split, read_corpus, read_held_out
from train.encoder.heldout_files import HELD_OUT_FOLDER, write_held_out
from train.encoder.leaks import LeakFiles, judge_leaks, read_leaks
from train.encoder.params import EvaluateParams, SimilarityParams
from train.encoder.slices import query_slices
from train.looks import log_look
from twinline.contract.artefacts import ENCODER
from twinline.contract.canonical import JSON
from twinline.contract.encoder.encoder_record import read_deviations
from twinline.contract.release.checks import Check
from twinline.contract.release.verdict import Verdict, outcome
from twinline.contract.sparse.fusion import Fusion, write_fusion
from twinline.contract.sparse.golden import read_words
from twinline.contract.sparse.weights import Words
from twinline.scoring.exact_names import plant
from twinline.scoring.grouping import scored_groups
from twinline.scoring.hybrid import (
    Chunks,
    Queries,
    WordIndex,
    best_chunks_by_fusions,
    rank_by_fusions,
    rank_by_words,
    run_of,
)
from twinline.scoring.ranking import rank_by_bm25, rank_by_vectors
from twinline.scoring.retrieval import METRICS, PerQuery, Run, means, score_queries

EVALUATION_FILE = "evaluation.json"
VERDICT_FILE = "verdict.json"
BM25 = "bm25"
WORDS = "words"
HYBRID = "hybrid"


@dataclass(frozen=True)
class EvaluatePaths:
    """The stage's inputs and outputs; `home` holds the cache of vectors, the log of looks at the test split, and releases.

    `words` has the corpus statistics and the sparse contract. `exported` and `parity` are the encoder's exported formats and
    their proof; None: it runs by torch.
    """

    documents: Path
    pairs: Path
    snapshot: Path
    encoder: Path
    evaluation: Path
    home: Path
    words: Path
    exported: Path | None = None
    parity: Path = Path(ENCODER.parity)


@dataclass(frozen=True)
class Reading:
    """Queries by split, and documents, under one contract."""

    held_out: Mapping[Split, HeldOut]
    corpus: Corpus


def evaluate(base: Path, params: EvaluateParams, similarity: SimilarityParams, paths: EvaluatePaths) -> Verdict:
    """Measure and judge on the development split; look at the test split only when params.yaml asks for it.

    All contenders answer the same queries over the same documents, each under its own contract.
    """
    started = time.perf_counter()
    splits: list[Split] = ["dev", "test"] if params.look_at_test else ["dev"]
    compared = list(contenders(paths.encoder, base, params.champion, paths.home, paths.exported, paths.parity))
    for contender in compared:
        print(f"evaluate: {contender.name.replace('_', ' ')} by {contender.by}", flush=True)
    readings: dict[str, Reading] = {}
    for contender in compared:
        fingerprint = contender.preprocessor.contract.fingerprint
        if fingerprint not in readings:
            readings[fingerprint] = _read(contender, splits, params, paths)
    tuned = compared[0]
    own = readings[tuned.preprocessor.contract.fingerprint]
    deviations = read_deviations(paths.encoder, tuned.preprocessor.contract.vector.max_tokens)
    report: dict[str, JSON] = {
        "corpus": _describe(own.corpus, params),
        "spaces": {contender.name: contender.encoder.space for contender in compared},
        "champion": params.champion or None,
        # The manifest carries it with the metrics.
        "deviations": [*deviations],
    }
    words = read_words(paths.words)
    chunks = _chunks(tuned, own.corpus, words, paths.home)
    queries: dict[Split, Queries] = {}
    per_query: dict[Split, dict[str, PerQuery]] = {}
    for split, part in own.held_out.items():
        runs: dict[str, Run] = {BM25: rank_by_bm25(part.query_ids, part.queries, own.corpus.document_ids, own.corpus.full_texts)}
        for contender in compared:
            runs[contender.name] = _dense_run(contender, readings, split, paths.home)
        queries[split] = _queries(tuned, part.query_ids, part.queries, split, paths.home)
        runs[WORDS] = rank_by_words(queries[split], chunks)
        per_query[split] = {name: score_queries(run, part.judgements) for name, run in runs.items()}
    dense = per_query["dev"][TUNED][GATE_METRIC]
    choice = choose_fusion(queries["dev"], chunks, dense, own.held_out["dev"].judgements, params)
    for split, part in own.held_out.items():
        asked = {HYBRID: choice.fusion}
        found = choice.found if split == "dev" else best_chunks_by_fusions(queries[split], chunks, asked)[HYBRID]
        per_query[split][HYBRID] = score_queries(run_of(found), part.judgements)
        grouped = scored_groups(found, own.corpus.said, part.judgements)
        report[split] = {**_compare(part, per_query[split], params), f"{HYBRID}_grouped": grouped.to_json()}
    exact_names = _exact_names(tuned, own.corpus, chunks, words, choice.fusion, params, paths.home)
    report["exact_names"] = dict(exact_names.numbers)
    if "test" in own.held_out:
        report["looks_at_test"] = log_look(paths.home, _identity(own.held_out["test"]), tuned.encoder.space)
    dev = {name: values[GATE_METRIC] for name, values in per_query["dev"].items()}
    slices = query_slices(own.held_out["dev"], own.corpus, dev[BM25])
    verdict = Verdict(
        [
            *_judge(dev, slices, params, similarity, paths),
            judge_questions(len(own.held_out["dev"].query_ids), own.held_out["dev"].queries_in_split, params),
            state_training(deviations),
            choice.check,
            exact_names,
        ]
    )
    write_fusion(paths.evaluation / Path(ENCODER.fusion).name, choice.fusion)
    folder = paths.evaluation / HELD_OUT_FOLDER
    write_held_out(folder, tuned.preprocessor.contract.fingerprint, own.held_out["dev"], own.corpus, slices)
    _write(paths.evaluation, report, verdict)
    _say(verdict, time.perf_counter() - started)
    return verdict


def _read(contender: Contender, splits: Sequence[Split], params: EvaluateParams, paths: EvaluatePaths) -> Reading:
    preprocessor = contender.preprocessor
    held_out = {
        split: read_held_out(paths.pairs, split, preprocessor, max_queries=params.max_queries, seed=params.seed)
        for split in splits
    }
    needed = [document for part in held_out.values() for grades in part.judgements.values() for document in grades]
    corpus = read_corpus(
        paths.documents,
        needed,
        preprocessor,
        max_documents=params.max_documents,
        seed=params.seed,
        withheld=paths.pairs / "withheld.parquet",
    )
    return Reading(held_out, corpus)


def _dense_run(contender: Contender, readings: Mapping[str, Reading], split: Split, home: Path) -> Run:
    reading = readings[contender.preprocessor.contract.fingerprint]
    part, corpus, cache = reading.held_out[split], reading.corpus, home / "cache" / "vectors"
    name = contender.name.replace("_", " ")
    documents = cached_vectors(contender.encoder, corpus.chunk_texts, "document", cache, progress=f"{name}: documents")
    queries = cached_vectors(contender.encoder, part.queries, "query", cache, progress=f"{name}: {split} queries")
    return rank_by_vectors(part.query_ids, queries, corpus.document_ids, corpus.chunk_counts, documents)


def _chunks(tuned: Contender, corpus: Corpus, words: Words, home: Path) -> Chunks:
    """Return the corpus with the tuned encoder's vectors, and words."""
    cache = home / "cache" / "vectors"
    vectors = cached_vectors(tuned.encoder, corpus.chunk_texts, "document", cache, progress="hybrid: documents")
    return Chunks(corpus.document_ids, corpus.chunk_counts, vectors, WordIndex(words, corpus.chunk_texts))


def _queries(tuned: Contender, ids: Sequence[str], texts: Sequence[str], of: str, home: Path) -> Queries:
    """Return clean queries with the tuned encoder's vectors."""
    vectors = cached_vectors(tuned.encoder, texts, "query", home / "cache" / "vectors", progress=f"hybrid: {of} queries")
    return Queries(ids, vectors, texts)


def _exact_names(
    tuned: Contender, corpus: Corpus, chunks: Chunks, words: Words, fusion: Fusion, params: EvaluateParams, home: Path
) -> Check:
    """Ask for names and codes of the corpus that one document alone has, by the chosen fusion, by vectors and by words."""
    language, least, most = words.contract.language, params.exact_names_min, params.exact_names
    planted = plant(corpus.document_ids, corpus.chunk_counts, corpus.chunk_texts, language, least=least, most=most)
    runs: dict[str, Run] = {}
    if planted.queries:
        texts = [tuned.preprocessor.query_text(query.text) for query in planted.queries]
        queries = _queries(tuned, [query.id for query in planted.queries], texts, "planted", home)
        alone = Fusion("dense")
        hybrid = Fusion() if fusion.rule == alone.rule else fusion
        runs = dict(rank_by_fusions(queries, chunks, {HYBRID: hybrid, alone.rule: alone}, limit=1))
        runs[WORDS] = rank_by_words(queries, chunks, limit=1)
    return judge_exact_names(planted, runs, fusion, params)


def _compare(part: HeldOut, per_query: Mapping[str, PerQuery], params: EvaluateParams) -> dict[str, JSON]:
    numbers: dict[str, JSON] = {"queries": len(part.query_ids), "queries_in_split": part.queries_in_split}
    for name, values in per_query.items():
        numbers[name] = dict(means(values))
    for other in (name for name in per_query if name != TUNED):
        numbers[f"tuned_minus_{other}"] = {
            metric: asdict(difference(per_query[TUNED][metric], per_query[other][metric], params)) for metric in METRICS
        }
    return numbers


def _judge(
    scores: Mapping[str, Mapping[str, float]],
    slices: Mapping[str, Sequence[str]],
    params: EvaluateParams,
    similarity: SimilarityParams,
    paths: EvaluatePaths,
) -> list[Check]:
    base = Reference("the base model", scores[BASE])
    bases = [base]
    if BASE_HERE in scores:
        bases.append(Reference("the base model under this encoder's contract", scores[BASE_HERE]))
    champion = Reference(f"the champion {params.champion}", scores[CHAMPION]) if CHAMPION in scores else None
    files = LeakFiles(
        paths.pairs / "train.parquet",
        paths.pairs / "queries.parquet",
        paths.pairs / "judgements.parquet",
        paths.documents,
        paths.snapshot / "queries.parquet",
    )
    return [
        judge_base(scores[TUNED], bases, params),
        judge_champion(scores[TUNED], champion, params),
        judge_slices(scores[TUNED], [base, *([champion] if champion else [])], slices, params),
        judge_leaks(read_leaks(files, similarity)),
    ]


def _say(verdict: Verdict, seconds: float) -> None:
    found = outcome(verdict.checks)
    print(f"evaluate: {seconds:.0f} s, {found if found == 'accepted' else found.upper()}", flush=True)
    for check in verdict.checks:
        print(f"  {'ok     ' if check.passed else 'REFUSED'} {check.name}: {check.detail}", flush=True)


def _describe(corpus: Corpus, params: EvaluateParams) -> dict[str, JSON]:
    searched, total = len(corpus.document_ids), corpus.documents_in_total
    sampled = searched + sum(corpus.set_aside.values()) < total
    return {
        "documents": searched,
        "documents_in_total": total,
        "chunks": len(corpus.chunk_texts),
        "statement": f"sampled {searched} of {total} documents, seed {params.seed}" if sampled else f"all {total} documents",
        "set_aside": dict(corpus.set_aside),
    }


def _identity(part: HeldOut) -> str:
    described = json.dumps([part.query_ids, part.queries, part.judgements], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


def _write(folder: Path, report: dict[str, JSON], verdict: Verdict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EVALUATION_FILE).write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    (folder / VERDICT_FILE).write_text(json.dumps(verdict.to_json(), indent=2, ensure_ascii=False) + "\n", "utf-8")
