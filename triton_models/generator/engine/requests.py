"""The words between the engine and its callers: a request, its tokens, its outcome, and how a full engine refuses."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from twinline.contract.answers.constraint import Constraint
from twinline.contract.errors import DocumentError, SettingsError, TransientError

Priority: TypeAlias = Literal["people", "evaluation"]
PRIORITIES: Final[tuple[Priority, ...]] = ("people", "evaluation")
# stop: a stop id, or nothing may follow; length: the most tokens; error: the request or the model failed, its neighbours go on
Reason: TypeAlias = Literal["stop", "length", "cancelled", "deadline", "error"]
REASONS: Final[tuple[Reason, ...]] = ("stop", "length", "cancelled", "deadline", "error")


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the next token is chosen, and when the answer ends.

    Args:
        max_tokens: the most tokens of the answer; the stop id is not among them.
        stop_ids: ids that end the answer.
        temperature: 0 takes the likeliest token, the lowest id where two are equal.
        top_p: the likeliest tokens whose probabilities reach this sum are drawn from; 1: all.
        top_k: so many of the likeliest tokens at most are drawn from; 0: all.
        seed: of this request's own generator, so that neighbours change nothing.
        first_ids: ids whose log-probability at the first step is told, a refusal's for example.
    """

    max_tokens: int
    stop_ids: frozenset[int] = frozenset()
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    first_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise SettingsError(f"max_tokens is {self.max_tokens}: an answer has at least one token")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise SettingsError(f"temperature is {self.temperature}: 0 (greedy) or a positive number")
        if not 0 < self.top_p <= 1:
            raise SettingsError(f"top_p is {self.top_p}: more than 0, and 1 at most")
        if self.top_k < 0:
            raise SettingsError(f"top_k is {self.top_k}: 0 (all) or more")
        if self.seed < 0:
            raise SettingsError(f"seed is {self.seed}: 0 or more")


@dataclass(frozen=True, slots=True)
class Request:
    """Ids of a prompt and what to do with them.

    Args:
        prompt_ids: of the whole prompt, in order; nothing is added.
        decoding: settings of the contract.
        constraint: an object of this request alone; None: every token is allowed.
        priority: people go before evaluation.
        first_token_seconds: a request without a token after so long ends by `deadline`; None: never.
        total_seconds: a request that is not done after so long ends by `deadline`; None: never.
    """

    prompt_ids: tuple[int, ...]
    decoding: Decoding
    constraint: Constraint | None = None
    priority: Priority = "people"
    first_token_seconds: float | None = None
    total_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.priority not in PRIORITIES:
            raise SettingsError(f"priority is {self.priority!r}: choose from {', '.join(PRIORITIES)}")
        for name, seconds in (("first_token_seconds", self.first_token_seconds), ("total_seconds", self.total_seconds)):
            if seconds is not None and not seconds > 0:
                raise SettingsError(f"{name} is {seconds}: a positive number of seconds, or None")


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer.

    Args:
        id: in the vocabulary.
        log_probability: among all tokens, before temperature and mask.
        masked_log_probability: among the allowed tokens; equal to the other where all are.
        first_log_probabilities: of `Decoding.first_ids`, among all tokens; with the first token only.
    """

    id: int
    log_probability: float
    masked_log_probability: float
    first_log_probabilities: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """The outcome of a request; nothing follows it.

    Args:
        reason: why there are no more tokens.
        message: names the value, the place and the remedy of an error or deadline; empty otherwise.
        stop: the stop id that ended the answer, which is not among its tokens; None where none was decoded.
        cached_tokens: ids of the prompt whose keys and values were there already.
    """

    reason: Reason
    message: str = ""
    stop: Token | None = None
    cached_tokens: int = 0


Event: TypeAlias = Token | Ended
# Called by the engine's thread: it must return at once. A sink that raises ends its own request.
Sink: TypeAlias = Callable[[Event], None]


class QueueFullError(TransientError):
    """As many requests wait as may: the caller is refused at once, and may come again."""


class EngineClosedError(TransientError):
    """The engine ended, by `close` or by a fault of its own."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What an engine did since it began, and what it holds now."""

    submitted: int
    refused: int
    ended: dict[Reason, int]
    steps: int
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    failed_sinks: int
    waiting: int
    running: int
    blocks: int
    blocks_in_use: int


class Handle(Protocol):
    """A request in the engine's hands."""

    def cancel(self) -> None:
        """End the request: at most one more token follows."""


class Generator(Protocol):
    """An engine, whatever computes in it."""

    def submit(self, request: Request, sink: Sink) -> Handle:
        """Take a request; its tokens and its end go to `sink`.

        Raises:
            DocumentError: the request cannot be answered by this engine.
            QueueFullError: too many wait.
            EngineClosedError: the engine ended.
        """

    def counters(self) -> Counters:
        """Return what the engine did and holds."""

    def close(self) -> None:
        """End every request with an outcome, and the engine."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A whole answer."""

    tokens: tuple[Token, ...]
    ended: Ended

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the ids of the answer, without the stop id."""
        return tuple(token.id for token in self.tokens)


class Gathered:
    """A sink that keeps the events of one request until it ends."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self._ended: Ended | None = None
        self._is_over = threading.Event()

    def __call__(self, event: Event) -> None:
        """Keep one event."""
        if isinstance(event, Token):
            self.tokens.append(event)
        else:
            self._ended = event
            self._is_over.set()

    def result(self, timeout_seconds: float) -> Generation:
        """Wait for the end, and return the answer.

        Raises:
            TransientError: the end did not come in time.
        """
        if not self._is_over.wait(timeout_seconds) or self._ended is None:
            raise TransientError(f"no end of the answer after {timeout_seconds} s, {len(self.tokens)} tokens so far: cancel it")
        return Generation(tuple(self.tokens), self._ended)


def generate(engine: Generator, request: Request, timeout_seconds: float = 600) -> Generation:
    """Return the whole answer of one request; a caller that gives up cancels it."""
    sink = Gathered()
    handle = engine.submit(request, sink)
    try:
        return sink.result(timeout_seconds)
    except BaseException:
        handle.cancel()
        raise


def lateness(request: Request, tokens: int, waited_seconds: float) -> str:
    """Return what is to be said of a request whose deadline has passed; empty: it has not."""
    if request.total_seconds is not None and waited_seconds >= request.total_seconds:
        return f"{tokens} tokens after {request.total_seconds} s: allow more time, or fewer tokens"
    if request.first_token_seconds is not None and not tokens and waited_seconds >= request.first_token_seconds:
        return f"no token after {request.first_token_seconds} s: the engine is busy, ask again later"
    return ""


def check_request(request: Request, vocabulary: int, most_positions: int) -> None:
    """Refuse what no engine with these weights can answer.

    Raises:
        DocumentError: an empty or too long prompt, or an id outside the vocabulary.
    """
    prompt, decoding = request.prompt_ids, request.decoding
    if not prompt:
        raise DocumentError("empty_prompt", "the prompt has no ids: send at least one")
    for name, ids in (("prompt_ids", prompt), ("stop_ids", decoding.stop_ids), ("first_ids", decoding.first_ids)):
        wrong = next((one for one in ids if not 0 <= one < vocabulary), None)
        if wrong is not None:
            raise DocumentError(
                "unknown_id",
                f"{name} holds {wrong}, the vocabulary ends at {vocabulary - 1}: encode with this release's tokenizer.json",
            )
    if len(prompt) + decoding.max_tokens > most_positions:
        raise DocumentError(
            "too_long",
            f"{len(prompt)} prompt ids and {decoding.max_tokens} tokens of answer are more than the {most_positions} "
            "positions of the model: pack fewer passages, or lower max_tokens",
        )
