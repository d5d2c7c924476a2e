"""Open an indexer of a collection: the one way in beside the consumer's loop, and none without the list of erased documents."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from streaming.building.vector_reuse import VectorSource
from streaming.dead_letters import KafkaDeadLetters
from streaming.indexer import Indexer
from streaming.known_vectors import KnownVectors
from streaming.limits import ConsumerLimits
from twinline.clients.kafka.erasures import ErasureTopic
from twinline.clients.log_identity import claim
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import Collection


@contextmanager
def open_indexer(
    settings: Settings,
    release: Release,
    collection: Collection,
    limits: ConsumerLimits | None = None,
    reuse: VectorSource | None = None,
    known: KnownVectors | None = None,
) -> Iterator[Indexer]:
    """Open an indexer that sets messages aside on the topic of dead letters and follows the topic of erasures.

    Both connections are made at their first use, and closed at the end. The collection is the caller's to close.

    Raises:
        MismatchError: encoder, contract and collection are not of one release, or the collection is of another log.
        TransientError: the broker or the store is away.
    """
    claim(settings, collection)
    with closing(KafkaDeadLetters(settings)) as dead_letters, closing(ErasureTopic(settings)) as erasures:
        yield Indexer(collection, release, dead_letters, erasures, limits, reuse=reuse, known=known)
