"""Features of the newest documents: texts from the log, vectors from the store, so that nothing is embedded again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from twinline.clients.kafka.connect import beginning_offsets, end_offsets
from twinline.clients.kafka.stretch import read_topic
from twinline.clients.kafka.topic_order import append_ms
from twinline.clients.online import AdminClient
from twinline.clients.settings import Settings
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Document, Version, decode_message, version_of
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import DocumentError
from twinline.contract.monitor.drift import Features
from twinline.contract.monitor.drift_reference import DriftReference, features_of, unknown_id

_WIDER: Final = 4


@dataclass(frozen=True, slots=True)
class NewDocuments:
    """Features of the chunks of the newest documents; `unindexed` chunks had no stored vector of their text, and do not count."""

    features: Features | None
    documents: int
    unindexed: int


def read_newest(settings: Settings, limit: int) -> list[Document]:
    """Return the newest distinct documents of the topic, at most `limit`, newest first; deleted ones are left out.

    Of each partition the last offsets are read, ever more of them until there are enough messages: markers of transactions,
    aborted and removed records have offsets too.

    Raises:
        SettingsError: there is no such topic.
        TransientError: no broker answers, or it falls silent.
    """
    ends, starts = end_offsets(settings, settings.topic), beginning_offsets(settings, settings.topic)
    window = limit
    while True:
        last = {number: max(starts[number], end - window) for number, end in ends.items()}
        found, messages = _newest_documents(settings, last, ends)
        if messages >= limit or last == starts:
            return found[:limit]
        window *= _WIDER


def _newest_documents(settings: Settings, last: Mapping[int, int], ends: Mapping[int, int]) -> tuple[list[Document], int]:
    """Return the documents of a stretch of the log, the newest first, and how many messages it has."""
    newest: dict[tuple[str, str], tuple[Version, int, Document | None]] = {}
    messages = 0
    for record in read_topic(settings, settings.topic, last, ends):
        messages += 1
        try:
            item = decode_message(record.key, record.value, record.headers)
            version = version_of(item, append_ms(settings, record), record.offset, record.headers, record.partition)
            known = newest.get((item.source, item.key))
            if known is None or not version < known[0]:
                version = version.after(known[0] if known else None)
                newest[item.source, item.key] = version, record.timestamp, item if isinstance(item, Document) else None
        except DocumentError:
            continue  # in the dead letters, which have their own report
    found = sorted(newest.values(), key=lambda entry: -entry[1])
    return [document for _, _, document in found if document is not None], messages


def document_features(
    documents: Iterable[Document], preprocessor: Preprocessor, reference: DriftReference, admin: AdminClient, collection: str
) -> NewDocuments:
    """Return the features of documents as a release cuts them, with its collection's stored vectors.

    Raises:
        TransientError: the online process is away.
    """
    texts, vectors, owners, unindexed = [], [], [], 0
    for document in documents:
        try:
            chunks = preprocessor.chunks(document)
        except DocumentError:
            continue  # the consumer set it aside for the same reason
        # One page holds all points of a document, except the longest ones; their other points count as unindexed.
        points, _ = admin.points(
            collection, source=document.source, key=document.key, kind="chunk", limit=1_000, with_vectors=True
        )
        stored = {point.payload["content_hash"]: point.dense for point in points}
        for chunk in chunks:
            vector = stored.get(chunk.content_hash)
            if vector is None:
                unindexed += 1
                continue
            texts.append(chunk.encoder_text)
            vectors.append(vector)
            owners.append(str(head_id(document.source, document.key)))
    if not texts:
        return NewDocuments(None, 0, unindexed)
    similarity = reference.nearest(np.stack(vectors), owners)
    unknown = unknown_id(preprocessor.tokenizer_json)
    count = len(set(owners))
    return NewDocuments(features_of(preprocessor.encode(texts, "document"), similarity, unknown, count), count, unindexed)
