"""Plain copies of the compared data, by the vendors' own clients, without our code."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from kafka import KafkaConsumer, TopicPartition
from numpy.typing import NDArray

from proofs.chaos.check import PlainPoint
from proofs.chaos.law import Place, Record

_PAGE = 500
_TEXTS = 8
_READ_SECONDS = 120.0
_CHUNK_VECTOR = "dense"


def read_topic(address: str, topic: str) -> list[Record]:
    """Return every message of a topic, from its start to its current end."""
    consumer = KafkaConsumer(
        bootstrap_servers=address.split(","), enable_auto_commit=False, receive_message_max_bytes=1024 * 1024 * 1024
    )
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        ends: dict[Any, int] = consumer.end_offsets(partitions)
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        records: list[Record] = []
        give_up = time.monotonic() + _READ_SECONDS
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            if time.monotonic() > give_up:
                raise RuntimeError(f"reading {topic} did not get to its end in {_READ_SECONDS:.0f} s")
            for found in consumer.poll(timeout_ms=1_000).values():
                records += [
                    Record(
                        one.partition, one.offset, one.timestamp, one.key, one.value, tuple((n, v or b"") for n, v in one.headers)
                    )
                    for one in found
                ]
    finally:
        consumer.close()
    # Messages after the end offsets are not part of this copy.
    return [record for record in records if record.offset < ends[TopicPartition(topic, record.partition)]]


def letter_places(letters: Sequence[Record]) -> list[Place]:
    """Return the place in the log of each dead letter."""
    headers = [dict(letter.headers) for letter in letters]
    return [(int(said["dead-letter-partition"]), int(said["dead-letter-offset"])) for said in headers]


def read_edge(folder: Path) -> list[PlainPoint]:
    """Return every point of an embedded collection that no process has open."""
    import qdrant_edge

    shard = qdrant_edge.EdgeShard.load(str(folder / "shard"))
    try:
        points, offset = [], None
        while True:
            request = qdrant_edge.ScrollRequest(offset=offset, limit=_PAGE, with_payload=True, with_vector=True)
            found, offset = shard.scroll(request)
            points += [_plain(str(one.id), one.payload, one.vector) for one in found]
            if offset is None:
                return points
    finally:
        shard.close()


def read_server(url: str, api_key: str | None, collection: str) -> list[PlainPoint]:
    """Return every point of a server's collection."""
    from qdrant_client import QdrantClient

    client = QdrantClient(url, api_key=api_key)
    try:
        points, offset = [], None
        while True:
            found, offset = client.scroll(collection, limit=_PAGE, offset=offset, with_payload=True, with_vectors=True)
            points += [_plain(str(one.id), one.payload, one.vector) for one in found]
            if offset is None:
                return points
    finally:
        client.close()


def embed(address: str, model: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return Triton's current vectors `(n, dim)` of documents' texts."""
    import tritonclient.grpc as triton

    client = triton.InferenceServerClient(address)
    try:
        return np.concatenate([_infer(triton, client, model, texts[at : at + _TEXTS]) for at in range(0, len(texts), _TEXTS)])
    finally:
        client.close()


def search_everything(url: str, sources: Sequence[str], query: str) -> Iterator[tuple[str, str]]:
    """Yield every document of a source that an exhaustive search returns."""
    for source in sources:
        body = {"query": query, "limit": 100, "exact": True, "source": source, "group": False}
        response = httpx.post(f"{url}/v1/search", json=body, timeout=60, trust_env=False)
        for hit in response.raise_for_status().json()["hits"]:
            yield hit["source"], hit["key"]


def _plain(id_: str, payload: Any, vectors: Any) -> PlainPoint:
    vector = vectors.get(_CHUNK_VECTOR) if isinstance(vectors, dict) else None
    return PlainPoint(id_, payload or {}, None if vector is None else np.asarray(vector, np.float32))


def _infer(triton: Any, client: Any, model: str, texts: Sequence[str]) -> NDArray[np.float32]:
    inputs = []
    for name, values in (("TEXT", [text.encode() for text in texts]), ("ROLE", [b"document"] * len(texts))):
        tensor = triton.InferInput(name, [len(texts), 1], "BYTES")
        tensor.set_data_from_numpy(np.array(values, np.object_).reshape(-1, 1))
        inputs.append(tensor)
    answer = client.infer(model, inputs, outputs=[triton.InferRequestedOutput("EMBEDDING")], client_timeout=120)
    return np.asarray(answer.as_numpy("EMBEDDING"), np.float32)
