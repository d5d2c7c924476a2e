"""One consumer on a thread of its own: started again when a dependency was away, given up when that cannot help."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final, Protocol

from tenacity import RetryCallState, sleep_using_event, stop_when_event_set

from clients.retry import retrying
from contract.errors import ContractError, TransientError

_LONGEST_PAUSE_SECONDS: Final = 15.0
# A consumer that has run this long without a failure is well again.
_RECOVERED_SECONDS: Final = 10.0
_log = logging.getLogger(__name__)


class State(Protocol):
    """What a consumer says of itself while it runs."""

    lag: dict[int, int]
    last_error: str


class Runnable(Protocol):
    """What the thread runs: a consumer of one release."""

    @property
    def state(self) -> State:
        """Return how far behind it is, by partition, and why it does not get on, if so."""

    def run(self, stop: threading.Event) -> None:
        """Consume until `stop` is set, then finish the batch in hand, commit and return."""


class ConsumerThread:
    """Keeps one release's consumer running.

    A TransientError starts it again after a pause; a ContractError ends it, and search goes on with what is indexed;
    anything else is a bug, and `check()` raises it to whoever owns this thread.

    Args:
        release: whose consumer it is.
        make: makes the consumer; called again for every start.
    """

    def __init__(self, release: str, make: Callable[[], Runnable]) -> None:
        self._release = release
        self._make = make
        self._stop = threading.Event()
        self._consumer: Runnable | None = None
        self._last_error = ""
        self._began = time.monotonic()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"consumer-{release}")
        self._future = self._executor.submit(self._run)

    @property
    def is_running(self) -> bool:
        """Say whether the thread is alive; it may be pausing before it tries again."""
        return not self._future.done()

    @property
    def lag(self) -> int | None:
        """Return how many messages wait to be indexed, as the consumer last saw it; None before it saw any."""
        lag = dict(self._consumer.state.lag) if self._consumer else {}
        return sum(lag.values()) if lag else None

    @property
    def fault(self) -> str | None:
        """Return why documents are not being indexed, or None when all is well."""
        recovered = self.is_running and time.monotonic() - self._began > _RECOVERED_SECONDS
        own = "" if recovered else self._last_error
        error = own or (self._consumer.state.last_error if self._consumer else "")
        return f"release {self._release} is not being indexed: {error}" if error else None

    def check(self) -> None:
        """Raise what the consumer did not expect, if it ended so."""
        if self._future.done():
            self._future.result()

    def ask_to_stop(self) -> None:
        """Ask the consumer to finish the batch in hand and return."""
        self._stop.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the consumer to return after `ask_to_stop()`; say whether it did."""
        wait([self._future], timeout_seconds)
        self._executor.shutdown(wait=False)
        return self._future.done()

    def _run(self) -> None:
        policy = retrying(
            longest_wait_seconds=_LONGEST_PAUSE_SECONDS,
            stop=stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
        ).copy(before_sleep=self._note_pause)
        try:
            policy(self._consume)
        except TransientError as error:
            # Asked to stop while a dependency was away: nothing was committed, so nothing is lost.
            _log.warning("consumer_stopped", extra={"release": self._release, "error": str(error)})
        except ContractError as error:
            self._last_error = str(error)
            _log.exception("consumer_gave_up", extra={"release": self._release})

    def _consume(self) -> None:
        self._began = time.monotonic()
        self._consumer = self._make()
        self._consumer.run(self._stop)
        if not self._stop.is_set():
            raise RuntimeError(f"the consumer of release {self._release} returned without being asked to")

    def _note_pause(self, state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        self._last_error, self._began = str(error), time.monotonic()
        _log.warning(
            "consumer_pauses",
            extra={"release": self._release, "error": str(error), "seconds": round(state.upcoming_sleep, 2)},
        )
