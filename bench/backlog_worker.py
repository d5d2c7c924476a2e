"""A separate process that consumes the backlog, so that its memory can be measured alone.

    python -m bench.backlog_worker consumer|store FOLDER RELEASE MESSAGES ENCODER

`consumer` is the real consumer, over the log. `store` writes as many points of the same texts to the same kind of collection,
without a consumer, to show the memory of the store alone. Prints the number of handled messages, a line a batch.
"""

import hashlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.backlog_messages import SOURCE, texts
from streaming.decode import Message, decode
from streaming.limits import load_limits
from streaming.loop import Consumer
from streaming.plans import Plan
from streaming.points import Vectors, chunk_points
from streaming.portions import pieces
from twinline.clients.release import Release
from twinline.clients.settings import load_settings
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.edge_collection import EdgeCollection
from twinline.clients.store.protocol import CollectionInfo, Head
from twinline.contract.documents.records import Document, Version, encode_key, encode_value
from twinline.contract.encoder.embedding import Embedder, Embeddings
from twinline.contract.encoder.specification import Role
from twinline.contract.release.folder import ReleaseFolder
from twinline.contract.release.manifest import collection_name

_WORDS_OF_A_HASH: Final = 8


class HashEmbedder:
    """A text's vector from its hash, without an encoder: for figures that do not depend on the vectors, such as memory."""

    def __init__(self, space: str, dimension: int) -> None:
        self.space = space
        self._dimension = dimension

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        """Return one vector a text."""
        vectors = np.stack([self._vector(text) for text in texts])
        counts = np.array([len(text.split()) for text in texts], np.int32)
        return Embeddings(vectors, counts, np.zeros(len(texts), np.bool_), self.space)

    def _vector(self, text: str) -> NDArray[np.float32]:
        seed = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32)[:_WORDS_OF_A_HASH]
        vector = np.random.default_rng(seed).standard_normal(self._dimension, np.float32)
        unit: NDArray[np.float32] = vector / np.linalg.norm(vector)
        return unit


def consume(collection: EdgeCollection, release: Release, messages: int) -> None:
    """Consume the log from its start with the real consumer."""
    stop, done = threading.Event(), 0

    def count(handled: int) -> None:
        nonlocal done
        done += handled
        if handled:
            print(done, flush=True)
        if done >= messages:
            stop.set()

    Consumer(load_settings(), release, collection, load_limits(), group="backlog").run(stop, progress=count)


def store_alone(collection: EdgeCollection, release: Release, messages: int) -> None:
    """Write the same points without a consumer, in batches of the same size."""
    limits, done = load_limits(), 0
    for batch in pieces(enumerate(texts(messages)), limits.max_messages):
        plans = []
        for number, text in batch:
            document = Document(SOURCE, str(number), text)
            message = Message(0, number, number, encode_key(SOURCE, document.key), encode_value(document))
            event, chunks = decode(message), release.preprocessor.chunks(document)
            plans.append(
                Plan(event, Head(SOURCE, document.key, Version("log", number, number), False, len(chunks)), chunks, None)
            )
        cut = [chunk for plan in plans for chunk in plan.chunks]
        made = release.embedder.embed([chunk.encoder_text for chunk in cut], "document").vectors
        vectors = Vectors(dict(zip((chunk.content_hash for chunk in cut), made, strict=True)), frozenset(), len(cut))
        collection.put_heads([plan.head for plan in plans])
        for plan in plans:
            assert isinstance(plan.event.item, Document)  # noqa: S101 (made above)
            collection.put_points(chunk_points(plan, plan.event.item, collection.info, vectors, release.words))
        done += len(batch)
        print(done, flush=True)


def main() -> None:
    """Read the command line and work."""
    what, folder, release_folder, messages, encoder = sys.argv[1:]
    files = ReleaseFolder.load(Path(release_folder))
    info = CollectionInfo.of(files.manifest)
    embedder: Embedder
    if encoder == "triton":
        from twinline.clients.triton.embedder import TritonEmbedder

        embedder = TritonEmbedder(load_settings().triton_grpc_address, info.release, info.space)
    else:
        embedder = HashEmbedder(info.space, info.dimension)
    collection = EdgeStore(Path(folder)).create(collection_name(info.release), info)
    try:
        release = Release(info, files.preprocessor, embedder, files.golden, files.words)
        (consume if what == "consumer" else store_alone)(collection, release, int(messages))
    finally:
        collection.close()


if __name__ == "__main__":
    main()
