"""Common bugs of consumers, planted in the online process: a run of the harness must find each."""

from collections.abc import Callable, Sequence
from typing import Any

from twinline.clients.store.protocol import Head


def commit_early() -> None:
    """Commit messages before they are handled: a kill in between loses them."""
    from streaming.log_reader import LogReader

    poll = LogReader.poll

    def poll_and_commit(self: LogReader, *args: Any, **more: Any) -> Any:
        batch = poll(self, *args, **more)
        if batch.messages:
            self.commit(batch.next_offsets)
        return batch

    LogReader.poll = poll_and_commit  # type: ignore[method-assign]


def no_version_check() -> None:
    """Let the last message win: a late event overwrites a newer document, or brings a deleted one back."""
    from twinline.contract.documents.records import Version

    def never(self: Version, other: Version) -> bool:
        self.check_comparable(other)
        return False

    Version.__lt__ = never  # type: ignore[method-assign]


def delete_first() -> None:
    """Remove a document's old chunks before its new ones are written: it is missing meanwhile, for long after a kill."""
    import qdrant_edge as engine

    from twinline.clients.store.edge_collection import EdgeCollection

    put_heads = EdgeCollection.put_heads

    def put_heads_and_delete(self: EdgeCollection, heads: Sequence[Head]) -> None:
        put_heads(self, heads)
        for head in heads:
            fields = {"kind": "chunk", "source": head.source, "key": head.key}
            must = [engine.FieldCondition(key=key, match=engine.MatchValue(value)) for key, value in fields.items()]
            self._shard.update(engine.UpdateOperation.delete_points_by_filter(engine.Filter(must=list(must))))

    EdgeCollection.put_heads = put_heads_and_delete  # type: ignore[method-assign]


SABOTAGES: dict[str, Callable[[], None]] = {
    "commit-early": commit_early,
    "no-version-check": no_version_check,
    "delete-first": delete_first,
}
