"""What a person should know of the log of each release, although nothing stops: shown by `twinline status`."""

import logging
import threading
from collections.abc import Iterable, Sequence

from streaming.decode import Message

_log = logging.getLogger(__name__)


class Alarms:
    """The alarms of all consumers of this process. Several threads may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_topic: dict[str, list[str]] = {}
        self._of_clock: dict[tuple[str, int], str] = {}
        # Offset and append time of the last message of each partition.
        self._last: dict[tuple[str, int], tuple[int, int]] = {}

    def replace(self, release: str, texts: Sequence[str]) -> None:
        """Take the alarms about a release's topic in place of the earlier ones."""
        for text in texts:
            _log.warning("log_alarm", extra={"release": release, "alarm": text})
        with self._lock:
            self._of_topic[release] = list(texts)

    def texts(self, release: str) -> list[str]:
        """Return all alarms of a release."""
        with self._lock:
            clock = [text for (of, _), text in sorted(self._of_clock.items()) if of == release]
            return [*self._of_topic.get(release, []), *clock]

    def saw(self, release: str, messages: Iterable[Message]) -> list[int]:
        """Look at the append times of messages; return the partitions whose clock stepped back, once a step.

        Messages that come again, or behind others of their partition, say nothing.
        """
        stepped = []
        for message in messages:
            place = release, message.partition
            with self._lock:
                offset, last_ms = self._last.get(place, (-1, 0))
                if not message.appended_by_log or message.offset <= offset:
                    continue
                self._last[place] = message.offset, message.timestamp_ms
                if message.timestamp_ms >= last_ms:
                    continue
                seconds = (last_ms - message.timestamp_ms) / 1000
                self._of_clock[place] = (
                    f"the broker's clock stepped back by {seconds:g} s at {message.partition}/{message.offset}: in a partition "
                    "nothing is lost; states of one document in two partitions may have changed their order: check the clocks of "
                    "the brokers (NTP), and see that every producer partitions by the key"
                )
                _log.warning("clock_stepped_back", extra={"release": release, "alarm": self._of_clock[place]})
            stepped.append(message.partition)
        return stepped
