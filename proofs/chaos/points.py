"""The online process with named points for kills: this module runs in its place.

    python -m proofs.chaos.points      with CHAOS_FOLDER, and CHAOS_SABOTAGE for a bug that the check must find

The product has no hooks for this. Its seams are wrapped before its own `main` runs. When a wrapped call passes a point that the
harness has armed (a file), the process notes it and kills itself with SIGKILL at that very line.
"""

import json
import os
import runpy
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twinline.clients import telemetry

# The points in the order of a batch's life.
CONSUMER_POINTS = (
    "after_embed",
    "between_heads_and_chunks",
    "between_insert_and_delete",
    "after_surplus",
    "during_dead_letter",
    "after_dead_letter",
    "after_handle",
    "between_flush_and_commit",
    "after_commit",
)
START_POINTS = ("start_store_opened", "start_group_joined", "start_first_batch")
# Here Triton dies, while it works on texts of a batch.
TRITON_POINT = "while_embedding"
ONLINE_MODULE = "twinline.online"
_TRITON_DELAY_SECONDS = 0.004


class Points:
    """The armed point, if any: a file that the harness writes and this process removes at the point."""

    def __init__(self, folder: Path) -> None:
        self.armed = folder / "armed.json"
        self.reached = folder / "reached.jsonl"
        self._lock = threading.Lock()

    def passing(self, point: str) -> None:
        """Die here if this point is armed, or go on."""
        if self._take(point) is not None:
            self.note(point)
            os.kill(os.getpid(), signal.SIGKILL)

    def during(self, point: str, call: Callable[[], Any]) -> Any:
        """Let the armed victim die while a call runs, and note whether the call felt it."""
        armed = self._take(point)
        if armed is None:
            return call()
        threading.Timer(_TRITON_DELAY_SECONDS, os.kill, (armed["victim"], signal.SIGKILL)).start()
        try:
            answer = call()
        except BaseException:
            self.note(point, felt=True)
            raise
        self.note(point, felt=False)
        return answer

    def note(self, point: str, **more: object) -> None:
        """Record durably that this process has reached the point."""
        with self.reached.open("a") as file:
            file.write(json.dumps({"point": point, "pid": os.getpid(), "at": time.time(), **more}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _take(self, point: str) -> dict[str, Any] | None:
        with self._lock:
            try:
                armed: dict[str, Any] = json.loads(self.armed.read_text())
            except FileNotFoundError:
                return None
            if armed["point"] != point:
                return None
            if armed["skip"] > 0:
                # Not always at the first pass, because batches differ.
                beside = self.armed.with_suffix(".new")
                beside.write_text(json.dumps({**armed, "skip": armed["skip"] - 1}))
                beside.replace(self.armed)
                return None
            self.armed.unlink()
            return armed


def install(points: Points) -> None:
    """Wrap the product's seams. A missing seam raises AttributeError, so that no point can vanish silently."""
    import kafka

    from streaming.dead_letters import KafkaDeadLetters
    from streaming.indexer import Indexer
    from streaming.log_reader import LogReader
    from twinline.clients.settings import load_settings
    from twinline.clients.triton.embedder import TritonEmbedder

    store, collection = _store_classes(load_settings().store)

    def of_documents(_self: Any, _texts: Sequence[str], role: str, *_more: Any) -> bool:
        return role == "document"

    def not_empty(_self: Any, items: Any = (), *_more: Any) -> bool:
        return bool(items)

    embed = TritonEmbedder.embed

    def embed_while_triton_dies(self: Any, texts: Sequence[str], role: Any, *more: Any) -> Any:
        if role != "document":
            return embed(self, texts, role, *more)
        return points.during(TRITON_POINT, lambda: embed(self, texts, role, *more))

    setattr(TritonEmbedder, "embed", embed_while_triton_dies)  # noqa: B010  (its type says that nobody may)
    _after(TritonEmbedder, "embed", points, "after_embed", of_documents)
    _after(collection, "put_heads", points, "between_heads_and_chunks", not_empty)
    _before(collection, "delete_surplus", points, "between_insert_and_delete", not_empty)
    _after(collection, "delete_surplus", points, "after_surplus", not_empty)
    # Handed to the producer, and not yet confirmed by the broker.
    _after(kafka.KafkaProducer, "send", points, "during_dead_letter", lambda *_args, **_more: True)
    _after(KafkaDeadLetters, "put", points, "after_dead_letter", not_empty)
    _before(Indexer, "handle", points, "start_first_batch", not_empty)
    _after(Indexer, "handle", points, "after_handle", not_empty)
    _before(LogReader, "commit", points, "between_flush_and_commit", not_empty)
    _after(LogReader, "commit", points, "after_commit", not_empty)
    _after(store, "open", points, "start_store_opened", lambda *_args: True)
    _after(LogReader, "__init__", points, "start_group_joined", lambda *_args: True)


def _store_classes(name: str) -> tuple[type, type]:
    if name == "edge":
        from twinline.clients.store.edge import EdgeStore
        from twinline.clients.store.edge_collection import EdgeCollection

        return EdgeStore, EdgeCollection
    from twinline.clients.store.qdrant import QdrantStore
    from twinline.clients.store.qdrant_collection import QdrantCollection

    return QdrantStore, QdrantCollection


def _before(owner: type, method: str, points: Points, point: str, counts: Callable[..., bool]) -> None:
    call = getattr(owner, method)

    def wrapped(*args: Any, **more: Any) -> Any:
        if counts(*args, **more):
            points.passing(point)
        return call(*args, **more)

    setattr(owner, method, wrapped)


def _after(owner: type, method: str, points: Points, point: str, counts: Callable[..., bool]) -> None:
    call = getattr(owner, method)

    def wrapped(*args: Any, **more: Any) -> Any:
        answer = call(*args, **more)
        if counts(*args, **more):
            points.passing(point)
        return answer

    setattr(owner, method, wrapped)


def main() -> None:
    """Wrap the seams, apply the wanted bug, and become the online process."""
    from proofs.chaos.sabotage import SABOTAGES

    telemetry.apply()
    if sabotage := os.environ.get("CHAOS_SABOTAGE"):
        SABOTAGES[sabotage]()
    install(Points(Path(os.environ["CHAOS_FOLDER"])))
    runpy.run_module(ONLINE_MODULE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
