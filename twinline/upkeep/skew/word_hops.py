"""The hops of words and fusion: this process's words, the words of a live query, and the order of a live answer.

A one-sided analyzer finds less and says nothing, so both sides are compared: what search asks with, and what it makes of it.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final
from uuid import UUID

from twinline.clients.store.protocol import Query, StoredPoint
from twinline.clients.store.vectors import DENSE, WORDS, Ask, Vector
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.errors import MismatchError
from twinline.contract.sparse.fusion import Candidate, Fusion, Ranked, fuse
from twinline.contract.sparse.golden import check_golden_words
from twinline.contract.sparse.weights import Words
from twinline.upkeep.skew.pieces import Answered, AnsweredHit, Live, LiveWords, Offline, Subject
from twinline.upkeep.skew.report import CannotRunError, Hop

WORDS_HOP: Final = "words"
QUERY_WORDS_HOP: Final = "query words"
FUSION_HOP: Final = "fusion"
# Beside the golden queries, questions in the words of their first hits: they share words with the corpus, whatever it is about.
# In capitals, since a side that does not fold them finds nothing.
_QUOTED_WORDS: Final = 6
# A point may be written between the reads of an answer and of the store: one look is not enough for a fault.
_LOOKS: Final = 3
# The query's vector is made twice, so its cosines differ a little. Another k, weight or rule moves a score further.
_APART: Final[Mapping[str, float]] = {"dense": 1e-3, "ranks": 1e-5, "scores": 1e-3}
_DEEPEST: Final = 4_096
_SHOWN: Final = 40


def words_hop(subject: Subject, offline: Offline) -> Hop:
    """Compare the words of this process with the release's golden ones; a release without words says so, and passes."""
    if offline.words is None:
        return Hop(WORDS_HOP, "ok", f"release {subject.manifest.release} was made without words: there are none to compare")
    check_golden_words(subject.folder, offline.words())
    return Hop(WORDS_HOP, "ok")


def query_words_hop(golden: GoldenSet, offline: Offline, live: Live) -> Hop:
    """Ask by words alone, and compare each hit's score with that of the release's words and the stored terms, exactly.

    Raises:
        CannotRunError: the search by words is not asked.
    """
    words, reach = _words(offline), _reach(live)

    def look(text: str) -> str:
        found, wanted = reach.answer(text, "words").hits, words().query(offline.query_text(text))
        if not wanted.ids:
            return f"the release's words find no term in it, live search finds {len(found)} hits" if found else ""
        ids = tuple(hit.id for hit in found)
        [best] = reach.query(Query((Ask(WORDS, wanted, 1),), exact=True, with_payload=False))
        [same] = reach.query(Query((Ask(WORDS, wanted, len(ids)),), exact=True, among=ids, with_payload=False)) if ids else [[]]
        scores = _by_id(same)
        for hit in found:
            if hit.words != scores.get(hit.id):
                return f"live search gives chunk {hit.id} {hit.words} by words, the release's words give it {scores.get(hit.id)}"
        highest, first = (best[0].score if best else None), (found[0].words if found else None)
        return "" if highest == first else f"the best chunk has {highest} by the release's words, live search's first hit {first}"

    return _judged(QUERY_WORDS_HOP, _questions(golden, reach), look)


def fusion_hop(subject: Subject, offline: Offline, live: Live) -> Hop:
    """Fuse the store's lists here by the manifest's rule, and compare scores and order with those of live answers.

    Hits that a further look added come after the first candidates, and are not judged.

    Raises:
        CannotRunError: the search by words is not asked.
    """
    words, reach, fusion = _words(offline), _reach(live), subject.manifest.fusion
    if fusion is None:
        raise MismatchError(f"release {subject.manifest.release} has words in its contract, and no fusion: fetch it again")
    embedder = next(iter(live.embedders.values()))

    def look(text: str) -> str:
        answered = reach.answer(text, "hybrid")
        mode = "dense" if fusion.rule == "dense" else "hybrid"
        if answered.mode != mode:
            return f"live search answers in mode {answered.mode}, by {fusion.label} it is {mode}"
        clean = offline.query_text(text)
        asks: dict[str, Vector] = {DENSE: embedder.embed([clean], "query").vectors[0]}
        if (terms := words().query(clean)).ids:
            asks[WORDS] = terms
        # A question without a term is ranked by its vector alone.
        rule = fusion.of(terms) if WORDS in asks else Fusion("dense")
        return _compared(rule, fuse(rule, _candidates(reach, asks, fusion.depth)), answered.hits)

    return _judged(FUSION_HOP, _questions(subject.golden, reach), look)


def _compared(fusion: Fusion, ranked: Sequence[Ranked[UUID]], hits: Sequence[AnsweredHit]) -> str:
    """Return the first difference of a live answer from the candidates as they are fused here; empty for none."""
    here = {one.candidate.id: one for one in ranked}
    judged = [(hit, here[hit.id]) for hit in hits if hit.id in here]
    apart = _APART[fusion.rule]
    if ranked and not judged:
        return f"live search finds none of the {len(ranked)} candidates of {fusion.label}"
    for hit, one in judged:
        if abs(hit.score - one.fused) > apart:
            return f"live search gives chunk {hit.id} the score {hit.score:.6f}, {fusion.label} gives it {one.fused:.6f}"
        if hit.words is not None and hit.words != one.candidate.words:
            return f"live search gives chunk {hit.id} {hit.words} by words, the store {one.candidate.words}"
    if judged and ranked[0].fused - judged[0][1].fused > apart:
        return f"the first hit is chunk {judged[0][0].id}, by {fusion.label} it is {ranked[0].candidate.id}"
    for (_, first), (_, second) in pairwise(judged):
        if second.fused - first.fused > apart:
            return f"chunk {first.candidate.id} comes before {second.candidate.id}, by {fusion.label} it comes after"
        if _scores(first) == _scores(second) and second.candidate.id < first.candidate.id:
            return f"chunks {first.candidate.id} and {second.candidate.id} tie, and are not in the order of their ids"
    return ""


def _scores(one: Ranked[UUID]) -> tuple[float, float]:
    return one.candidate.cosine, one.candidate.words


def _candidates(reach: LiveWords, asks: Mapping[str, Vector], depth: int) -> list[Candidate[UUID]]:
    """Return the first chunks of either side with both scores, straight from the store."""
    lists = {name: _first(reach, name, vector, depth) for name, vector in asks.items()}
    ids = sorted({id_ for scores in lists.values() for id_ in scores})
    for name, scores in lists.items():
        missing = tuple(id_ for id_ in ids if id_ not in scores)
        if missing:
            query = Query((Ask(name, asks[name], len(missing)),), exact=True, among=missing, with_payload=False)
            scores |= _by_id(reach.query(query)[0])
    dense, words = lists[DENSE], lists.get(WORDS, {})
    return [Candidate(id_, dense[id_], words.get(id_, 0.0)) for id_ in ids if id_ in dense]


def _first(reach: LiveWords, name: str, vector: Vector, depth: int) -> dict[UUID, float]:
    """Return the first `depth` scores; a tie at the cut is read to its end and cut by id."""
    asked = depth + 1
    while True:
        [points] = reach.query(Query((Ask(name, vector, asked),), exact=True, with_payload=False))
        cut = points[depth - 1].score if len(points) > depth else None
        if len(points) < asked or points[-1].score != cut or asked >= _DEEPEST:
            break
        asked = min(4 * asked, _DEEPEST)
    ordered = sorted(points, key=lambda point: (-(point.score or 0.0), point.id))
    return _by_id(ordered[:depth])


def _by_id(points: Sequence[StoredPoint]) -> dict[UUID, float]:
    return {point.id: point.score or 0.0 for point in points}


def _questions(golden: GoldenSet, reach: LiveWords) -> list[str]:
    """Return the golden queries, and a question in the first words of each one's first hit, in capitals."""
    asked = [entry.text for entry in golden.entries if entry.role == "query" and entry.text.strip()]
    quoted = [_quoted(reach.answer(text, "dense")) for text in asked]
    return list(dict.fromkeys([*asked, *(text for text in quoted if text)]))


def _quoted(answered: Answered) -> str:
    return " ".join(answered.hits[0].text.split()[:_QUOTED_WORDS]).upper() if answered.hits else ""


def _words(offline: Offline) -> Callable[[], Words]:
    if offline.words is None:
        raise CannotRunError("the release was made without words")
    return offline.words


def _reach(live: Live) -> LiveWords:
    if live.words is None:
        raise CannotRunError("the search by words is not asked")
    return live.words


def _judged(name: str, texts: Sequence[str], look: Callable[[str], str]) -> Hop:
    faults = {text: fault for text in texts if (fault := _lasting(look, text))}
    if not faults:
        return Hop(name, "ok", texts=len(texts))
    text, fault = next(iter(faults.items()))
    return Hop(name, "broken", f"{len(faults)} of {len(texts)} questions differ; {text[:_SHOWN]!r}: {fault}", texts=len(texts))


def _lasting(look: Callable[[str], str], text: str) -> str:
    """Return the fault that every look finds, as the last one says it; empty where one finds none."""
    fault = ""
    for _ in range(_LOOKS):
        if not (fault := look(text)):
            return ""
    return fault
