"""How many searches are answered at once, how many may wait, and that nothing else waits for them.

A search waits for Triton and for the store, on a thread. Were they the threads that every other request uses, a model server that
hangs would take health, metrics and the page away with it.
"""

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from twinline.contract.errors import TransientError

# Enough for Triton to find full batches; more only take turns at the interpreter.
AT_ONCE: Final = 32
# As many as are answered in a second or two. More would wait too long, so they are rejected at once.
MOST_WAITING: Final = 256
_RETRY_SECONDS: Final = 1.0
P = ParamSpec("P")
T = TypeVar("T")


class Admission:
    """Runs searches on threads of their own. For one event loop."""

    def __init__(self, at_once: int = AT_ONCE, most_waiting: int = MOST_WAITING) -> None:
        self._at_once = at_once
        self._most = at_once + most_waiting
        self._admitted = 0
        self._limiter: CapacityLimiter | None = None

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a call returns, once it is its turn.

        Raises:
            TransientError: too many wait already; it says when to try again.
        """
        if self._admitted >= self._most:
            raise TransientError(
                f"search is overloaded: {self._admitted} questions are being answered or wait: try again, or run more search "
                "processes (TWINLINE_STORE=qdrant)",
                _RETRY_SECONDS,
            )
        # Made here and not above: it belongs to the loop that runs it.
        self._limiter = self._limiter or CapacityLimiter(self._at_once)
        self._admitted += 1
        try:
            return await run_sync(lambda: call(*args, **kwargs), limiter=self._limiter)
        finally:
            self._admitted -= 1
