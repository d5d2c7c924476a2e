"""The first index of pages of which many are copies: as it was after `bootstrap`, and as it is.

The pages are real: the docstrings of one module are a page. Each further version of the pages changes one in five of them, as the
versions of a manual do. The consumer's own indexer writes them into the embedded store; the encoder runs in this process.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.documents import read_documents
from bench.in_process import InProcessEncoder
from streaming.dead_letters import DeadLetter
from streaming.decode import Message
from streaming.indexer import Indexer
from streaming.known_vectors import KnownVectors
from streaming.limits import ConsumerLimits
from twinline.clients.erasure_list import Erasures
from twinline.clients.release import Release
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import CollectionInfo
from twinline.contract.documents.records import Document, encode_key, encode_value
from twinline.contract.errors import ContractError
from twinline.contract.release.folder import ReleaseFolder
from twinline.contract.release.manifest import Manifest

EXACT: Final = "openvino_fp32"
# A small corpus goes in as many portions as a large one: within a portion, equal chunks were embedded once before.
_PORTION_BYTES: Final = 32 * 1024
_CHANGED: Final = 5  # one page in so many changes with a version


@dataclass(frozen=True)
class Contender:
    """A served format, with or without known vectors."""

    name: str
    served: str
    knows: bool


class _Refuses:
    """Stands for dead letters and erasures: nothing of this corpus is set aside, and nothing was erased."""

    def put(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            raise ContractError(f"{len(letters)} pages were set aside, the first: {letters[0].error}")

    def current(self) -> Erasures:
        return Erasures()


def pages(documents: int, versions: int) -> list[Document]:
    """Return the pages of all versions, one version after the other."""
    modules: defaultdict[str, list[str]] = defaultdict(list)
    for document in read_documents("pydocs", documents):
        modules[document.key.rpartition(".")[0]].append(f"{document.title}\n\n{document.text}")
    found = []
    for version in range(versions):
        for number, (module, parts) in enumerate(sorted(modules.items())):
            # A page stays changed: later versions have all changes of the earlier ones.
            changes = [f"Changed in version {v}." for v in range(1, version + 1) if (number + v) % _CHANGED == 0]
            found.append(Document("pages", f"{version}/{module}", "\n\n".join([*changes, *parts]), title=module))
    return found


def measure_first_index(release: Path, documents: int, versions: int) -> dict[str, Any]:
    """Return chunks a second, and chunks embedded, of each contender over the same pages.

    Args:
        release: a packaged base model, as `python -m export base --serve fastest` makes it.
        documents: docstrings of the pages.
        versions: of the pages.
    """
    corpus = pages(documents, versions)
    quickest = Manifest.load(release).serving.format
    contenders = [Contender("before: fp32, every chunk embedded", EXACT, knows=False)]
    contenders.append(Contender("fp32, equal chunks once", EXACT, knows=True))
    if quickest != EXACT:
        contenders.append(Contender(f"{quickest}, every chunk embedded", quickest, knows=False))
        contenders.append(Contender(f"now: {quickest}, equal chunks once", quickest, knows=True))
    return {
        "pages": len(corpus),
        "versions": versions,
        "contenders": {contender.name: _index(release, contender, corpus) for contender in contenders},
    }


def _index(folder: Path, contender: Contender, corpus: Sequence[Document]) -> dict[str, float]:
    opened = ReleaseFolder.load(folder)
    manifest = opened.manifest
    encoder = InProcessEncoder.load(folder, contender.served)
    encoder.embed(["a warm-up"], "document")
    release = Release(CollectionInfo.of(manifest), opened.preprocessor, encoder, opened.golden, opened.words)
    limits = ConsumerLimits(max_portion_bytes=_PORTION_BYTES)
    with tempfile.TemporaryDirectory() as place:
        known = KnownVectors(Path(place, "known"), manifest.release, manifest.dimension, 1 << 28) if contender.knows else None
        store = EdgeStore(Path(place, "store"))
        with closing(store.create(release.collection_name, release.info)) as collection:
            indexer = Indexer(collection, release, _Refuses(), _Refuses(), limits, known=known)
            embedded = reused = 0
            began = time.perf_counter()
            for batch in _batches(corpus, limits.max_messages):
                handled = indexer.handle(batch)
                embedded, reused = embedded + handled.chunks_embedded, reused + handled.chunks_reused
            indexer.flush()
            seconds = time.perf_counter() - began
            chunks = collection.count({"kind": "chunk"})
    return {"chunks": chunks, "embedded": embedded, "reused": reused, "seconds": seconds, "chunks_per_second": chunks / seconds}


def _batches(corpus: Sequence[Document], size: int) -> Iterator[list[Message]]:
    messages = [
        Message(0, offset, 1_700_000_000_000, encode_key(one.source, one.key), encode_value(one), [])
        for offset, one in enumerate(corpus)
    ]
    for start in range(0, len(messages), size):
        yield messages[start : start + size]
