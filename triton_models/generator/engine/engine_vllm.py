"""The engine on GPUs: vLLM behind the interface of `engine.py`. It has not run yet: docs/decisions/answer-engine.md.

submit ─> bounded queue here ─> `TokensPrompt` ─> vLLM's own scheduler, blocks and sampler, in this process
       ─> the constraint as a logits processor ─> emit to the request's own sink

vLLM's synchronous engine runs in this process: a constraint is an object of ours, and the asynchronous engine computes in another
process, to which it cannot go.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from triton_models.generator.engine.requests import (
    PRIORITIES,
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
    lateness,
)
from triton_models.generator.engine.scheduler import MOST_PEOPLE_IN_A_ROW
from triton_models.generator.engine.vllm_core import (
    JOBS,
    NUMBERS,
    VllmJob,
    VllmSettings,
    make_engine,
    name_of,
    parameters_of,
    prompt_of,
)
from twinline.contract.errors import DocumentError

_log = logging.getLogger(__name__)
_CLOSED = "the engine was closed before the answer was whole: ask again"


class VllmEngine:
    """Answers requests with vLLM.

    Args:
        folder: config.json and model.safetensors, those that the other formats come from.
        vocabulary: of the model.
        most_positions: of the model, answer included.
        settings: of vLLM.
        clock: seconds that only grow.

    Raises:
        SettingsError: vLLM is not installed here.
    """

    def __init__(
        self,
        folder: Path,
        vocabulary: int,
        most_positions: int,
        settings: VllmSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vocabulary, self._most_positions, self._clock = vocabulary, most_positions, clock
        self._settings = settings or VllmSettings()
        self._engine = make_engine(folder, most_positions, self._settings)
        self._changed = threading.Condition()
        self._waiting: dict[str, list[VllmJob]] = {priority: [] for priority in PRIORITIES}
        self._running: dict[str, VllmJob] = {}
        self._people_in_a_row = 0
        self._counts: Counter[str] = Counter()
        self._closed_because: str | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> "VllmEngine":
        """Run steps in a thread until `close`."""
        self._thread = threading.Thread(target=self._run, name="generator-vllm", daemon=True)
        self._thread.start()
        return self

    def submit(self, request: Request, sink: Sink) -> "Submitted":
        """Take a request; its tokens and its end go to `sink`, from the engine's thread.

        Raises:
            DocumentError: the request cannot be answered by this model.
            QueueFullError: too many wait.
            EngineClosedError: the engine ended.
        """
        job = VllmJob(request, sink, next(NUMBERS), submitted=self._clock())
        try:
            check_request(request, self._vocabulary, self._most_positions)
            with self._changed:
                if self._closed_because is not None:
                    raise EngineClosedError(self._closed_because)
                queue = self._waiting[request.priority]
                if len(queue) >= self._settings.most_waiting:
                    raise QueueFullError(
                        f"{len(queue)} requests of priority {request.priority} wait, the limit is "
                        f"{self._settings.most_waiting}: come again later",
                        retry_after_seconds=1.0,
                    )
                queue.append(job)
                self._counts["submitted"] += 1
                self._changed.notify_all()
        except (DocumentError, QueueFullError):
            with self._changed:
                self._counts["refused"] += 1
            raise
        return Submitted(self, job)

    def step(self) -> bool:
        """Do one step; return whether there was anything to compute."""
        for job, reason, message in self._late():
            self._end(job, reason, message)
        self._begin()
        if not self._running:
            return False
        outputs = self._engine.step()
        with self._changed:
            self._counts["steps"] += 1
        for output in outputs:
            if output.request_id in self._running:
                self._emit(self._running[output.request_id], output)
        return True

    def counters(self) -> Counters:
        """Return what the engine did since it began, and what it holds; blocks are vLLM's own and not told."""
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
                waiting=sum(map(len, self._waiting.values())),
                running=len(self._running),
                blocks=0,
                blocks_in_use=0,
            )

    def close(self) -> None:
        """End every request by `error`, and the thread; safe to call twice."""
        with self._changed:
            self._closed_because = self._closed_because or _CLOSED
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._end_all()

    def _cancel(self, job: VllmJob) -> None:
        job.is_cancelled = True
        with self._changed:
            self._changed.notify_all()

    def _jobs(self) -> list[VllmJob]:
        with self._changed:
            return [*self._running.values(), *(job for queue in self._waiting.values() for job in queue)]

    def _run(self) -> None:
        try:
            while self._closed_because is None:
                if not self.step():
                    with self._changed:
                        self._changed.wait_for(lambda: any(self._waiting.values()) or self._closed_because is not None)
        # vLLM fails as a whole: every caller hears of it, and the next one at once.
        except Exception as exc:  # noqa: BLE001
            _log.exception("engine_failed")
            with self._changed:
                self._closed_because = f"the engine failed ({type(exc).__name__}: {exc}): load the model again"
            self._end_all()

    def _late(self) -> list[tuple[VllmJob, Reason, str]]:
        now = self._clock()
        found: list[tuple[VllmJob, Reason, str]] = []
        for job in self._jobs():
            if job.is_cancelled:
                found.append((job, "cancelled", ""))
            elif said := lateness(job.request, len(job.tokens), now - job.submitted):
                found.append((job, "deadline", said))
        return found

    def _begin(self) -> None:
        """Hand waiting requests to vLLM as far as it takes them, people first."""
        while len(self._running) < self._settings.most_running:
            with self._changed:
                people, evaluation = self._waiting["people"], self._waiting["evaluation"]
                turn = bool(evaluation) and (not people or self._people_in_a_row >= MOST_PEOPLE_IN_A_ROW)
                queue = evaluation if turn else people
                if not queue:
                    return
                job = queue.pop(0)
                self._people_in_a_row = 0 if turn or not evaluation else self._people_in_a_row + 1
                self._running[name_of(job)] = job
            JOBS[job.number] = job
            try:
                priority = PRIORITIES.index(job.request.priority)
                self._engine.add_request(name_of(job), prompt_of(job), parameters_of(job), priority=priority)
            # vLLM's own refusals have many types; here they are one request's.
            except Exception as exc:  # noqa: BLE001
                self._end(job, "error", f"vLLM refused the request ({type(exc).__name__}: {exc})", is_in_vllm=False)

    def _emit(self, job: VllmJob, output: Any) -> None:
        """Tell the new tokens of a request, and its end."""
        if not job.tokens and not job.cached_tokens:
            job.cached_tokens = int(output.num_cached_tokens or 0)
            with self._changed:
                self._counts["prompt_tokens"] += len(job.request.prompt_ids) - job.cached_tokens
                self._counts["cached_tokens"] += job.cached_tokens
        if job.is_cancelled:
            self._end(job, "cancelled")
            return
        if job.fault:
            self._end(job, "error", job.fault)
            return
        [completion] = output.outputs
        for place, token_id in enumerate(completion.token_ids):
            raw = float(completion.logprobs[place][token_id].logprob)
            first = job.first if not job.tokens else ()
            token = Token(int(token_id), raw, raw + job.whole - job.among, first)
            if token.id in job.request.decoding.stop_ids:
                self._advance(job, [*job.tokens, token.id])
                self._end(job, "stop", stop=token, is_in_vllm=not output.finished)
                return
            job.tokens.append(token.id)
            with self._changed:
                self._counts["generated_tokens"] += 1
            if not self._tell(job, token):
                self._end(job, "cancelled", "its sink failed", is_in_vllm=not output.finished)
                return
        if self._is_finished(job):
            self._end(job, "stop", is_in_vllm=not output.finished)
        elif job.fault:
            self._end(job, "error", job.fault, is_in_vllm=not output.finished)
        elif output.finished:
            self._end(job, "length", is_in_vllm=False)

    def _is_finished(self, job: VllmJob) -> bool:
        """Return whether nothing may follow but a stop id; the constraint takes the tokens that it has not taken yet."""
        return self._advance(job, job.tokens)

    def _advance(self, job: VllmJob, tokens: Sequence[int]) -> bool:
        constraint = job.request.constraint
        if constraint is None:
            return False
        try:
            for token in tokens[job.advanced :]:
                constraint.advance(token)
                job.advanced += 1
            return constraint.finished()
        except Exception as exc:  # noqa: BLE001
            job.fault = f"the constraint failed ({type(exc).__name__}: {exc})"
            return False

    def _end(
        self, job: VllmJob, reason: Reason, message: str = "", stop: Token | None = None, *, is_in_vllm: bool | None = None
    ) -> None:
        with self._changed:
            was_running = self._running.pop(name_of(job), None) is not None
            queue = self._waiting[job.request.priority]
            if not was_running and job not in queue:
                # A sink closed the engine meanwhile, which ended everything.
                return
            if not was_running:
                queue.remove(job)
            self._counts[f"ended_{reason}"] += 1
        JOBS.pop(job.number, None)
        if was_running if is_in_vllm is None else is_in_vllm:
            self._engine.abort_request([name_of(job)])
        self._tell(job, Ended(reason, message, stop, job.cached_tokens))

    def _tell(self, job: VllmJob, event: Event) -> bool:
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
        for job in self._jobs():
            self._end(job, "error", self._closed_because or _CLOSED, is_in_vllm=False)


class Submitted:
    """A request in the engine's hands."""

    def __init__(self, engine: VllmEngine, job: VllmJob) -> None:
        self._engine, self._job = engine, job

    def cancel(self) -> None:
        """End the request: at most the token of the step in hand follows. After its end nothing happens."""
        self._engine._cancel(self._job)
