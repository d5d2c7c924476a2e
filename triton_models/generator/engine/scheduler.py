"""Which rows the next step has: answers first, then prompts in order, within a budget of ids.

A request begins when the blocks of its prompt and of its longest answer are there. Nothing that began ever runs out of blocks.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from triton_models.generator.engine.blocks import BlockPool, Digest, Taken, chain
from triton_models.generator.engine.model import Row
from triton_models.generator.engine.requests import PRIORITIES, Priority, QueueFullError, Reason, Request, Sink, lateness
from triton_models.generator.engine.sampler import Sampler
from twinline.contract.errors import SettingsError

# After so many people in a row one waiting evaluation begins, so that none waits for ever.
MOST_PEOPLE_IN_A_ROW: Final = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of an engine.

    Args:
        step_tokens: most ids of one step; an answer's next token waits no longer than such a step takes.
        most_running: most requests that have begun and not ended.
        most_waiting: most requests that have not begun; the next one is refused.
        shares_prefixes: whether the blocks of a prompt serve later prompts that begin alike.
    """

    step_tokens: int = 256
    most_running: int = 16
    most_waiting: int = 64
    shares_prefixes: bool = True

    def __post_init__(self) -> None:
        for name in ("step_tokens", "most_running", "most_waiting"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}: one at least")
        if self.most_running > self.step_tokens:
            raise SettingsError(
                f"most_running is {self.most_running}, step_tokens {self.step_tokens}: each running answer takes one id a step"
            )


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way. The engine's thread alone changes it, but for `is_cancelled`."""

    request: Request
    sink: Sink
    sampler: Sampler
    # of every full block of the prompt
    digests: tuple[Digest, ...]
    submitted: float
    # prompt and answer so far; keys and values of the first `computed` are in the blocks
    ids: list[int]
    computed: int = 0
    cached_tokens: int = 0
    generated: int = 0
    # None while it waits
    taken: Taken | None = None
    is_cancelled: bool = False

    @property
    def most_tokens(self) -> int:
        """Return the length of prompt and longest answer."""
        return len(self.request.prompt_ids) + self.request.decoding.max_tokens


@dataclass(frozen=True, slots=True)
class Planned:
    """A row of the next step, and its request."""

    job: Job
    row: Row


class Scheduler:
    """The requests that wait and run; the caller holds the engine's lock."""

    def __init__(self, limits: Limits, pool: BlockPool) -> None:
        self._limits, self._pool = limits, pool
        self.running: list[Job] = []
        self._waiting: dict[Priority, deque[Job]] = {priority: deque() for priority in PRIORITIES}
        self._people_in_a_row = 0

    @property
    def waiting(self) -> int:
        """Return how many requests have not begun."""
        return sum(map(len, self._waiting.values()))

    def jobs(self) -> list[Job]:
        """Return all requests, running ones first."""
        return [*self.running, *(job for jobs in self._waiting.values() for job in jobs)]

    def add(self, job: Job) -> None:
        """Put a request at the end of its queue.

        Raises:
            QueueFullError: as many of its priority wait as may.
        """
        queue = self._waiting[job.request.priority]
        if len(queue) >= self._limits.most_waiting:
            raise QueueFullError(
                f"{len(queue)} requests of priority {job.request.priority} wait, the limit is "
                f"{self._limits.most_waiting}: come again later",
                retry_after_seconds=1.0,
            )
        queue.append(job)

    def late(self, now: float) -> list[tuple[Job, Reason, str]]:
        """Return the requests that must end before the next step, with reason and message."""
        found: list[tuple[Job, Reason, str]] = []
        for job in self.jobs():
            if job.is_cancelled:
                found.append((job, "cancelled", ""))
            elif said := lateness(job.request, job.generated, now - job.submitted):
                found.append((job, "deadline", said))
        return found

    def plan(self) -> list[Planned]:
        """Return the rows of the next step; requests begin here as far as blocks and budget reach."""
        left = self._limits.step_tokens
        planned = []
        # Stable: among prompts the one that began first goes on.
        for job in sorted(self.running, key=lambda job: not job.generated):
            if left:
                planned.append(self._planned(job, left))
                left -= len(planned[-1].row.ids)
        while left and len(self.running) < self._limits.most_running and (begun := self._begin()):
            planned.append(self._planned(begun, left))
            left -= len(planned[-1].row.ids)
        return planned

    def done(self, planned: Planned) -> None:
        """Note that keys and values of a row are in its blocks; full blocks of its prompt may be shared from now on."""
        job, row = planned.job, planned.row
        before, job.computed = job.computed // self._pool.size, job.computed + len(row.ids)
        for index in range(before, min(job.computed // self._pool.size, len(job.digests))):
            self._pool.know(row.blocks[index], job.digests[index])

    def remove(self, job: Job) -> bool:
        """Forget a request, whose blocks are free then; return whether it was still there."""
        jobs = self.running if job in self.running else self._waiting[job.request.priority]
        if job not in jobs:
            return False
        jobs.remove(job)
        if job.taken is not None:
            self._pool.give_back(job.taken)
            job.taken = None
        return True

    def _planned(self, job: Job, left: int) -> Planned:
        blocks = job.taken.blocks if job.taken else ()
        ids = tuple(job.ids[job.computed : job.computed + left])
        return Planned(job, Row(ids, job.computed, blocks, job.computed + len(ids) == len(job.ids)))

    def _begin(self) -> Job | None:
        """Return the next request with its blocks, or None: none waits, or its blocks are not there yet.

        No later request passes it: a long one would wait for ever.
        """
        people, evaluation = self._waiting["people"], self._waiting["evaluation"]
        turn = bool(evaluation) and (not people or self._people_in_a_row >= MOST_PEOPLE_IN_A_ROW)
        queue = evaluation if turn else people
        if not queue:
            return None
        job = queue[0]
        # The last id of a prompt is always computed: its logits choose the first token.
        may_share = job.digests[: (len(job.ids) - 1) // self._pool.size]
        job.taken = self._pool.take(may_share, job.most_tokens)
        if job.taken is None:
            return None
        queue.popleft()
        self._people_in_a_row = 0 if turn or not evaluation else self._people_in_a_row + 1
        job.computed = job.cached_tokens = job.taken.cached * self._pool.size
        self.running.append(job)
        return job


def make_job(request: Request, sink: Sink, size: int, now: float) -> Job:
    """Return a new request's job; `size` is that of a block."""
    return Job(
        request,
        sink,
        Sampler(request.decoding),
        chain(request.prompt_ids, size),
        submitted=now,
        ids=list(request.prompt_ids),
    )
