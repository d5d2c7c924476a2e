"""The conditions of this process's readiness."""

from collections.abc import Callable, Sequence

from twinline.contract.errors import TwinlineError
from twinline.search.releases import Releases

# Returns the missing conditions in words; empty when all hold.
Check = Callable[[], Sequence[str]]


def missing(checks: Sequence[Check]) -> list[str]:
    """Return all missing conditions; a check that cannot be made is a fault too."""
    faults: list[str] = []
    for check in checks:
        try:
            faults += check()
        except TwinlineError as error:
            faults.append(str(error))
    return list(dict.fromkeys(faults))


def encoder_answers(releases: Releases) -> Check:
    """Return the check that the active release can embed a query: the only proof that Triton serves it."""

    def check() -> list[str]:
        with releases.active() as served:
            served.embedder.embed(["ready"], "query")
        return []

    return check
