"""Lag as the broker says it now, on a thread of its own: also while the consumer is busy, away from its group, or has ended."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

from streaming.metrics import StreamingMetrics
from twinline.clients.kafka.standing import Standing, StandingReader
from twinline.clients.settings import Settings
from twinline.contract.errors import TwinlineError

_log = logging.getLogger(__name__)
_EVERY_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 2.0


class LagReporter:
    """Measures one group's place in the topic of documents every two seconds.

    Args:
        own_partitions: the partitions to show as metrics, of several consumers of one group; empty: all.
    """

    def __init__(
        self,
        settings: Settings,
        group: str,
        release: str,
        metrics: StreamingMetrics | None = None,
        own_partitions: Callable[[], Mapping[int, object]] = dict,
    ) -> None:
        self._reader = StandingReader(settings, group, settings.topic)
        self._release, self._metrics, self._own_partitions = release, metrics, own_partitions
        self._standing: Standing | None = None
        self._problem = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lag-{release}", daemon=True)
        self._thread.start()

    @property
    def lag(self) -> int | None:
        """Return how many offsets the group is behind; None where the broker does not say."""
        standing = self._standing
        return None if standing is None else sum(standing.behind.values())

    @property
    def notes(self) -> list[str]:
        """Return what a person should know about the lag: open transactions, a topic that was made again, no answer."""
        standing = self._standing
        if standing is None:
            return [f"the lag is unknown: {self._problem}"] if self._problem else []
        again = [
            f"partition {number} ends below what was committed: the topic was made again, or its log has lost its end; "
            "it is read from its beginning"
            for number in standing.made_again
        ]
        return [*standing.held_up, *again]

    def close(self) -> None:
        """Stop measuring."""
        self._stop.set()
        # One question to a broker that is away takes longer; the thread ends with its process then.
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                standing = self._reader.read()
            except TwinlineError as exc:
                self._standing, self._problem = None, str(exc)
                _log.info("lag_unknown", extra={"release": self._release, "error": str(exc)})
            else:
                self._standing, self._problem = standing, ""
                self._show(standing)
            self._stop.wait(_EVERY_SECONDS)
        self._reader.close()

    def _show(self, standing: Standing) -> None:
        if self._metrics is not None:
            own = self._own_partitions()
            self._metrics.show_lag(self._release, {at: lag for at, lag in standing.behind.items() if not own or at in own})
