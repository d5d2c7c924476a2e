import pytest
from tenacity import RetryCallState

from twinline.clients.retry import WaitAsAsked, retrying
from twinline.contract.errors import ContractError, TransientError, TwinlineError


class Failing:
    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def test_transient_failures_are_tried_again_with_growing_jittered_pauses() -> None:
    pauses: list[float] = []
    call = Failing(*(TransientError("away") for _ in range(5)))
    assert retrying(attempts=6, longest_wait_seconds=2.0, sleep=pauses.append)(call) == "done"
    assert call.calls == 6
    assert all(0 <= pause <= bound for pause, bound in zip(pauses, (0.25, 0.5, 1.0, 2.0, 2.0), strict=True))


def test_the_last_failure_is_raised_as_it_is() -> None:
    call = Failing(*(TransientError(str(number)) for number in range(9)))
    with pytest.raises(TransientError, match="2"):
        retrying(attempts=3, sleep=lambda seconds: None)(call)


def test_what_retrying_cannot_help_is_not_retried() -> None:
    call = Failing(ContractError("wrong"))
    with pytest.raises(ContractError):
        retrying(sleep=lambda seconds: None)(call)
    assert call.calls == 1


def test_a_pause_that_was_asked_for_is_kept() -> None:
    state = RetryCallState(retrying(), None, (), {})
    state.set_exception((TransientError, TransientError("busy", retry_after_seconds=77.0), None))  # type: ignore[arg-type]
    assert WaitAsAsked(longest_seconds=1.0)(state) == 77.0


def test_a_failure_that_is_somebody_elses_to_try_again_is_raised_at_once() -> None:
    calls = []

    class LeftError(TwinlineError):
        pass

    def leave() -> None:
        calls.append(1)
        raise LeftError("left")

    policy = retrying(sleep=lambda seconds: None)
    with pytest.raises(LeftError):
        policy(leave)
    assert len(calls) == 1
