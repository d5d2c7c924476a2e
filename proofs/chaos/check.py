"""The independent check: plain copies of log, index and dead letters in, counts of every kind of damage out. Pure.

It follows the platform's promises, not its code: it computes no id and imports no decision.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from proofs.chaos.law import Name, Place, Record, State, Truth, replay

# Largest cosine distance between a stored vector and the same text embedded now, at fp32.
MAX_COSINE_DISTANCE = 1e-6
_MOST_EXAMPLES = 10


class Piece(Protocol):
    """The check's view of a chunk."""

    index: int
    start: int
    end: int
    text: str
    encoder_text: str


@dataclass(frozen=True, slots=True, eq=False)
class PlainPoint:
    """One point as a plain store client reads it."""

    id: str
    payload: Mapping[str, Any]
    vector: NDArray[np.float32] | None = None


@dataclass(slots=True)
class Damage:
    """Counts of damage; all 0 where the platform keeps its promises.

    Args:
        lost: documents with a chunk or a head missing from the index.
        duplicated: points beyond the first for one chunk or one head.
        stale: chunks and heads that differ from the newest version of their document.
        orphaned: points without a cause in the log: of deleted or unknown documents, or beyond a document's end.
        wrong_vector: chunks whose vector is not that of their text.
        dead_letters_missing: unusable messages that are not among the dead letters.
        unexpected_dead_letters: usable messages among the dead letters, by distinct place in the log.
        lost_by_broker: messages that the broker acknowledged and does not have.
    """

    lost: int = 0
    duplicated: int = 0
    stale: int = 0
    orphaned: int = 0
    wrong_vector: int = 0
    dead_letters_missing: int = 0
    unexpected_dead_letters: int = 0
    lost_by_broker: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: value for name, value in asdict(self).items() if name != "examples"}

    def note(self, what: str, example: str, times: int = 1) -> None:
        """Count a damage and keep the first few examples of its kind."""
        setattr(self, what, getattr(self, what) + times)
        kept = self.examples.setdefault(what, [])
        if len(kept) < _MOST_EXAMPLES:
            kept.append(example)

    def count_broker_losses(self, acknowledged: Iterable[Place], records: Iterable[Record]) -> None:
        """Compare the broker's acknowledgements with the log."""
        for place in sorted(set(acknowledged) - {record.place for record in records}):
            self.note("lost_by_broker", f"{place} was acknowledged and is not in the log")


@dataclass(slots=True)
class Verdict:
    """The compared data, and the damage."""

    damage: Damage
    truth: Truth
    documents: int = 0
    deleted: int = 0
    chunks: int = 0
    vectors: int = 0
    worst_cosine_distance: float = 0.0
    dead_letters: int = 0
    dead_letters_redelivered: int = 0


def check(
    records: Sequence[Record],
    points: Iterable[PlainPoint],
    letters: Iterable[Place],
    cut: Callable[[Name, Mapping[str, Any]], Sequence[Piece]],
    embed: Callable[[Sequence[str]], NDArray[np.float32]],
) -> Verdict:
    """Compare an index and its dead letters with the log.

    Args:
        letters: the place in the log of each dead letter. A redelivery may write it twice: the promise is at least once.
        cut: returns a document's chunks, or raises UnusableError.
        embed: returns new vectors `(n, dim)` of chunks' texts.
    """
    truth, damage = replay(records, cut), Damage()
    verdict = Verdict(damage, truth)
    heads, chunks = _sorted_out(points, damage)
    for name, state in truth.documents.items():
        _check_head(name, state, heads.pop(name, []), damage)
        found = {index: chunks.pop((*name, index)) for index in _indices(chunks, name)}
        _check_chunks(name, state, found, verdict, embed)
    for name in heads:
        damage.note("orphaned", f"head of {name}, which the log does not know")
    for chunk in chunks:
        damage.note("orphaned", f"chunk {chunk} of a document that the log does not know")
    _check_letters(letters, verdict)
    verdict.documents = sum(state.said is not None for state in truth.documents.values())
    verdict.deleted = len(truth.documents) - verdict.documents
    return verdict


Heads = dict[Name, list[PlainPoint]]
Chunks = dict[tuple[str, str, int], list[PlainPoint]]


def _sorted_out(points: Iterable[PlainPoint], damage: Damage) -> tuple[Heads, Chunks]:
    heads: Heads = defaultdict(list)
    chunks: Chunks = defaultdict(list)
    for point in points:
        kind = point.payload.get("kind")
        if kind == "head":
            heads[point.payload["source"], point.payload["key"]].append(point)
        elif kind == "chunk":
            chunks[point.payload["source"], point.payload["key"], point.payload["chunk_index"]].append(point)
        elif kind not in ("golden", "build"):
            damage.note("orphaned", f"point {point.id} of kind {kind!r}")
    for what, found in (*heads.items(), *chunks.items()):
        if len(found) > 1:
            damage.note("duplicated", f"{what} is stored as {sorted(point.id for point in found)}", len(found) - 1)
    return heads, chunks


def _indices(chunks: Chunks, name: Name) -> list[int]:
    return [index for *owner, index in chunks if tuple(owner) == name]


def _check_head(name: Name, state: State, found: Sequence[PlainPoint], damage: Damage) -> None:
    if not found:
        damage.note("lost", f"no head of {name}, {state.place}")
    metadata = None if state.said is None else state.said.get("metadata") or {}
    wanted = {**_version(state), "deleted": state.said is None, "chunk_count": len(state.chunks), "metadata": metadata}
    for point in found:
        differing = _differing(point.payload, wanted)
        if differing:
            damage.note("stale", f"head of {name}, newest {state.place}: {differing}")


def _check_chunks(
    name: Name,
    state: State,
    found: Mapping[int, Sequence[PlainPoint]],
    verdict: Verdict,
    embed: Callable[[Sequence[str]], NDArray[np.float32]],
) -> None:
    damage = verdict.damage
    wanted = {piece.index: piece for piece in state.chunks}
    for index in found.keys() - wanted.keys():
        damage.note("orphaned", f"chunk {index} of {name}, which has {len(wanted)}", len(found[index]))
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        damage.note("lost", f"{name} at {state.place}: chunks {missing} of {len(wanted)}")
    pairs = [(wanted[index], point) for index in sorted(wanted.keys() & found.keys()) for point in found[index]]
    verdict.chunks += len(pairs)
    for piece, point in pairs:
        differing = _differing(point.payload, _chunk_fields(state, piece))
        if differing:
            damage.note("stale", f"chunk {piece.index} of {name}, newest {state.place}: {differing}")
    if not pairs:
        return
    # Each vector against its own stored text: a chunk with a wrong text is stale, and its vector may still fit that text.
    again = embed([piece.encoder_text for piece, _ in pairs])
    for (piece, point), vector in zip(pairs, again, strict=True):
        if point.payload["text"] != piece.text:
            continue
        verdict.vectors += 1
        distance = _cosine_distance(point.vector, vector)
        verdict.worst_cosine_distance = max(verdict.worst_cosine_distance, distance)
        if not distance <= MAX_COSINE_DISTANCE:
            damage.note("wrong_vector", f"chunk {piece.index} of {name}: {distance:.1e} from its text's vector")


def _version(state: State) -> dict[str, Any]:
    kind, number, offset = state.version
    return {"version_kind": kind, "version": number, "version_offset": offset}


def _chunk_fields(state: State, piece: Piece) -> dict[str, Any]:
    said = state.said or {}
    return {
        **_version(state),
        "start": piece.start,
        "end": piece.end,
        "text": piece.text,
        "title": said.get("title") or "",
        # No field of these releases is declared filterable, so the head alone has metadata.
        "metadata": {},
        "tenant": said.get("tenant"),
        "partition": state.place[0],
        "offset": state.place[1],
    }


def _differing(payload: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {str(payload.get(name))[:40]!r} instead of {str(value)[:40]!r}"
        for name, value in wanted.items()
        if payload.get(name) != value
    )


def _cosine_distance(stored: NDArray[np.float32] | None, again: NDArray[np.float32]) -> float:
    if stored is None:
        return float("inf")
    one, other = (vector.astype(np.float64) for vector in (stored, again))
    # Half the squared distance of unit vectors: `1 - dot` has too few digits here.
    apart = one / np.linalg.norm(one) - other / np.linalg.norm(other)
    return float(np.dot(apart, apart) / 2)


def _check_letters(letters: Iterable[Place], verdict: Verdict) -> None:
    counted = Counter(letters)
    expected = verdict.truth.dead_letters
    verdict.dead_letters = len(counted)
    verdict.dead_letters_redelivered = sum(counted.values()) - len(counted)
    for place in sorted(expected.keys() - counted.keys()):
        verdict.damage.note("dead_letters_missing", f"{place}: {expected[place]}")
    for place in sorted(counted.keys() - expected.keys()):
        verdict.damage.note("unexpected_dead_letters", f"{place}")
