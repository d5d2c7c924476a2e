"""Retrieval quality of a collection that is not active yet, on its encoder's held-out queries.

The queries take the usual path: the admin API, the live encoder in Triton, the collection. The active release gets them too, and
the two are compared query by query. Where the log holds exactly the corpus of the evaluation, the figure must also equal the
evaluation's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final, Protocol

import numpy as np

from twinline.contract.artefacts import JUDGEMENTS, PAIRS, QUERIES, SNAPSHOT, WITHHELD
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import encode_key
from twinline.contract.release.checks import MARGIN, Check
from twinline.release.verify.log_sample import DocumentKey, LogState, content_digest
from twinline.scoring.intervals import Interval, paired_bootstrap
from twinline.scoring.ranking import answer_scores
from twinline.scoring.retrieval import means, score_queries

METRIC: Final = "ndcg_at_10"
# The tolerance between live and offline figure on the same corpus: precision and the approximate index differ.
OFFLINE_TOLERANCE: Final = 0.01
# With fewer queries the interval is too wide to use; more cost time and change little.
FEWEST_QUERIES: Final = 20
MOST_QUERIES: Final = 200

_SPLIT: Final = "dev"
_HITS: Final = 10
_SEED: Final = 29
_NAME: Final = "live quality"


class Files(Protocol):
    """The files of the commit that made a release."""

    @property
    def name(self) -> str:
        """Return its name in messages."""

    def read_bytes(self, path: str) -> bytes:
        """Return a file's bytes."""

    def names(self, folder: str) -> list[str]:
        """Return the names of the files and folders in a folder."""


class Asks(Protocol):
    """Searches one collection, active or not."""

    def search(self, name: str, query: str, limit: int = 10, exact: bool = False) -> Mapping[str, Any]:
        """Return the search API's result."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The development queries of a version, by id: raw text, and grade by document."""

    texts: dict[str, str]
    grades: dict[str, dict[DocumentKey, int]]

    def in_log(self, state: LogState) -> "HeldOut":
        """Return the queries whose relevant documents are all still in the log: at most `MOST_QUERIES`, by a fixed seed."""
        whole = [query for query, grades in sorted(self.grades.items()) if all(key in state.contents for key in relevant(grades))]
        if len(whole) > MOST_QUERIES:
            rows = np.random.default_rng(_SEED).choice(len(whole), size=MOST_QUERIES, replace=False)
            whole = [whole[row] for row in sorted(rows)]
        return HeldOut({query: self.texts[query] for query in whole}, {query: self.grades[query] for query in whole})


@dataclass(frozen=True, slots=True)
class Sides:
    """The two collections to compare. `active` is empty where there is none, or where it is the candidate itself."""

    candidate: str
    active: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)


def relevant(grades: Mapping[DocumentKey, int]) -> list[DocumentKey]:
    """Return the documents that answer a query."""
    return [key for key, grade in grades.items() if grade > 0]


def read_held_out(files: Files) -> HeldOut:
    """Return the judged development queries of a commit."""
    grades: dict[str, dict[DocumentKey, int]] = {}
    for row in _rows(files, JUDGEMENTS):
        if row["split"] == _SPLIT:
            grades.setdefault(row["query_id"], {})[row["source"], row["key"]] = int(row["grade"])
    judged = {query: found for query, found in grades.items() if relevant(found)}
    texts = {row["query_id"]: row["text"] for row in _rows(files, QUERIES) if row["query_id"] in judged}
    return HeldOut(texts, {query: judged[query] for query in texts})


def not_measured(why: str) -> Check:
    """Return a passing check that says why nothing was measured."""
    return Check(_NAME, True, f"not measured: {why}", {"measured": False})


def quality_checks(asks: Asks, sides: Sides, files: Files, state: LogState, margin: float = MARGIN) -> list[Check]:
    """Measure the candidate, compare it with the active release, and with the figure of its own evaluation.

    Args:
        sides: `metrics` are those of the candidate's manifest.
        files: the files of the commit that made the candidate.
        margin: how much worse than the active release it may be, at the lower end of the interval.
    """
    folder, _, name = PAIRS.rpartition("/")
    if name not in files.names(folder):
        # The parent folder tells: a commit that names the pairs without their files is an error.
        return [not_measured(f"commit {files.name} was not made by this pipeline, and has no held-out queries")]
    of_version = read_held_out(files)
    held_out = of_version.in_log(state)
    if len(held_out.texts) < FEWEST_QUERIES:
        said = f"{len(held_out.texts)} of {len(of_version.texts)} held-out queries have their documents in the log"
        return [not_measured(f"{said}, at least {FEWEST_QUERIES} are needed")]
    candidate = _score(asks, sides.candidate, held_out)
    mean = means({METRIC: candidate})[METRIC]
    checks = [_against_active(asks, sides, held_out, candidate, mean, margin)]
    same_corpus, why = is_same_corpus(sides.metrics, files, state, len(held_out.texts))
    if same_corpus:
        checks.append(_against_offline(sides.metrics, mean))
    else:
        checks.append(Check("offline figure", True, f"not compared: {why}", {"measured": False}))
    return checks


def is_same_corpus(metrics: Mapping[str, Any], files: Files, state: LogState, queries: int) -> tuple[bool, str]:
    """Say whether the evaluation's corpus is the log's current one, and why not."""
    corpus, split = metrics.get("corpus"), metrics.get(_SPLIT)
    if not isinstance(corpus, Mapping) or not isinstance(split, Mapping):
        return False, "the manifest has no evaluation"
    searched = corpus["documents"] + sum(corpus["set_aside"].values())
    if searched != corpus["documents_in_total"]:
        return False, f"the evaluation searched {searched} of {corpus['documents_in_total']} documents"
    if split["queries"] != queries:
        return False, f"the evaluation asked {split['queries']} queries, {queries} are asked here"
    if any(row["split"] == _SPLIT for row in _rows(files, WITHHELD)):
        return False, "the evaluation searched documents without the sentence that their query was taken from"
    if state.contents != _snapshot_contents(files):
        return False, "the log holds other documents than the snapshot of the evaluation"
    return True, ""


def _against_active(
    asks: Asks, sides: Sides, held_out: HeldOut, candidate: dict[str, float], mean: float, margin: float
) -> Check:
    numbers: dict[str, JSON] = {"measured": True, "metric": METRIC, "queries": len(candidate), "candidate": mean}
    measured = f"{METRIC} {mean:.4f} on {len(candidate)} held-out queries"
    if not sides.active:
        return Check(_NAME, True, f"{measured}; no other release is active to compare it with", numbers)
    active = _score(asks, sides.active, held_out)
    difference = paired_bootstrap(candidate, active)
    passed = difference.is_within(margin)
    numbers |= {"active": means({METRIC: active})[METRIC], "difference": _plain(difference), "margin": margin}
    said = (
        f"{measured}, {numbers['active']:.4f} of the active release: difference {difference.mean:+.4f}, 95% interval "
        f"{difference.low:+.4f} to {difference.high:+.4f}; {'not' if passed else 'may be'} worse by more than {margin}"
    )
    return Check(_NAME, passed, said, numbers)


def _against_offline(metrics: Mapping[str, Any], mean: float) -> Check:
    # Search answers by the release's fusion; an evaluation from before there were words has vectors alone.
    found = metrics[_SPLIT]
    offline = float(found.get("hybrid", found["tuned"])[METRIC])
    distance = abs(mean - offline)
    numbers: dict[str, JSON] = {"measured": True, "live": mean, "offline": offline, "tolerance": OFFLINE_TOLERANCE}
    said = f"{METRIC} {mean:.4f} live, {offline:.4f} in the evaluation of the same corpus, at most {OFFLINE_TOLERANCE} apart"
    # `not >` would let a NaN through
    return Check("offline figure", distance <= OFFLINE_TOLERANCE, said, numbers)


def _score(asks: Asks, collection: str, held_out: HeldOut) -> dict[str, float]:
    run = {query: _answer(asks, collection, text) for query, text in held_out.texts.items()}
    judgements = {query: {_id(key): grade for key, grade in grades.items()} for query, grades in held_out.grades.items()}
    return score_queries(run, judgements)[METRIC]


def _answer(asks: Asks, collection: str, text: str) -> dict[str, float]:
    answer = asks.search(collection, text, limit=_HITS)
    found = [_id((hit["source"], hit["key"])) for hit in answer["hits"]]
    return dict(zip(found, answer_scores(answer), strict=True))


def _id(key: DocumentKey) -> str:
    return encode_key(*key).decode()


def _plain(interval: Interval) -> dict[str, JSON]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def _snapshot_contents(files: Files) -> dict[DocumentKey, bytes]:
    names = [name for name in files.names(SNAPSHOT) if name.startswith("documents-")]
    rows = (row for name in names for row in _rows(files, f"{SNAPSHOT}/{name}", ["source", "key", "title", "text"]))
    return {(row["source"], row["key"]): content_digest(row["title"], row["text"]) for row in rows}


def _rows(files: Files, path: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(BytesIO(files.read_bytes(path)), columns=columns).to_pylist()
    return rows
