"""Triton model `generate_<release>`: ids in; ids, log-probabilities and the end out, a response a token.

Beside this file lie the engine, the rooms of the contract that it imports, and the release's own files, all hashed before the
first answer. `execute` only hands requests to the engine, whose queue is the one queue.
"""

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE))

import numpy as np
import triton_python_backend_utils as pb_utils
from triton_models.generator.engine.engine import Engine
from triton_models.generator.engine.model import PagedModel
from triton_models.generator.engine.requests import Counters, Decoding, Ended, Event, Priority, Request, Token
from triton_models.generator.served import ServedGenerator, read_served
from twinline.contract.answers import tensors
from twinline.contract.errors import ContractError, DocumentError, TransientError

_log = logging.getLogger(__name__)
# A request that waits sends nothing, so that its caller's leaving must be asked for.
_ASK_SECONDS = 0.1
_ASKS_A_REPORT = 10
_HELD = ("waiting", "running", "blocks", "blocks_in_use")


class TritonPythonModel:
    """One engine; its thread sends the responses."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compare the files with their published form, compile the model, and start the engine."""
        self._served = read_served(_HERE)
        model = PagedModel(_HERE / self._served.file, self._served.most_positions, self._served.model)
        self._engine = Engine(model, self._served.limits).start()
        self._answers: set[_Answer] = set()
        self._closing = threading.Event()
        self._metrics = _Metrics(self._served.release)
        self._watcher = threading.Thread(target=self._watch, name="leaving-callers", daemon=True)
        self._watcher.start()

    def execute(self, requests: list[Any]) -> None:
        """Hand each request to the engine; a bad one is answered at once, with an error of its own."""
        for request in requests:
            sender = request.get_response_sender()
            answer = _Answer(sender, self._answers.discard)
            self._answers.add(answer)
            try:
                given = _Inputs(request)
                answer.streams = given.flag(tensors.STREAM, default=True)
                answer.cancel = self._engine.submit(read_request(given, self._served), answer).cancel
            except (ContractError, TransientError) as exc:
                self._answers.discard(answer)
                code = pb_utils.TritonError.INVALID_ARG if isinstance(exc, ContractError) else pb_utils.TritonError.UNAVAILABLE
                response = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(exc), code))
                sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def finalize(self) -> None:
        """End every answer with its outcome."""
        self._closing.set()
        self._engine.close()
        self._watcher.join()

    def _watch(self) -> None:
        asked = 0
        while not self._closing.wait(_ASK_SECONDS):
            for answer in list(self._answers):
                answer.leave_if_cancelled()
            asked += 1
            if asked % _ASKS_A_REPORT == 0:
                self._metrics.report(self._engine.counters())


class _Answer:
    """The sink of one request: events become responses."""

    def __init__(self, sender: Any, over: Callable[["_Answer"], None]) -> None:
        self._sender, self._over = sender, over
        self._tokens: list[Token] = []
        self.streams = True
        self.cancel: Callable[[], None] | None = None

    def __call__(self, event: Event) -> None:
        """Send one event, or keep it until the end where the caller wants one response."""
        if isinstance(event, Ended):
            self._over(self)
            tokens = [*_of_tokens(self._tokens), *_of_end(event)]
            self._sender.send(pb_utils.InferenceResponse(tokens), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            return
        if self.streams:
            self._sender.send(pb_utils.InferenceResponse(_of_tokens([event])))
        else:
            self._tokens.append(event)
        self.leave_if_cancelled()

    def leave_if_cancelled(self) -> None:
        """Cancel the request of a caller that left."""
        if self.cancel is not None and self._sender.is_cancelled():
            self.cancel()


class _Metrics:
    """The engine's counters among Triton's metrics, as `twinline_generator_<name>`; Triton counts the time of `execute` alone."""

    def __init__(self, release: str) -> None:
        self._release = release
        self._told: dict[str, int] = {}
        self._families: dict[str, Any] = {}
        self._metrics: dict[str, Any] = {}
        self._is_on = True

    def report(self, counters: Counters) -> None:
        """Tell what changed since the last report."""
        values = {**asdict(counters), **{f"ended_{reason}": count for reason, count in counters.ended.items()}}
        del values["ended"]
        for name, value in values.items() if self._is_on else ():
            try:
                self._tell(name, value)
            except pb_utils.TritonModelException as exc:
                # A Triton that runs without metrics answers all the same.
                self._is_on = False
                _log.warning("no_metrics", extra={"reason": str(exc)})
                return

    def _tell(self, name: str, value: int) -> None:
        if name not in self._metrics:
            kind = pb_utils.MetricFamily.GAUGE if name in _HELD else pb_utils.MetricFamily.COUNTER
            text = f"{name.replace('_', ' ')} of the generator's engine"
            self._families[name] = pb_utils.MetricFamily(name=f"twinline_generator_{name}", description=text, kind=kind)
            self._metrics[name] = self._families[name].Metric(labels={"release": self._release})
        if name in _HELD:
            self._metrics[name].set(value)
        else:
            self._metrics[name].increment(value - self._told.get(name, 0))
            self._told[name] = value


class _Inputs:
    """The tensors of one request, by name."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def array(self, name: str) -> np.ndarray[Any, Any] | None:
        """Return a tensor as a flat array, or None."""
        tensor = pb_utils.get_input_tensor_by_name(self._request, name)
        return None if tensor is None else tensor.as_numpy().reshape(-1)

    def one(self, name: str) -> Any:
        """Return the one value of a tensor, or None where there is no tensor.

        Raises:
            DocumentError: it holds more or fewer.
        """
        values = self.array(name)
        if values is None:
            return None
        if len(values) != 1:
            raise DocumentError("wrong_parameter", f"{name} has {len(values)} values: send one, or leave it out")
        return values[0].decode(errors="replace") if isinstance(values[0], bytes) else values[0].item()

    def flag(self, name: str, default: bool) -> bool:
        """Return the value of a flag."""
        value = self.one(name)
        return default if value is None else bool(value)


def read_request(given: _Inputs, served: ServedGenerator) -> Request:
    """Return the engine's request.

    Raises:
        ContractError: a value that the release does not allow.
    """
    chosen = {name: value for name in tensors.CHOICES if (value := given.one(name)) is not None}
    barred = sorted(set(chosen) - set(served.choices))
    if barred:
        allowed = ", ".join(served.choices) or "nothing"
        raise DocumentError("wrong_parameter", f"the release lets a request choose {allowed}, not {barred[0]}: leave it out")
    if chosen.get(tensors.MAX_TOKENS, 1) > served.max_tokens:
        raise DocumentError(
            "wrong_parameter", f"max_tokens is {chosen[tensors.MAX_TOKENS]}, the release allows {served.max_tokens}: ask for less"
        )
    prompt, first = given.array(tensors.INPUT_IDS), given.array(tensors.FIRST_IDS)
    chosen = {tensors.MAX_TOKENS: served.max_tokens} | chosen
    return Request(
        prompt_ids=() if prompt is None else tuple(prompt.tolist()),
        decoding=Decoding(
            stop_ids=frozenset(served.stop_ids), first_ids=() if first is None else tuple(first.tolist()), **chosen
        ),
        priority=cast(Priority, given.one(tensors.PRIORITY) or "people"),
        first_token_seconds=_seconds(given.one(tensors.FIRST_TOKEN_MS)),
        total_seconds=_seconds(given.one(tensors.TOTAL_MS)),
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _of_tokens(tokens: Sequence[Token]) -> list[Any]:
    if not tokens:
        return []
    return [
        pb_utils.Tensor(tensors.TOKEN_IDS, np.array([token.id for token in tokens], np.int64)),
        pb_utils.Tensor(tensors.LOG_PROBABILITIES, np.array([token.log_probability for token in tokens], np.float32)),
        pb_utils.Tensor(
            tensors.MASKED_LOG_PROBABILITIES, np.array([token.masked_log_probability for token in tokens], np.float32)
        ),
        *_first(tokens[0]),
    ]


def _of_end(ended: Ended) -> list[Any]:
    stop = ended.stop
    both = [] if stop is None else [stop.log_probability, stop.masked_log_probability]
    return [
        pb_utils.Tensor(tensors.FINISH_REASON, np.array([ended.reason.encode()], dtype=np.object_)),
        pb_utils.Tensor(tensors.MESSAGE, np.array([ended.message.encode()], dtype=np.object_)),
        pb_utils.Tensor(tensors.STOP_ID, np.array([-1 if stop is None else stop.id], np.int64)),
        pb_utils.Tensor(tensors.CACHED_TOKENS, np.array([ended.cached_tokens], np.int32)),
        *([pb_utils.Tensor(tensors.STOP_LOG_PROBABILITIES, np.array(both, np.float32))] if both else []),
        *(_first(stop) if stop else []),
    ]


def _first(token: Token) -> list[Any]:
    found = token.first_log_probabilities
    return [pb_utils.Tensor(tensors.FIRST_LOG_PROBABILITIES, np.array(found, np.float32))] if found else []
