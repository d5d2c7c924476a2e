"""The groups of held-out queries that must not pay for a better mean: by length, answer, source, and score of BM25."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from train.encoder.heldout import Corpus, HeldOut

# A ranking that leaves every answer out of the first ten has an nDCG@10 of 0.
_MISSED = 0.0


def query_slices(part: HeldOut, corpus: Corpus, bm25: Mapping[str, float]) -> dict[str, list[str]]:
    """Return query ids by slice; every query is in several slices.

    No slice depends on an encoder, so no contender can choose its own slices.

    Args:
        bm25: query id -> nDCG@10 of BM25.
    """
    words = dict(zip(part.query_ids, (len(text.split()) for text in part.queries), strict=True))
    lengths = {name: len(text.split()) for name, text in zip(corpus.document_ids, corpus.full_texts, strict=True)}
    answers = {query: _best(part.judgements[query]) for query in part.query_ids}
    answer_words = {query: lengths.get(answer, 0) for query, answer in answers.items()}
    slices = {
        **_halves(words, "queries of {} words"),
        **_halves(answer_words, "queries answered by documents of {} words"),
        "queries that BM25 answers": [query for query in part.query_ids if bm25[query] > _MISSED],
        "queries that BM25 misses": [query for query in part.query_ids if bm25[query] <= _MISSED],
        "queries with letters beyond ASCII": [
            query for query, text in zip(part.query_ids, part.queries, strict=True) if not text.isascii()
        ],
    }
    sources: defaultdict[str, list[str]] = defaultdict(list)
    for query, answer in answers.items():
        sources[json.loads(answer)[0]].append(query)
    if len(sources) > 1:
        slices |= {f"queries answered by source {source}": sources[source] for source in sorted(sources)}
    return {name: queries for name, queries in slices.items() if queries}


def _halves(sizes: Mapping[str, int], name: str) -> dict[str, list[str]]:
    """Return the queries up to the median size, and the longer ones."""
    middle = int(median(sizes.values()))
    low: Sequence[str] = [query for query, size in sizes.items() if size <= middle]
    high: Sequence[str] = [query for query, size in sizes.items() if size > middle]
    return {name.format(f"at most {middle}"): list(low), name.format(f"more than {middle}"): list(high)}


def _best(grades: Mapping[str, int]) -> str:
    """Return the document of the highest grade; among equals, the first by id."""
    return min(grades, key=lambda document: (-grades[document], document))
