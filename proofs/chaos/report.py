"""The report of a run: counts that must be 0, and the size of the checked data."""

from collections.abc import Mapping, Sequence
from typing import Any

from proofs.chaos.check import Verdict
from proofs.chaos.deck import Record
from proofs.chaos.law import Name
from proofs.chaos.law import Record as Message
from proofs.chaos.messages import LABEL, POISON
from proofs.chaos.options import ChaosOptions
from proofs.chaos.searcher import Answers, availability
from proofs.chaos.system import System


def build_report(
    options: ChaosOptions,
    record: Record,
    verdict: Verdict,
    answers: Answers,
    at_rest: Mapping[str, int],
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """Return one object; `failures` names the counts that are not 0.

    Args:
        at_rest: counts from the system's coming to rest, 0 where all is well.
        context: the amount of work in the run.
    """
    search = availability(answers.asked, record.disturbed())
    counts = {
        **verdict.damage.counts,
        **at_rest,
        "missing": answers.missing,
        "deleted_found": answers.deleted_found,
        "other_release": answers.other_release,
        "failed_outside_restart": search["failed_outside_restart"],
        "not_recovered": len(record.not_recovered),
        "kills_not_made": max(0, options.kills - len(record.kills)),
    }
    return {
        **counts,
        "failures": sorted(name for name, count in counts.items() if count),
        **record.summary(),
        "search": search,
        "documents": verdict.documents,
        "deleted": verdict.deleted,
        "chunks": verdict.chunks,
        "vectors_compared": verdict.vectors,
        "worst_cosine_distance": verdict.worst_cosine_distance,
        "dead_letters": verdict.dead_letters,
        "dead_letters_redelivered": verdict.dead_letters_redelivered,
        "overtaken_messages": verdict.truth.stale,
        **context,
        "seed": options.seed,
        "sabotage": options.sabotage,
        "examples": {**verdict.damage.examples, "search": answers.examples, "not_recovered": record.not_recovered},
    }


def check_search_at_rest(verdict: Verdict, found: set[Name], answers: Answers) -> None:
    """Compare the results of searches at rest with the documents."""
    alive = {name for name, state in verdict.truth.documents.items() if state.said is not None}
    for name in sorted(alive - found):
        answers.note("missing", f"{name}, at rest")
    for name in sorted(found - alive):
        answers.note("deleted_found", f"{name}, at rest")


def accepted_poison(records: Sequence[Message], verdict: Verdict) -> int:
    """Return the number of messages made to break the envelope that the check's law accepts."""
    intended = {record.place for record in records if dict(record.headers).get(LABEL, b"").startswith(POISON)}
    return len(intended - verdict.truth.dead_letters.keys())


def crashes(system: System, codes: Mapping[str, int | None]) -> int:
    """Count ends without a cause from the harness: neither by SIGKILL nor by a request to stop."""
    ended = [one for part in system.supervised.values() for one in part.ended if not one.was_killed]
    return len(ended) - sum(code is not None for code in codes.values())
