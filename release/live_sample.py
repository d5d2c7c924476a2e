"""Check sampled documents of a collection that keeps changing: what disagrees is looked at again before it counts."""

from collections.abc import Mapping
from typing import Final

from clients.store import Head
from release.checks import Check
from release.log_sample import DocumentKey, LogState
from release.verify import Candidate, Reads, equal_checks, found_checks, read_heads, still_current

_LOOKS: Final = 3


def live_sample_checks(candidate: Candidate, reads: Reads, state: LogState, heads: Mapping[DocumentKey, Head]) -> list[Check]:
    """Return the checks of the sampled documents that stayed as the log had them for as long as they were looked at.

    A document that was updated or deleted between the reading of the heads and the look at its chunks is not the one that the log
    had, and no fault of the collection.
    """
    documents = still_current(state.documents, state, heads)
    for _ in range(_LOOKS):
        checks = [*equal_checks(candidate, reads, documents), *found_checks(candidate, reads, documents)]
        if all(check.passed for check in checks):
            break
        now = still_current(state.documents, state, read_heads(reads, candidate.collection))
        if len(now) == len(documents):
            break
        documents = now
    return checks
