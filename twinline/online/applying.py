"""Messages of the log applied again to a served collection, for a repair or a replay, by the consumer's own `handle()`.

The collection's consumer runs beside it: by the law, two writers leave the same result as one.
"""

import threading
from collections.abc import Sequence

from streaming.decode import Message
from streaming.limits import ConsumerLimits
from streaming.opening import open_indexer
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
        """Make messages durable in a collection, or in the dead letters; return counts of the outcomes.

        Raises:
            TransientError: a dependency is away; the same call may be made again.
        """
        with (
            self._applying,
            self._releases.using(name) as served,
            open_indexer(self._settings, served.release, served.collection, self._limits) as indexer,
        ):
            return indexer.handle(messages).counts()
