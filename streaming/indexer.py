"""The consumer's law: when `handle()` returns, every message is durable, in the index or in the dead letters.

Applied twice, or in any order of redelivery, a batch leaves the index as if it had been applied once and in order.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from clients.store import Collection
from contract.embedding import Embedder
from contract.errors import ContractError, DocumentError, MismatchError, SettingsError
from contract.preprocess import Preprocessor
from contract.records import Document
from streaming.dead_letters import DeadLetter, DeadLetterSink
from streaming.decode import Event, Message, decode
from streaming.donors import Donor
from streaming.limits import ConsumerLimits
from streaming.metrics import StreamingMetrics
from streaming.plans import Plan, decide, document_ids
from streaming.points import chunk_points, find_vectors, possible_points

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Handled:
    """What became of a batch."""

    documents: int = 0
    deletes: int = 0
    stale: int = 0
    chunks_embedded: int = 0
    chunks_reused: int = 0
    chunks_truncated: int = 0
    dead_letters: list[DeadLetter] = field(default_factory=list)


class Indexer:
    """Applies batches of messages to one collection.

    Raises:
        MismatchError: encoder, contract and collection are not of one release.
    """

    def __init__(
        self,
        collection: Collection,
        embedder: Embedder,
        preprocessor: Preprocessor,
        dead_letters: DeadLetterSink,
        limits: ConsumerLimits | None = None,
        metrics: StreamingMetrics | None = None,
    ) -> None:
        self._collection = collection
        self._embedder = embedder
        self._preprocessor = preprocessor
        self._dead_letters = dead_letters
        self._limits = limits or ConsumerLimits()
        self._metrics = metrics
        self._donor: Donor | None = None
        self._check_door()

    def take_vectors_from(self, donor: Donor) -> None:
        """Look for vectors of texts that did not change in another collection, too, before they are embedded."""
        self._donor = donor

    def handle(self, batch: Sequence[Message]) -> Handled:
        """Make a batch durable, its messages in the order of the log.

        1. decode; 2. decide what each message makes of its document; 3. embed what changed; 4. dead letters of what was decided
        against; 5. heads, then chunks, then the surplus; 6. dead letters of what could not be decoded.

        Raises:
            TransientError: something is away; nothing is lost, and the same batch may be handled again.
            ContractError: not a message is wrong but what it all runs on (a space, a setting, a collection).
        """
        started = time.perf_counter()
        handled = Handled()
        events: list[Event] = []
        undecoded: list[DeadLetter] = []
        for message in batch:
            try:
                events.append(decode(message))
            except DocumentError as exc:
                undecoded.append(self._letter(message, "decode", exc))
        self._apply_or_isolate(events, handled)
        # Last: they are what they are however often they come, and would be written again with each attempt during an outage.
        self._set_aside(handled, undecoded)
        self._count(handled, time.perf_counter() - started)
        return handled

    def flush(self) -> None:
        """Make what was handled durable against the death of the machine, not only of the process."""
        self._collection.flush()

    def _apply_or_isolate(self, events: Sequence[Event], handled: Handled) -> None:
        """Apply events together; when a ContractError comes of it, one by one, so that only the culprit is set aside."""
        try:
            self._apply(events, handled)
        except (MismatchError, SettingsError):
            raise
        except ContractError as exc:
            if len(events) > 1:
                for event in events:
                    self._apply_or_isolate([event], handled)
                return
            self._check_that_others_pass()
            self._set_aside(handled, [self._letter(events[0].message, "index", exc)])

    def _apply(self, events: Sequence[Event], handled: Handled) -> None:
        # 2. Decide.
        heads = self._collection.read_heads(document_ids(events))
        decision = decide(events, heads, self._preprocessor.chunks)
        plans = list(decision.plans.values())

        # 3. Embed, before anything is written: most failures happen here, and leave no trace.
        stored = list(self._collection.read_points(possible_points(plans), with_vectors=True).values())
        stored += self._donor.points_of(plans) if self._donor else []
        vectors = find_vectors(plans, stored, self._embedder, self._limits.texts_per_request)

        # 4. What was refused is set aside before a newer message of its document is written: to a redelivery after a crash in
        # between, it would be no more than overtaken, and would end nowhere.
        refused = [self._letter(refusal.event.message, refusal.stage, refusal.error) for refusal in decision.refused]
        self._dead_letters.put(refused)

        # 5. Heads first. One that lost to a newer head, of another consumer, writes no chunks.
        self._collection.put_heads([plan.head for plan in plans])
        standing = self._collection.read_heads([plan.head.id for plan in plans])
        winners = [plan for plan in plans if standing[plan.head.id].version == plan.head.version]
        points = [
            point
            for plan in winners
            if isinstance(plan.event.item, Document)
            for point in chunk_points(plan, plan.event.item, self._collection.info, vectors)
        ]
        self._collection.put_points(points)
        # Read once more: a newer head that came since must not be left with our chunks.
        standing = self._collection.read_heads([plan.head.id for plan in winners])
        self._collection.delete_surplus(
            [standing[plan.head.id] for plan in winners if plan.previous or standing[plan.head.id] != plan.head]
        )

        # Counted only now: an attempt that failed half-way is made again.
        handled.dead_letters += refused
        handled.stale += len(decision.stale) + len(plans) - len(winners)
        handled.deletes += sum(plan.head.deleted for plan in winners)
        handled.documents += sum(not plan.head.deleted for plan in winners)
        handled.chunks_embedded += vectors.embedded
        handled.chunks_reused += sum(point.payload["content_hash"] in vectors.kept for point in points)
        handled.chunks_truncated += sum(chunk.truncated for plan in winners for chunk in plan.chunks)
        self._observe_freshness(winners)

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
        """Raise when the encoder or the collection refuses anything at all: then no message is to blame."""
        self._embedder.embed(["probe"], "document")
        self._collection.count({"kind": "head"})

    def _set_aside(self, handled: Handled, letters: Sequence[DeadLetter]) -> None:
        self._dead_letters.put(letters)
        handled.dead_letters += letters

    def _letter(self, message: Message, stage: str, error: ContractError) -> DeadLetter:
        place = {"partition": message.partition, "offset": message.offset, "stage": stage, "error": str(error)}
        _log.warning("message_set_aside", extra=place)
        return DeadLetter.of(message, stage, error, self._collection.info.release)

    def _observe_freshness(self, winners: Sequence[Plan]) -> None:
        if self._metrics is None:
            return
        histogram = self._metrics.freshness_seconds.labels(self._collection.info.release)
        for plan in winners:
            histogram.observe(max(0.0, time.time() - plan.event.message.timestamp_ms / 1000))

    def _count(self, handled: Handled, seconds: float) -> None:
        if self._metrics is None:
            return
        release = self._collection.info.release
        for counter, amount in (
            (self._metrics.documents, handled.documents),
            (self._metrics.deletes, handled.deletes),
            (self._metrics.stale, handled.stale),
            (self._metrics.chunks_embedded, handled.chunks_embedded),
            (self._metrics.chunks_reused, handled.chunks_reused),
            (self._metrics.chunks_truncated, handled.chunks_truncated),
        ):
            counter.labels(release).inc(amount)
        for letter in handled.dead_letters:
            self._metrics.dead_letters.labels(release, letter.reason).inc()
        self._metrics.handle_seconds.labels(release).observe(seconds)
