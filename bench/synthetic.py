"""Made-up chunks: random unit vectors with payloads of the real shape; embedding as much real text would take hours."""

from collections.abc import Sequence
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinline.clients.store.protocol import Collection, CollectionInfo, StoredPoint, version_fields
from twinline.clients.store.vectors import DENSE, WORDS, Vector, one_dense
from twinline.contract.documents.ids import point_id
from twinline.contract.documents.records import Version
from twinline.contract.sparse.vector import Sparse

SOURCE: Final = "made-up"
_DIMENSION: Final = 384
_BATCH: Final = 1_000
# The mean length of a real chunk.
_TEXT: Final = "These words stand where the text of a chunk would, and are as long as such a text is on average. " * 10


def made_up_info() -> CollectionInfo:
    """Return the description of a collection of made-up chunks."""
    return CollectionInfo("alone", "made-up", "made-up", "made-up", "made-up", one_dense(_DIMENSION))


def unit_vectors(numbers: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    """Return random unit vectors `(count, dimension)`."""
    vectors = numbers.standard_normal((count, dimension), np.float32)
    found: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def fill(collection: Collection, info: CollectionInfo, start: int, count: int, words: Sequence[Sparse] = ()) -> None:
    """Put chunks number `start` to `start + count` into a collection, as the consumer would, in batches.

    Args:
        words: of real chunks; where the collection has words, a made-up chunk's are a mixture of two of them.
    """
    for first in range(start, start + count, _BATCH):
        size = min(_BATCH, start + count - first)
        put_vectors(collection, info, first, unit_vectors(np.random.default_rng(first), size, info.dimension), words)


def put_vectors(
    collection: Collection, info: CollectionInfo, start: int, vectors: NDArray[np.float32], words: Sequence[Sparse] = ()
) -> None:
    """Put vectors into a collection as chunks from number `start` on; a chunk's key is its number."""
    for first in range(0, len(vectors), _BATCH):
        batch = vectors[first : first + _BATCH]
        collection.put_points([_point(info, start + first + place, vector, words) for place, vector in enumerate(batch)])


def mixed_words(words: Sequence[Sparse], number: int) -> Sparse:
    """Return every second term, by chance, of two real chunks: as many terms as a chunk has, each as frequent as it really is.

    A question then finds its words in as many chunks as in a real collection of that size.
    """
    numbers = Random(number)  # noqa: S311  (no secret)
    terms = {
        identity: weight
        for one in numbers.choices(words, k=2)
        for identity, weight in zip(one.ids, one.weights, strict=True)
        if numbers.random() < 0.5
    }
    ids = sorted(terms)
    return Sparse(tuple(ids), tuple(terms[identity] for identity in ids))


def _point(info: CollectionInfo, number: int, vector: NDArray[np.float32], words: Sequence[Sparse]) -> StoredPoint:
    payload = {
        "kind": "chunk",
        "source": SOURCE,
        "key": str(number),
        **version_fields(Version("explicit", 1)),
        "chunk_index": 0,
        "start": 0,
        "end": len(_TEXT),
        "title": f"Chunk {number}",
        "text": _TEXT,
        "metadata": {},
        "tenant": None,
        "content_hash": str(number),
        "token_count": 200,
        "truncated": False,
        "space": info.space,
        "release": info.release,
        "contract": info.contract_fingerprint,
        "partition": 0,
        "offset": number,
        "timestamp_ms": 0,
        "headers": {},
    }
    vectors: dict[str, Vector] = {DENSE: vector}
    if WORDS in info.vectors:
        vectors[WORDS] = mixed_words(words, number)
    return StoredPoint(point_id(SOURCE, str(number), 0), payload, vectors)
