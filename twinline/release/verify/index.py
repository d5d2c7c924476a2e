"""Verify a built collection before it answers a search.

1. caught up: the release's consumer has passed the end that the log had when verification began
2. whole: every document of the log is there in its newest state, but those that were set aside
3. equal: a sample, cut and embedded here again, equals the stored text and vectors
4. stored golden texts: the collection gives them back as the release says
5. found: a sample is found by its own text, and the index finds the same as exact search
6. live quality: held-out queries, beside the active release (`live_quality.py`)
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from twinline.clients.store.protocol import Head, StoredPoint
from twinline.contract.documents.ids import point_id
from twinline.contract.documents.records import Document, Version, encode_key
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.encoder.limits import MAX_QUERY_CHARS
from twinline.contract.encoder.pooling import cosine_distance
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import DocumentError, TransientError
from twinline.contract.release.checks import Check
from twinline.contract.release.manifest import Manifest
from twinline.release.verify.log_sample import DocumentKey, LogState

MIN_SHARE: Final = 0.95
_HITS: Final = 10
_PAGE: Final = 1_000
_NAMED: Final = 5


class Reads(Protocol):
    """The reads of a served collection."""

    def points(
        self, name: str, *, kind: str | None = None, limit: int = 256, offset: UUID | None = None
    ) -> tuple[list[StoredPoint], UUID | None]:
        """Return a page of points and the offset of the next."""

    def point(self, name: str, point_id: UUID) -> StoredPoint | None:
        """Return one point with its vector."""

    def golden(self, name: str) -> dict[str, NDArray[np.float32]]:
        """Return the stored vectors of golden texts by name."""

    def search(self, name: str, query: str, limit: int = 10, exact: bool = False) -> Mapping[str, Any]:
        """Ask one collection."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The collection to verify, and the tools for it."""

    collection: str
    manifest: Manifest
    preprocessor: Preprocessor
    embedder: Embedder


def wait_until_caught_up(
    ends: Mapping[int, int],
    passed: Callable[[], Mapping[int, int]],
    patience_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Check:
    """Wait until a group has passed `ends`, the last stable offsets.

    Raises:
        TransientError: it has not moved for longer than our patience.
    """
    waited, behind = 0.0, _behind(ends, passed())
    while behind:
        sleep(0.5)
        waited += 0.5
        now = _behind(ends, passed())
        if now < behind:
            waited = 0.0
        behind = now
        if waited >= patience_seconds:
            raise TransientError(
                f"the consumer is {behind} offsets behind and has not moved for {patience_seconds:.0f} s: see "
                "`twinline status` and the log of the online process, then verify again"
            )
    return Check("caught up", True, f"past the offsets {dict(ends)}", {"messages": sum(ends.values())})


def _behind(ends: Mapping[int, int], passed: Mapping[int, int]) -> int:
    return sum(max(0, end - passed.get(partition, 0)) for partition, end in ends.items())


def read_heads(reads: Reads, collection: str) -> dict[DocumentKey, Head]:
    """Return the head of every document in a collection."""
    heads: dict[DocumentKey, Head] = {}
    offset: UUID | None = None
    while True:
        page, offset = reads.points(collection, kind="head", limit=_PAGE, offset=offset)
        for point in page:
            head = Head.from_payload(point.payload)
            heads[head.source, head.key] = head
        if offset is None:
            return heads


def whole_check(state: LogState, heads: Mapping[DocumentKey, Head], refused: Callable[[], set[bytes | None]]) -> Check:
    """Compare the heads with the log; a head newer than the log's comes from a later message."""
    absent = [name for name, version in state.versions.items() if name not in heads or _is_older(heads[name].version, version)]
    if absent:
        aside = refused()
        absent = [name for name in absent if encode_key(*name) not in aside]
    shown = ", ".join(f"[{source}, {key}]" for source, key in absent[:_NAMED])
    detail = f"{len(state.versions)} documents in the log, {len(heads)} in the collection, {len(absent)} missing or old"
    numbers = {"log": len(state.versions), "collection": len(heads), "missing": len(absent)}
    return Check("whole", not absent, f"{detail}: {shown}" if absent else detail, numbers)


def _is_older(stored: Version, version: Version) -> bool:
    return stored.kind != version.kind or stored < version


def golden_check(collection: str, golden: GoldenSet, reads: Reads) -> Check:
    """Compare the collection's golden vectors with the release's: the check of every opening, in figures."""
    worst, distance = golden.worst_stored(reads.golden(collection))
    said = f"{len(golden.entries)} texts, worst cosine distance {distance:.2e} ({worst.name}), limit {golden.stored_limit:.0e}"
    numbers = {"texts": len(golden.entries), "worst": distance, "limit": golden.stored_limit}
    return Check("stored golden texts", distance <= golden.stored_limit, said, numbers)


@dataclass(frozen=True, slots=True)
class Look:
    """One document in the collection, compared with its expected state.

    Attributes:
        different: the chunks that are missing or have a different text.
        distances: the cosine distances of the other chunks' vectors from those made here.
        is_found: the document is among the first hits for its own text.
        agreed: how many of exact search's first hits the index also has.
        expected: how many hits exact search gave.
    """

    document: Document
    different: tuple[str, ...]
    distances: tuple[float, ...]
    is_found: bool
    agreed: int
    expected: int

    def is_good(self, limit: float) -> bool:
        """Say whether all agrees, with vectors no further away than `limit`."""
        return not self.different and self.is_found and all(distance <= limit for distance in self.distances)


def vector_limit(candidate: Candidate) -> float:
    """Return the largest cosine distance of a stored vector from ours."""
    # Each side may be `limit` away from the training framework: twice the angle is four times the distance.
    return 4 * candidate.manifest.serving_format().parity.limit


def look_at(candidate: Candidate, reads: Reads, document: Document) -> Look | None:
    """Cut and embed a document here, compare it with its stored points, and search for it by its own text.

    Returns:
        None for a document with nothing to index: the consumer has set it aside.
    """
    try:
        chunks = candidate.preprocessor.chunks(document)
    except DocumentError:
        return None
    vectors = candidate.embedder.embed([chunk.encoder_text for chunk in chunks], "document").vectors
    different: list[str] = []
    distances: list[float] = []
    for chunk, vector in zip(chunks, vectors, strict=True):
        stored = reads.point(candidate.collection, point_id(document.source, document.key, chunk.index))
        if stored is None or stored.dense is None or stored.payload["text"] != chunk.text:
            different.append(f"{document.place} chunk {chunk.index}")
        else:
            distances.append(float(cosine_distance(vector[None, :], stored.dense[None, :])[0]))
    query = chunks[0].encoder_text[:MAX_QUERY_CHARS]
    quick = reads.search(candidate.collection, query, limit=_HITS)["hits"]
    exact = reads.search(candidate.collection, query, limit=_HITS, exact=True)["hits"]
    # a copy of the document under another key is as good an answer
    is_found = any(_key(hit) == (document.source, document.key) or hit["chunk"]["text"] == chunks[0].text for hit in quick)
    agreed = len({_key(hit) for hit in exact} & {_key(hit) for hit in quick})
    return Look(document, tuple(different), tuple(distances), is_found, agreed, len(exact))


def sample_checks(looks: Sequence[Look], limit: float, left_out: int = 0) -> list[Check]:
    """Judge the sampled documents: the whole way from the log to the point, and back by a search.

    Args:
        limit: the largest cosine distance of vectors.
        left_out: how many more documents changed during the check.
    """
    different = [chunk for look in looks for chunk in look.different]
    distances = [distance for look in looks for distance in look.distances]
    # Not max(), which ignores a NaN: such a distance comes from a broken vector, and must fail.
    worst = float(np.max(distances)) if distances else float("nan")
    meanwhile = f" ({left_out} more changed while they were looked at)" if left_out else ""
    texts = f"{len(looks)} documents{meanwhile}, {len(different)} chunks missing or with another text"
    compared = f"worst cosine distance {worst:.2e} over {len(distances)} chunks, limit {limit:.0e}"
    return [
        Check(
            "equal text",
            not different,
            f"{texts}: {', '.join(different[:_NAMED])}" if different else texts,
            {"documents": len(looks), "different": len(different), "left_out": left_out},
        ),
        # None where nothing was compared: JSON has no NaN.
        Check("equal vectors", worst <= limit, compared, {"chunks": len(distances), "worst": worst if distances else None}),
        *_found_checks(looks),
    ]


def _found_checks(looks: Sequence[Look]) -> list[Check]:
    lost = [look.document.place for look in looks if not look.is_found]
    expected = sum(look.expected for look in looks)
    found = 1 - len(lost) / len(looks) if looks else 0.0
    recall = sum(look.agreed for look in looks) / expected if expected else 0.0
    said = f"{found:.1%} of {len(looks)} documents, at least {MIN_SHARE:.0%}"
    named = f"{said}; not {', '.join(lost[:_NAMED])}" if lost else said
    index = f"{recall:.1%} of the first {_HITS} of exact search, at least {MIN_SHARE:.0%}"
    return [
        Check("found by own text", found >= MIN_SHARE, named, {"documents": len(looks), "found": found, "least": MIN_SHARE}),
        Check("index", recall >= MIN_SHARE, index, {"recall": recall, "least": MIN_SHARE}),
    ]


def _key(hit: Mapping[str, Any]) -> DocumentKey:
    return hit["source"], hit["key"]


def still_current(
    documents: Mapping[DocumentKey, Document], state: LogState, heads: Mapping[DocumentKey, Head]
) -> list[Document]:
    """Return the sampled documents whose version in the collection is the log's."""
    return [
        document
        for name, document in documents.items()
        if name in heads and not heads[name].deleted and heads[name].version.is_same_state(state.versions[name])
    ]
