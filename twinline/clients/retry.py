"""Trying again: only after a TransientError, with exponential pauses and jitter, and never without a bound or a way to stop."""

from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from twinline.contract.errors import TransientError

FIRST_WAIT_SECONDS = 0.25


class WaitAsAsked(wait_base):
    """An exponential pause with full jitter, no shorter than the dependency's own request."""

    def __init__(self, longest_seconds: float) -> None:
        # Jitter: many consumers that lost the same server must not come back in step.
        self._jitter = wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=longest_seconds)

    def __call__(self, retry_state: RetryCallState) -> float:
        """Return how many seconds to wait after the failure in `retry_state`."""
        failure = retry_state.outcome.exception() if retry_state.outcome else None
        asked = failure.retry_after_seconds if isinstance(failure, TransientError) else None
        return max(self._jitter(retry_state), asked or 0.0)


def retrying(
    attempts: int = 6,
    longest_wait_seconds: float = 10.0,
    *,
    stop: stop_base | None = None,
    sleep: Callable[[float], object] | None = None,
) -> Retrying:
    """Return a policy for calls that may be made twice: `retrying()(call)`, or `for attempt in retrying(): with attempt: ...`.

    Args:
        attempts: how many calls in all; the last one's error is raised as it is.
        longest_wait_seconds: the longest pause of ours; a longer one requested by the dependency is respected.
        stop: another rule than the count of attempts, such as an event.
        sleep: called for each pause, in place of sleeping.
    """
    policy = Retrying(
        retry=retry_if_exception_type(TransientError),
        wait=WaitAsAsked(longest_wait_seconds),
        stop=stop or stop_after_attempt(attempts),
        reraise=True,
    )
    return policy if sleep is None else policy.copy(sleep=sleep)
