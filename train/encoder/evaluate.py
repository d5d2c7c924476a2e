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
from train.encoder.fusion_choice import Choice, choose_fusion
from train.encoder.gate import (
    GATE_METRIC,
    Reference,
    difference,
    judge_base,
    judge_champion,
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
from twinline.contract.sparse.fusion import write_fusion
from twinline.contract.sparse.golden import read_words
from twinline.scoring.grouping import scored_groups
from twinline.scoring.hybrid import Chunks, Queries, WordIndex, best_chunks_by_fusions, places, rank_by_words
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
    per_query: dict[Split, dict[str, PerQuery]] = {}
    index = WordIndex(read_words(paths.words), own.corpus.chunk_texts)
    choice = _choose(tuned, own, index, readings, params, paths.home)
    for split, part in own.held_out.items():
        runs: dict[str, Run] = {BM25: rank_by_bm25(part.query_ids, part.queries, own.corpus.document_ids, own.corpus.full_texts)}
        for contender in compared:
            runs[contender.name] = _dense_run(contender, readings, split, paths.home)
        queries, chunks = _sides(tuned, own, index, split, paths.home)
        runs[WORDS] = rank_by_words(queries, chunks)
        per_query[split] = {name: score_queries(run, part.judgements) for name, run in runs.items()}
        found = best_chunks_by_fusions(queries, chunks, {HYBRID: choice.fusion})[HYBRID]
        hybrid = {query: places(documents, len(documents)) for query, documents in found.items()}
        per_query[split][HYBRID] = score_queries(hybrid, part.judgements)
        grouped = scored_groups(found, own.corpus.said, part.judgements)
        report[split] = {**_compare(part, per_query[split], params), f"{HYBRID}_grouped": grouped.to_json()}
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


def _choose(
    tuned: Contender, own: Reading, index: WordIndex, readings: Mapping[str, Reading], params: EvaluateParams, home: Path
) -> Choice:
    dev = own.held_out["dev"]
    dense = score_queries(_dense_run(tuned, readings, "dev", home), dev.judgements)[GATE_METRIC]
    return choose_fusion(*_sides(tuned, own, index, "dev", home), dense, dev.judgements, params)


def _sides(tuned: Contender, own: Reading, index: WordIndex, split: Split, home: Path) -> tuple[Queries, Chunks]:
    """Return queries and corpus with vectors and words, under the tuned encoder."""
    part, corpus, cache = own.held_out[split], own.corpus, home / "cache" / "vectors"
    documents = cached_vectors(tuned.encoder, corpus.chunk_texts, "document", cache, progress="hybrid: documents")
    vectors = cached_vectors(tuned.encoder, part.queries, "query", cache, progress=f"hybrid: {split} queries")
    queries = Queries(part.query_ids, vectors, part.queries)
    return queries, Chunks(corpus.document_ids, corpus.chunk_counts, documents, index)


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
