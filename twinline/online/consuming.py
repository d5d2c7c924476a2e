"""One consumer on a thread of its own: restarted after a TransientError, ended by a ContractError."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Final, Protocol

from tenacity import RetryCallState, sleep_using_event, stop_when_event_set

from twinline.clients.retry import retrying
from twinline.contract.encoder.embedding import Embedder, Embeddings
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import ContractError, TransientError

_LONGEST_PAUSE_SECONDS: Final = 15.0
# A consumer has recovered after this long without a failure.
_RECOVERED_SECONDS: Final = 10.0
_FINISHING_SHARE: Final = 0.6
_log = logging.getLogger(__name__)


class State(Protocol):
    """The state of a running consumer."""

    lag: dict[int, int]
    last_error: str
    succeeded_at: float | None


class Runnable(Protocol):
    """A consumer of one release, which the thread runs."""

    @property
    def state(self) -> State:
        """Return its lag by partition, and its last error if it is stuck."""

    def run(self, stop: threading.Event) -> None:
        """Consume until `stop` is set, then finish the batch in flight, commit and return."""


class Lag(Protocol):
    """A consumer's lag, measured by somebody else: a consumer that has ended, or is busy, measures nothing."""

    @property
    def lag(self) -> int | None:
        """Return how many offsets of the log are not handled yet; None where nobody knows."""

    @property
    def notes(self) -> list[str]:
        """Return what holds it up, in words."""

    def close(self) -> None:
        """Stop measuring."""


class Interruptible:
    """An embedder that refuses after a given moment, so that a large batch does not delay the end of the process.

    A batch is embedded before it is written, and committed after that: an interrupted batch is delivered again.
    """

    def __init__(self, embedder: Embedder, given_up: threading.Event) -> None:
        self._embedder = embedder
        self._given_up = given_up

    @property
    def space(self) -> str:
        """Return the identity of the encoder."""
        return self._embedder.space

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        """Return one vector a text; raise TransientError once the moment has come."""
        if self._given_up.is_set():
            raise TransientError("this process is stopping: the batch in flight is left for the next one")
        return self._embedder.embed(texts, role, token_counts)


class ConsumerThread:
    """Keeps one release's consumer running.

    A TransientError restarts it after a pause. A ContractError ends it, and search continues with the indexed documents. Any
    other error is a bug, and `check()` raises it to the owner of this thread.

    Args:
        release: the id of the release.
        embedder: the encoder of that release.
        make: makes the consumer around an embedder; called for every start.
        measure: begins to measure the lag, given the way to this consumer's own partitions; else it is the consumer's last count.
        show_running: takes whether the consumer runs.
    """

    def __init__(
        self,
        release: str,
        embedder: Embedder,
        make: Callable[[Embedder], Runnable],
        measure: Callable[[Callable[[], Mapping[int, object]]], Lag] | None = None,
        show_running: Callable[[bool], object] = lambda runs: None,
    ) -> None:
        self._release = release
        self._show_running = show_running
        self._began_at = time.time()
        self._stop = threading.Event()
        self._given_up = threading.Event()
        self._make = partial(make, Interruptible(embedder, self._given_up))
        self._consumer: Runnable | None = None
        self._last_error = ""
        self._began = time.monotonic()
        self._lag = measure(self._own_partitions) if measure else None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"consumer-{release}")
        self._future = self._executor.submit(self._run)

    @property
    def is_running(self) -> bool:
        """Say whether the thread is alive; it may be pausing before it tries again."""
        return not self._future.done()

    @property
    def lag(self) -> int | None:
        """Return how many offsets of the log wait to be handled; None where nobody knows."""
        if self._lag is not None:
            return self._lag.lag
        lag = self._own_partitions()
        return sum(lag.values()) if lag else None

    @property
    def notes(self) -> list[str]:
        """Return what holds the consumer up without a fault of its own, in words."""
        return self._lag.notes if self._lag else []

    @property
    def idle_seconds(self) -> float:
        """Return the time since a batch was last handled, or nothing was found to handle; at first, since this thread began."""
        succeeded_at = self._consumer.state.succeeded_at if self._consumer else None
        return max(0.0, time.time() - max(self._began_at, succeeded_at or 0.0))

    @property
    def fault(self) -> str | None:
        """Return why documents are not indexed, or None without a fault."""
        recovered = self.is_running and time.monotonic() - self._began > _RECOVERED_SECONDS
        own = "" if recovered else self._last_error
        error = own or (self._consumer.state.last_error if self._consumer else "")
        if not error:
            return None
        ended = "" if self.is_running else " (its consumer gave up: after the remedy, `twinline down` and `twinline up`)"
        return f"release {self._release} is not being indexed{ended}: {error}"

    def check(self) -> None:
        """Raise the error of a consumer that ended by a bug."""
        if self._future.done():
            self._future.result()

    def ask_to_stop(self) -> None:
        """Ask the consumer to finish the batch in flight and return."""
        self._stop.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the consumer to return after `ask_to_stop()`; say whether it did.

        Most of the time is for finishing the batch in flight; after that the batch is given up.
        """
        wait([self._future], timeout_seconds * _FINISHING_SHARE)
        self._given_up.set()
        wait([self._future], timeout_seconds * (1 - _FINISHING_SHARE))
        self._executor.shutdown(wait=False)
        if self._lag is not None:
            self._lag.close()
        return self._future.done()

    def _own_partitions(self) -> dict[int, int]:
        """Return the last counts of this consumer's own partitions; none once it has ended: then the group's count."""
        return dict(self._consumer.state.lag) if self._consumer and self.is_running else {}

    def _run(self) -> None:
        policy = retrying(
            longest_wait_seconds=_LONGEST_PAUSE_SECONDS,
            stop=stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
        ).copy(before_sleep=self._note_pause)
        self._show_running(True)
        try:
            policy(self._consume)
        except TransientError as error:
            # Stopped while a dependency was away: nothing was committed, so nothing is lost.
            _log.warning("consumer_stopped", extra={"release": self._release, "error": str(error)})
        except ContractError as error:
            self._last_error = str(error)
            _log.exception("consumer_gave_up", extra={"release": self._release})
        finally:
            self._show_running(False)

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
