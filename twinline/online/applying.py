"""Messages of the log applied once more to a served collection, for a repair or a replay, by the consumer's own `handle()`.

The consumer of the collection goes on beside it: the law makes two of them as good as one.
"""

import threading
from collections.abc import Sequence

from streaming.dead_letters import KafkaDeadLetters
from streaming.decode import Message
from streaming.indexer import Handled, Indexer
from streaming.limits import ConsumerLimits
from twinline.clients.kafka.erasures import ErasureTopic
from twinline.clients.settings import Settings
from twinline.search.releases import Releases


class Applier:
    """Applies messages to the collections of this process, one batch at a time."""

    def __init__(self, releases: Releases, settings: Settings, limits: ConsumerLimits) -> None:
        self._releases = releases
        self._settings = settings
        self._limits = limits
        self._applying = threading.Lock()

    def apply(self, name: str, messages: Sequence[Message]) -> dict[str, int]:
        """Make messages durable in a collection, or in the dead letters; return counts of what came of them.

        Raises:
            TransientError: something is away; the same call may be made again.
        """
        with self._applying, self._releases.using(name) as served:
            dead_letters, erasures = KafkaDeadLetters(self._settings), ErasureTopic(self._settings)
            try:
                indexer = Indexer(served.collection, served.embedder, served.preprocessor, dead_letters, self._limits)
                indexer.keep_out(erasures)
                return counts_of(indexer.handle(messages))
            finally:
                dead_letters.close()
                erasures.close()


def counts_of(handled: Handled) -> dict[str, int]:
    """Return what became of a batch, in numbers."""
    names = ("documents", "deletes", "stale", "erased", "chunks_embedded", "chunks_reused")
    return {**{name: getattr(handled, name) for name in names}, "dead_letters": len(handled.dead_letters)}
