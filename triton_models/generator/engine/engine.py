"""The engine on CPUs: continuous batching over a paged model, one thread, no neighbour harmed.

submit ─> wait in a bounded queue ─> begin when its blocks are there ─> step (answers first, then prompts)
       ─> mask and sample each row ─> emit to the request's own sink ─> stop, length, cancelled, deadline or error
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from triton_models.generator.engine.blocks import BlockPool
from triton_models.generator.engine.model import Model
from triton_models.generator.engine.requests import (
    REASONS,
    Counters,
    Ended,
    EngineClosedError,
    Event,
    QueueFullError,
    Reason,
    Request,
    Sink,
    Token,
    check_request,
)
from triton_models.generator.engine.scheduler import Job, Limits, Planned, Scheduler, make_job
from twinline.contract.errors import DocumentError

_log = logging.getLogger(__name__)
_CLOSED = "the engine was closed before the answer was whole: ask again"


class Engine:
    """Answers requests with one model, in steps.

    Args:
        model: computes a step; the engine alone calls it.
        limits: of steps, running and waiting requests.
        clock: seconds that only grow.
    """

    def __init__(self, model: Model, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._model, self._limits, self._clock = model, limits or Limits(), clock
        self._pool = BlockPool(model.blocks, model.block_size, self._limits.shares_prefixes)
        self._scheduler = Scheduler(self._limits, self._pool)
        # Guards the scheduler, the counts and the flag; never held while the model computes or a sink is called.
        self._changed = threading.Condition()
        self._counts: Counter[str] = Counter()
        self._closed_because: str | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> "Engine":
        """Run steps in a thread until `close`."""
        self._thread = threading.Thread(target=self._run, name="generator-engine", daemon=True)
        self._thread.start()
        return self

    def submit(self, request: Request, sink: Sink) -> "Submitted":
        """Take a request; its tokens and its end go to `sink`, from the engine's thread.

        Raises:
            DocumentError: the request cannot be answered by this model.
            QueueFullError: too many wait.
            EngineClosedError: the engine ended.
        """
        try:
            self._check(request)
            job = make_job(request, sink, self._pool.size, self._clock())
            with self._changed:
                if self._closed_because is not None:
                    raise EngineClosedError(self._closed_because)
                self._scheduler.add(job)
                self._counts["submitted"] += 1
                self._changed.notify_all()
        except (DocumentError, QueueFullError):
            with self._changed:
                self._counts["refused"] += 1
            raise
        return Submitted(self, job)

    def step(self) -> bool:
        """Do one step; return whether there was anything to compute."""
        with self._changed:
            late = self._scheduler.late(self._clock())
        for job, reason, message in late:
            self._end(job, reason, message)
        with self._changed:
            planned = self._scheduler.plan()
        if not planned:
            return False
        for one, logits in self._computed(planned):
            self._emit_next(one, logits)
        return True

    def counters(self) -> Counters:
        """Return what the engine did since it began, and what it holds."""
        with self._changed:
            counts = self._counts
            return Counters(
                submitted=counts["submitted"],
                refused=counts["refused"],
                ended={reason: counts[f"ended_{reason}"] for reason in REASONS},
                steps=counts["steps"],
                prompt_tokens=counts["prompt_tokens"],
                cached_tokens=counts["cached_tokens"],
                generated_tokens=counts["generated_tokens"],
                failed_sinks=counts["failed_sinks"],
                waiting=self._scheduler.waiting,
                running=len(self._scheduler.running),
                blocks=self._pool.blocks,
                blocks_in_use=self._pool.in_use,
            )

    def close(self) -> None:
        """End every request by `error`, and the thread; safe to call twice."""
        with self._changed:
            self._closed_because = self._closed_because or _CLOSED
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._end_all()

    def _cancel(self, job: Job) -> None:
        job.is_cancelled = True
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while self._closed_because is None:
                if not self.step():
                    self._wait()
        except Exception as exc:  # noqa: BLE001
            # A fault of the engine itself: every caller hears of it, and the next one at once.
            _log.exception("engine_failed")
            with self._changed:
                self._closed_because = f"the engine failed ({type(exc).__name__}: {exc}): load the model again"
            self._end_all()

    def _wait(self) -> None:
        """Sleep until a request comes; nothing is running then, and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._scheduler.jobs()) or self._closed_because is not None)

    def _check(self, request: Request) -> None:
        check_request(request, self._model.vocabulary, self._model.most_positions)
        tokens = len(request.prompt_ids) + request.decoding.max_tokens
        needed = self._pool.needed(tokens)
        if needed > self._pool.blocks:
            raise DocumentError(
                "too_long",
                f"{tokens} ids of prompt and answer need {needed} blocks, this engine has {self._pool.blocks}: "
                "pack fewer passages, lower max_tokens, or give the engine more blocks",
            )

    def _computed(self, planned: Sequence[Planned]) -> list[tuple[Planned, NDArray[np.float32]]]:
        """Compute the rows, and return those whose next token is due, with their logits."""
        try:
            logits = self._model.step([one.row for one in planned])
        # The errors of a runtime are of any type; here they are one request's, and the others go on.
        except Exception as exc:  # noqa: BLE001
            if len(planned) == 1:
                self._end(planned[0].job, "error", f"the model failed on this request ({type(exc).__name__}: {exc})")
                return []
            # Writing keys and values again changes nothing, so that each row may be computed again alone.
            return [found for one in planned for found in self._computed([one])]
        with self._changed:
            self._counts["steps"] += 1
            for one in planned:
                if not one.job.generated:
                    self._counts["prompt_tokens"] += len(one.row.ids)
                    if one.row.past == one.job.cached_tokens:
                        self._counts["cached_tokens"] += one.row.past
                self._scheduler.done(one)
        return list(zip((one for one in planned if one.row.wanted), logits, strict=True))

    def _emit_next(self, planned: Planned, logits: NDArray[np.float32]) -> None:
        """Choose the next token of a request, and tell it, or its end."""
        job = planned.job
        constraint, decoding = job.request.constraint, job.request.decoding
        if job.taken is None:
            # The sink of an earlier row closed the engine, which ended this one.
            return
        if job.is_cancelled:
            self._end(job, "cancelled")
            return
        try:
            allowed = None if constraint is None else constraint.allowed()
            token = job.sampler.choose(logits, allowed, is_first=not job.generated)
            stops = token.id in decoding.stop_ids
            is_finished = False
            if constraint is not None:
                constraint.advance(token.id)
                is_finished = constraint.finished()
        # A constraint is code of another room: whatever it raises is this request's end.
        except Exception as exc:  # noqa: BLE001
            self._end(job, "error", f"token {job.generated + 1} cannot be chosen ({type(exc).__name__}: {exc})")
            return
        if stops:
            self._end(job, "stop", stop=token)
            return
        job.ids.append(token.id)
        job.generated += 1
        with self._changed:
            self._counts["generated_tokens"] += 1
        if not self._tell(job, token):
            self._end(job, "cancelled", "its sink failed")
        elif is_finished:
            self._end(job, "stop")
        elif job.generated >= decoding.max_tokens:
            self._end(job, "length")

    def _end(self, job: Job, reason: Reason, message: str = "", stop: Token | None = None) -> None:
        with self._changed:
            # A sink may have closed the engine meanwhile, which ended everything.
            if not self._scheduler.remove(job):
                return
            self._counts[f"ended_{reason}"] += 1
        self._tell(job, Ended(reason, message, stop, job.cached_tokens))

    def _tell(self, job: Job, event: Event) -> bool:
        try:
            job.sink(event)
        # A caller's code: whatever it raises must not reach the neighbours.
        except Exception:  # noqa: BLE001
            _log.exception("sink_failed")
            with self._changed:
                self._counts["failed_sinks"] += 1
            return False
        return True

    def _end_all(self) -> None:
        with self._changed:
            left = self._scheduler.jobs()
        for job in left:
            self._end(job, "error", self._closed_because or _CLOSED)


class Submitted:
    """A request in the engine's hands."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine, self._job = engine, job

    def cancel(self) -> None:
        """End the request: at most the token of the step in hand follows. After its end nothing happens."""
        self._engine._cancel(self._job)
