"""The evaluation stage: base model, BM25 and the tuned encoder on the same held-out queries, and the gate's verdict."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from contract.canonical import JSON
from contract.preprocess import Preprocessor
from scoring.metrics import METRICS, Interval, PerQuery, Run, means, paired_bootstrap, score_queries
from scoring.ranking import rank_by_bm25, rank_by_vectors
from train.cache import cached_vectors
from train.encoder import TorchEncoder
from train.gate import GATE_METRIC, Verdict, judge
from train.heldout import Corpus, HeldOut, Split, read_corpus, read_held_out
from train.looks import log_look
from train.params import EvaluateParams

EVALUATION_FILE = "evaluation.json"
VERDICT_FILE = "verdict.json"


@dataclass(frozen=True)
class EvaluatePaths:
    """Where the stage reads and writes; vectors are cached and looks at test are logged under `home`."""

    documents: Path
    pairs: Path
    encoder: Path
    evaluation: Path
    home: Path


def evaluate(base: Path, params: EvaluateParams, paths: EvaluatePaths) -> Verdict:
    """Measure on the development split, judge by it, and look at the test split only when params.yaml says so.

    The base model is read under the tuned encoder's contract: the two differ in weights alone.
    """
    started = time.perf_counter()
    preprocessor = Preprocessor.load(paths.encoder)
    splits: list[Split] = ["dev", "test"] if params.look_at_test else ["dev"]
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
    tuned = TorchEncoder.load(paths.encoder)
    untuned = TorchEncoder.load(base, preprocessor)
    report: dict[str, JSON] = {"corpus": _describe(corpus, params), "spaces": {"tuned": tuned.space, "base": untuned.space}}
    per_query: dict[Split, dict[str, PerQuery]] = {}
    for split, part in held_out.items():
        runs = {
            "bm25": rank_by_bm25(part.query_ids, part.queries, corpus.document_ids, corpus.full_texts),
            "base": _dense_run(untuned, part, corpus, paths.home, "base model"),
            "tuned": _dense_run(tuned, part, corpus, paths.home, "tuned encoder"),
        }
        per_query[split] = {name: score_queries(run, part.judgements) for name, run in runs.items()}
        report[split] = _compare(part, per_query[split], params)
    if "test" in held_out:
        report["looks_at_test"] = log_look(paths.home, _identity(held_out["test"]), tuned.space)
    verdict = _judge(per_query["dev"], params, len(held_out["dev"].query_ids))
    _write(paths.evaluation, report, verdict)
    seconds = time.perf_counter() - started
    print(f"evaluate: {seconds:.0f} s, {'accepted' if verdict.accepted else 'REFUSED'}: {verdict.reasons[0]}", flush=True)
    return verdict


def _dense_run(encoder: TorchEncoder, part: HeldOut, corpus: Corpus, home: Path, name: str) -> Run:
    cache = home / "cache" / "vectors"
    documents = cached_vectors(encoder, corpus.chunk_texts, "document", cache, progress=f"{name}: documents")
    queries = cached_vectors(encoder, part.queries, "query", cache, progress=f"{name}: {part.split} queries")
    return rank_by_vectors(part.query_ids, queries, corpus.document_ids, corpus.chunk_counts, documents)


def _compare(part: HeldOut, per_query: dict[str, PerQuery], params: EvaluateParams) -> dict[str, JSON]:
    numbers: dict[str, JSON] = {"queries": len(part.query_ids), "queries_in_split": part.queries_in_split}
    for name, values in per_query.items():
        numbers[name] = dict(means(values))
    for other in ("base", "bm25"):
        numbers[f"tuned_minus_{other}"] = {
            metric: asdict(_difference(per_query["tuned"][metric], per_query[other][metric], params)) for metric in METRICS
        }
    return numbers


def _difference(tuned: dict[str, float], other: dict[str, float], params: EvaluateParams) -> Interval:
    return paired_bootstrap(tuned, other, samples=params.bootstrap_samples, confidence=params.confidence, seed=params.seed)


def _judge(per_query: dict[str, PerQuery], params: EvaluateParams, queries: int) -> Verdict:
    difference = _difference(per_query["tuned"][GATE_METRIC], per_query["base"][GATE_METRIC], params)
    return judge(
        means(per_query["tuned"]),
        means(per_query["base"]),
        difference,
        margin=params.margin,
        confidence=params.confidence,
        queries=queries,
    )


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
    (folder / VERDICT_FILE).write_text(json.dumps(asdict(verdict), indent=2) + "\n", "utf-8")
