"""The consumer's law: when `handle()` returns, every message is durable, in the index or in the dead letters.

A batch that is applied twice, or in any order of redelivery, leaves the index as if it had been applied once and in order.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

from streaming.building.vector_reuse import VectorSource
from streaming.dead_letters import DeadLetter, DeadLetterSink
from streaming.decode import Event, Message, Order, decode
from streaming.erased import KnowsErasures, keep_erased_out
from streaming.heartbeat import BatchLeftError
from streaming.known_vectors import KnownVectors
from streaming.limits import ConsumerLimits
from streaming.metrics import StreamingMetrics
from streaming.plans import Decision, Plan, decide, document_ids
from streaming.points import Vectors, chunk_points, find_vectors, possible_points
from streaming.portions import PortionSize, message_bytes, pieces, portions, prefetched
from streaming.prefetch import DEPTH, NOTHING, Check, Prefetched, Prefetcher
from streaming.probe import check_that_others_pass
from twinline.clients.release import Release
from twinline.clients.store.protocol import Collection, Head, StoredPoint, stored_version
from twinline.contract.documents.filterable import mistyped
from twinline.contract.documents.ids import point_id
from twinline.contract.documents.records import Document
from twinline.contract.encoder.chunking import Chunk
from twinline.contract.errors import DocumentError, MismatchError, SettingsError, TransientError

_log = logging.getLogger(__name__)
# No message is at fault for these.
_NOBODYS_FAULT = (BatchLeftError, MismatchError, SettingsError, TransientError, MemoryError)


@dataclass(slots=True)
class Handled:
    """The outcome of a batch."""

    documents: int = 0
    deletes: int = 0
    stale: int = 0
    erased: int = 0
    chunks_embedded: int = 0
    chunks_reused: int = 0
    chunks_truncated: int = 0
    dead_letters: list[DeadLetter] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return the outcome in numbers, as repairs and replays report it."""
        names = ("documents", "deletes", "stale", "erased", "chunks_embedded", "chunks_reused")
        return {**{name: getattr(self, name) for name in names}, "dead_letters": len(self.dead_letters)}


@dataclass(frozen=True, slots=True)
class _Decided:
    """The writes of a portion without their vectors, and the points that are stored of its documents."""

    heads: Mapping[UUID, Head]
    decision: Decision
    plans: list[Plan]
    stored: list[StoredPoint]


class Indexer:
    """Applies batches of messages to one collection.

    Args:
        release: encoder and contract; they must be the collection's.
        dead_letters: takes the messages that cannot be indexed.
        erasures: the list of erased documents, none of which is taken in.
        reuse: another collection, whose vectors of unchanged texts are taken instead of embedding them.
        known: the vectors of the release's earlier texts, of any document.

    Raises:
        MismatchError: encoder, contract and collection are not of one release.
    """

    def __init__(
        self,
        collection: Collection,
        release: Release,
        dead_letters: DeadLetterSink,
        erasures: KnowsErasures,
        limits: ConsumerLimits | None = None,
        metrics: StreamingMetrics | None = None,
        reuse: VectorSource | None = None,
        known: KnownVectors | None = None,
    ) -> None:
        self._collection = collection
        self._embedder = release.embedder
        self._preprocessor = release.preprocessor
        self._words = release.words
        self._dead_letters = dead_letters
        self._erasures = erasures
        self._limits = limits or ConsumerLimits()
        self._metrics = metrics
        self._reuse = reuse
        self._known = known
        # Of the current call of `handle()`.
        self._between: Callable[[], object] = lambda: None
        self._prefetcher: Prefetcher[_Decided] = Prefetcher()
        # Seconds of the current portion that `between` took.
        self._elsewhere = 0.0
        self._size = PortionSize(self._limits.portion_seconds, self._limits.max_portion_bytes)
        log = collection.read_log()
        self._order: Order = log.order if log else "log-time"
        self._check_door()

    def handle(self, batch: Sequence[Message], between: Callable[[], object] = lambda: None) -> Handled:
        """Make a batch durable, its messages in the order of the log.

        Erased documents are kept out. Then, portion by portion, so that memory is bounded: 1. decode; 2. decide the effect of
        each message on its document; 3. embed changed texts; 4. write dead letters of refused messages; 5. write heads, then
        chunks, then delete the surplus. At the end 6. write dead letters of undecodable messages. Two portions are prefetched
        while the one before them is written.

        While a document is replaced, a reader finds it, and may find chunks of two versions; none when this returns.

        Args:
            between: called between pieces of work; an exception of it ends the batch, as a crash would.

        Raises:
            TransientError: a dependency is away; nothing is lost, and the same batch may be handled again.
            ContractError: no message is at fault, but a space, a setting or a collection.
        """
        started = time.perf_counter()
        handled = Handled()
        self._watch_clock(batch)
        # Asked after the batch was polled: a message that was appended after its document's erasure is judged by it.
        erasures = self._erasures.current()
        batch, handled.erased, kept_out = keep_erased_out(batch, erasures)
        if self._known:
            self._known.follow(erasures.fingerprint())
        undecoded = [self._letter(message, "erasure", error) for message, error in kept_out]
        size = partial(self._size.bytes, sum(map(message_bytes, batch)))
        try:
            self._between = between
            began, self._elsewhere = time.monotonic(), 0.0
            cut = portions(batch, size, self._limits.max_portion_messages)
            for portion in prefetched(cut, self._prefetch, DEPTH):
                made = self._prefetcher.take(self._look_up)
                self._apply_or_isolate(self._decode(portion, undecoded), handled, made)
                self._size.took(portion, time.monotonic() - began - self._elsewhere)
                began, self._elsewhere = time.monotonic(), 0.0
        finally:
            self._prefetcher.drop()
        # Last: their outcome never changes, and each attempt during an outage would write them again.
        self._set_aside(handled, undecoded)
        self._count(handled, time.perf_counter() - started)
        return handled

    def flush(self) -> None:
        """Make handled messages durable against the death of the machine, and not only of the process."""
        self._collection.flush()

    def _decode(self, messages: Sequence[Message], undecoded: list[DeadLetter]) -> list[Event]:
        events: list[Event] = []
        for message in messages:
            try:
                events.append(decode(message, self._order))
            except DocumentError as exc:
                undecoded.append(self._letter(message, "decode", exc))
            except _NOBODYS_FAULT:
                raise
            except Exception as exc:  # noqa: BLE001 (a defect of ours that one message reveals must not stop the others)
                self._check_that_others_pass()
                undecoded.append(self._letter(message, "decode", exc))
        return events

    def _look_up(self) -> None:
        began = time.monotonic()
        self._between()
        self._elsewhere += time.monotonic() - began

    def _prefetch(self, portion: Sequence[Message]) -> None:
        if self._limits.look_ahead:
            self._prefetcher.begin(partial(self._prefetch_chunks, portion), self._prefetch_vectors)

    def _prefetch_chunks(self, messages: Sequence[Message], check: Check) -> _Decided:
        """Cut the documents of a portion, as decided before the portions in front of it are applied."""
        check()
        events: list[Event] = []
        for message in messages:
            with suppress(DocumentError):
                events.append(decode(message, self._order))
        return self._decide(events, NOTHING, check)

    def _prefetch_vectors(self, decided: _Decided, check: Check) -> Prefetched:
        vectors = self._find_vectors(decided, NOTHING, check)
        chunks = {
            (plan.event.item.title, plan.event.item.text): list(plan.chunks)
            for plan in decided.plans
            if isinstance(plan.event.item, Document)
        }
        return Prefetched(chunks, {of: vector for of, vector in vectors.by_hash.items() if of not in vectors.kept})

    def _apply_or_isolate(self, events: Sequence[Event], handled: Handled, made: Prefetched) -> None:
        """Apply events together; when that is refused, one by one, so that only the message at fault is set aside."""
        if not events:
            return
        try:
            self._apply(events, handled, made)
        except _NOBODYS_FAULT:
            raise
        except Exception as exc:  # noqa: BLE001 (not only ContractError: as above)
            if len(events) > 1:
                for event in events:
                    self._apply_or_isolate([event], handled, made)
                return
            self._check_that_others_pass()
            self._set_aside(handled, [self._letter(events[0].message, "index", exc)])

    def _decide(self, events: Sequence[Event], made: Prefetched, check: Check = lambda: None) -> _Decided:
        def cut(document: Document) -> list[Chunk]:
            check()
            return made.cut(document, self._preprocessor.chunks)

        heads = self._read_heads(document_ids(events))
        decision = decide(events, heads, cut)
        plans = list(decision.plans.values())
        stored = self._read_vectors(possible_points(plans))
        stored += self._reuse.points_of(plans) if self._reuse else []
        return _Decided(heads, decision, plans, stored)

    def _find_vectors(self, decided: _Decided, made: Prefetched, between: Callable[[], object]) -> Vectors:
        dimension, texts_per_request = self._collection.info.dimension, self._limits.texts_per_request
        return find_vectors(
            decided.plans, decided.stored, self._embedder, dimension, texts_per_request, between, made.vectors, self._known
        )

    def _apply(self, events: Sequence[Event], handled: Handled, made: Prefetched) -> None:
        # 2. Decide.
        decided = self._decide(events, made)
        heads, decision, plans = decided.heads, decided.decision, decided.plans

        # 3. Embed before any write: most failures happen here, and leave no trace.
        vectors = self._find_vectors(decided, made, self._look_up)

        # 4. Write dead letters before newer versions: after a crash in between, the refused message would look merely stale and
        # be lost.
        refused = [self._letter(refusal.event.message, refusal.stage, refusal.error) for refusal in decision.refused]
        self._dead_letters.put(refused)

        # 5. Heads first. A plan whose head lost to a newer one, of another consumer, writes no chunks.
        self._collection.put_heads([plan.head for plan in plans])
        standing = self._read_standing([plan.head.id for plan in plans])
        winners = [plan for plan in plans if standing[plan.head.id].version == plan.head.version]
        for piece in pieces(self._points(winners, vectors), self._limits.points_per_write):
            self._collection.put_points(piece)
            self._look_up()
        self._delete_surplus(winners, [heads[id_] for id_ in document_ids(decision.stale) if id_ in heads])

        # Counted last: an attempt that failed half-way is made again.
        handled.dead_letters += refused
        handled.stale += len(decision.stale) + len(plans) - len(winners)
        handled.deletes += sum(plan.head.deleted for plan in winners)
        handled.documents += sum(not plan.head.deleted for plan in winners)
        handled.chunks_embedded += vectors.embedded
        handled.chunks_reused += sum(chunk.content_hash in vectors.kept for plan in winners for chunk in plan.chunks)
        handled.chunks_truncated += sum(chunk.truncated for plan in winners for chunk in plan.chunks)
        self._observe_freshness(winners)
        self._count_mistyped(winners)

    def _read_vectors(self, ids: Sequence[UUID]) -> list[StoredPoint]:
        return [
            point
            for piece in pieces(ids, self._limits.points_per_write)
            for point in self._collection.read_points(piece, with_vectors=True).values()
        ]

    def _read_heads(self, ids: Sequence[UUID]) -> dict[UUID, Head]:
        """Return the heads; one that an older release of Twinline wrote without a partition takes it from its first chunk."""
        heads = self._collection.read_heads(ids)
        old = [head for head in heads.values() if head.version.kind == "log" and head.version.partition is None]
        first = {point_id(head.source, head.key, 0): head for head in old if head.chunk_count}
        for id_, point in self._collection.read_points(list(first)).items():
            head, version = first[id_], stored_version(point.payload)
            if version.is_same_state(head.version):
                heads[head.id] = replace(head, version=version)
        return heads

    def _read_standing(self, ids: Sequence[UUID]) -> dict[UUID, Head]:
        standing = self._collection.read_heads(ids)
        if len(standing) < len(ids):
            # A repair or an erasure runs at this moment.
            raise TransientError(f"collection {self._collection.name} lost the head of a document while it was written: again")
        return standing

    def _points(self, winners: Sequence[Plan], vectors: Vectors) -> Iterator[StoredPoint]:
        for plan in winners:
            if isinstance(plan.event.item, Document):
                yield from chunk_points(plan, plan.event.item, self._collection.info, vectors, self._words)

    def _delete_surplus(self, winners: Sequence[Plan], overtaking: Sequence[Head]) -> None:
        """Delete the chunks beyond each document's head.

        A document needs it for one of three reasons. It was stored before, and its older version may have been longer. Another
        consumer has written it meanwhile, and neither head may keep the other's chunks. Its message was stale, and an
        interrupted attempt may have written chunks of it.
        """
        standing = self._read_standing([plan.head.id for plan in winners])
        last = [plan for plan in winners if plan.previous is None and standing[plan.head.id] == plan.head]
        beyond = {point_id(plan.head.source, plan.head.key, plan.head.chunk_count): plan.head.id for plan in last}
        crowded = {beyond[id_] for id_ in self._collection.read_points(list(beyond))}
        clean = {plan.head.id for plan in last} - crowded
        heads = {head.id: head for head in (*overtaking, *standing.values()) if head.id not in clean}
        if heads:
            self._collection.delete_surplus(list(heads.values()))

    def _check_door(self) -> None:
        info, contract = self._collection.info, self._preprocessor.contract
        for what, found, wanted in (
            ("space", self._embedder.space, info.space),
            ("contract", contract.fingerprint, info.contract_fingerprint),
        ):
            if found != wanted:
                raise MismatchError(
                    f"collection {self._collection.name} is of {what} {wanted}, this consumer brings {found}: "
                    f"start it with release {info.release}, or build a collection for this one"
                )

    def _check_that_others_pass(self) -> None:
        check_that_others_pass(self._collection, self._embedder, self._preprocessor)

    def _set_aside(self, handled: Handled, letters: Sequence[DeadLetter]) -> None:
        self._dead_letters.put(letters)
        handled.dead_letters += letters

    def _letter(self, message: Message, stage: str, error: Exception) -> DeadLetter:
        place = {"partition": message.partition, "offset": message.offset, "stage": stage, "error": str(error)}
        _log.warning("message_set_aside", extra=place)
        return DeadLetter.of(message, stage, error, self._collection.info.release)

    def _watch_clock(self, batch: Sequence[Message]) -> None:
        if self._metrics is None or self._order != "log-time":
            return
        release = self._collection.info.release
        for partition in self._metrics.alarms.saw(release, batch):
            self._metrics.clock_steps.labels(release, str(partition)).inc()

    def _observe_freshness(self, winners: Sequence[Plan]) -> None:
        if self._metrics is None:
            return
        histogram = self._metrics.freshness_seconds.labels(self._collection.info.release)
        for plan in winners:
            histogram.observe(max(0.0, time.time() - plan.event.message.timestamp_ms / 1000))

    def _count_mistyped(self, winners: Sequence[Plan]) -> None:
        info = self._collection.info
        if self._metrics is None or not info.index.declared:
            return
        for plan in winners:
            for name in mistyped(plan.head.metadata or {}, info.index.declared):
                self._metrics.mistyped.labels(info.release, name).inc()

    def _count(self, handled: Handled, seconds: float) -> None:
        if self._metrics is None:
            return
        release = self._collection.info.release
        for counter, amount in (
            (self._metrics.documents, handled.documents),
            (self._metrics.deletes, handled.deletes),
            (self._metrics.stale, handled.stale),
            (self._metrics.erased, handled.erased),
            (self._metrics.chunks_embedded, handled.chunks_embedded),
            (self._metrics.chunks_reused, handled.chunks_reused),
            (self._metrics.chunks_truncated, handled.chunks_truncated),
        ):
            counter.labels(release).inc(amount)
        for letter in handled.dead_letters:
            self._metrics.dead_letters.labels(release, letter.reason).inc()
        self._metrics.handle_seconds.labels(release).observe(seconds)
