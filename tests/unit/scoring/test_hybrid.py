"""Offline ranking by vectors and words, against one that scores every pair by itself."""

import json
from typing import Any

import numpy as np
import pytest

from twinline.contract.documents.ids import point_id
from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.sparse.analyzer import Analyzer
from twinline.contract.sparse.fusion import NEXT_REACH, Candidate, Fusion, fuse
from twinline.contract.sparse.statistics import Statistics
from twinline.contract.sparse.weights import Words, score
from twinline.scoring.hybrid import Chunks, Queries, WordIndex, rank_by_fusions, rank_by_words
from twinline.scoring.ranking import answer_scores

VOCABULARY = ["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op", "qr", "st"]


class Corpus:
    """Documents of a few chunks, some of them equal, and vectors of few values, so that there are ties."""

    def __init__(self, seed: int, documents: int = 40, queries: int = 12) -> None:
        numbers = np.random.default_rng(seed)
        self.ids = [json.dumps(["s", f"d{number}"]) for number in range(documents)]
        self.counts = [int(count) for count in numbers.integers(1, 4, documents)]
        total = sum(self.counts)
        self.texts = [" ".join(numbers.choice(VOCABULARY, int(length))) for length in numbers.integers(0, 9, total)]
        self.vectors = numbers.integers(-1, 2, (total, 4)).astype(np.float32)
        terms = [Analyzer(1, "none").terms(text) for text in self.texts]
        self.words = Words(SparseContract(1, "none", 1, 90, 40, "0" * 64), Statistics.count(terms))
        lengths = numbers.integers(1, 5, queries)
        self.query_texts = [" ".join(numbers.choice([*VOCABULARY, "unknown"], int(length))) for length in lengths]
        self.query_vectors = numbers.integers(-1, 2, (queries, 4)).astype(np.float32)
        self.queries = Queries([f"q{number}" for number in range(queries)], self.query_vectors, self.query_texts)
        self.chunks = Chunks(self.ids, self.counts, self.vectors, WordIndex(self.words, self.texts))

    def by_hand(self, fusion: Fusion, limit: int = 100) -> dict[str, list[str]]:
        """Return the documents of each query, best first."""
        owners = [(document, index) for document, count in zip(self.ids, self.counts, strict=True) for index in range(count)]
        run = {}
        for query, vector, text in zip(self.queries.ids, self.query_vectors, self.query_texts, strict=True):
            asked = self.words.query(text)
            pairs = []
            for (document, index), stored, chunk in zip(owners, self.vectors, self.texts, strict=True):
                source, key = json.loads(document)
                shared = score(asked, self.words.document(chunk))
                pairs.append((point_id(source, key, index), document, float(vector @ stored), float(shared)))
            found: dict[str, None] = {}
            depth = fusion.depth
            while True:
                dense = sorted(pairs, key=lambda pair: (-pair[2], pair[0]))[:depth]
                words = sorted((pair for pair in pairs if pair[3] > 0), key=lambda pair: (-pair[3], pair[0]))[:depth]
                listed = {pair[0]: pair for pair in [*dense, *words]}
                ranked = fuse(fusion, [Candidate(id_, cosine, shared) for id_, _, cosine, shared in listed.values()])
                found |= dict.fromkeys(listed[one.candidate.id][1] for one in ranked)
                if len(found) >= limit or depth >= len(pairs):
                    break
                # A deeper look comes after the one before it.
                depth *= NEXT_REACH
            run[query] = list(found)[:limit]
        return run


FUSIONS = {
    "scores": Fusion(),
    "ranks": Fusion("ranks"),
    "dense": Fusion("dense"),
    "few": Fusion(depth=5),
    "few by ranks": Fusion("ranks", depth=3, k=1),
    "words": Fusion("scores", dense_percent=0),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [100, 3])
def test_documents_are_ranked_as_by_hand(seed: int, limit: int) -> None:
    corpus = Corpus(seed)
    runs = rank_by_fusions(corpus.queries, corpus.chunks, FUSIONS, limit=limit)
    for name, fusion in FUSIONS.items():
        found = {query: sorted(scores, key=lambda document: -scores[document]) for query, scores in runs[name].items()}
        assert found == corpus.by_hand(fusion, limit), name
        assert all(list(scores.values()) == [float(limit - at) for at in range(len(scores))] for scores in runs[name].values())


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_words_are_those_of_each_pair(seed: int) -> None:
    corpus = Corpus(seed)
    for text in corpus.query_texts:
        asked = corpus.chunks.words.query(text)
        expected = [score(asked, corpus.words.document(chunk)) for chunk in corpus.texts]
        assert corpus.chunks.words.scores(asked).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_documents_are_ranked_by_words_alone(seed: int) -> None:
    corpus = Corpus(seed)
    run = rank_by_words(corpus.queries, corpus.chunks, limit=7)
    starts = np.cumsum([0, *corpus.counts])
    for query, text in zip(corpus.queries.ids, corpus.query_texts, strict=True):
        asked = corpus.words.query(text)
        best = {
            document: max(score(asked, corpus.words.document(chunk)) for chunk in corpus.texts[start:end])
            for document, start, end in zip(corpus.ids, starts, starts[1:], strict=False)
        }
        expected = sorted((document for document in best if best[document]), key=lambda document: (-best[document], document))
        assert run[query] == {document: float(best[document]) for document in expected[:7]}


def test_a_query_of_unknown_words_finds_nothing_by_words() -> None:
    corpus = Corpus(1)
    queries = Queries(["q"], corpus.query_vectors[:1], ["zz yy"])
    assert rank_by_words(queries, corpus.chunks) == {"q": {}}
    assert len(rank_by_fusions(queries, corpus.chunks, {"scores": Fusion()})["scores"]["q"]) == len(corpus.ids)


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        # by place: scores of a further look do not compare, and ties have a stated order
        ({"mode": "hybrid", "hits": [{"score": 0.5}, {"score": 0.5}, {"score": 0.9}]}, [3.0, 2.0, 1.0]),
        ({"mode": "dense", "hits": [{"score": 0.5}, {"score": 0.25}]}, [0.5, 0.25]),
        ({"mode": "words", "hits": [{"score": 512.0}]}, [512.0]),
        # of a service from before there were modes
        ({"hits": [{"score": 0.5}]}, [0.5]),
        ({"mode": "hybrid", "hits": []}, []),
    ],
)
def test_an_answer_gives_scores_that_a_run_may_compare(answer: dict[str, Any], scores: list[float]) -> None:
    assert answer_scores(answer) == scores
