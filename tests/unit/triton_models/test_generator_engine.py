"""The engine around a pretended model, step by step: every request ends with an outcome, and none changes another's answer."""

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.unit.triton_models.generator_models import STOP, VOCABULARY, Clock, PretendedModel, answer
from triton_models.generator.engine.engine import Engine
from triton_models.generator.engine.model import Row
from triton_models.generator.engine.requests import (
    Decoding,
    Ended,
    EngineClosedError,
    Event,
    Gathered,
    Priority,
    QueueFullError,
    Request,
    Token,
    generate,
)
from triton_models.generator.engine.scheduler import MOST_PEOPLE_IN_A_ROW, Limits
from twinline.contract.errors import DocumentError, SettingsError, TransientError

LIMITS = Limits(step_tokens=8, most_running=4, most_waiting=3)


def asked(*prompt: int, tokens: int = 5, **more: object) -> Request:
    return Request(prompt, Decoding(tokens, frozenset({STOP})), **more)  # type: ignore[arg-type]


def run_out(engine: Engine, most: int = 500) -> None:
    for _ in range(most):
        if not engine.step():
            return
    pytest.fail("the engine does not come to an end")


def ids(sink: Gathered) -> tuple[int, ...]:
    return sink.result(0.01).ids


def reason(sink: Gathered) -> str:
    return sink.result(0.01).ended.reason


class Allowed:
    """A constraint that allows a list of tokens, one after the other, and then nothing but the stop id."""

    def __init__(self, *tokens: int, finishes: bool = True) -> None:
        self.left, self.finishes, self.advanced = list(tokens), finishes, list[int]()

    def allowed(self) -> NDArray[np.bool_] | None:
        mask = np.zeros(VOCABULARY, np.bool_)
        mask[self.left[0] if self.left else STOP] = True
        return mask

    def advance(self, token: int) -> None:
        assert token == (self.left.pop(0) if self.left else STOP)
        self.advanced.append(token)

    def finished(self) -> bool:
        return self.finishes and not self.left


def test_an_answer_is_the_models_own_and_ends_at_the_most_tokens() -> None:
    engine = Engine(PretendedModel(), LIMITS)
    sink = Gathered()
    engine.submit(asked(5, 6, 7), sink)
    run_out(engine)
    assert ids(sink) == answer((5, 6, 7), 5)
    assert reason(sink) == "length"
    assert engine.counters().blocks_in_use == 0


@pytest.mark.parametrize("length", range(1, 24))
def test_prompts_of_every_length_are_computed_in_chunks(length: int) -> None:
    model = PretendedModel()
    engine = Engine(model, LIMITS)
    prompt = tuple(2 + place % 40 for place in range(length))
    for _ in range(2):
        sink = Gathered()
        engine.submit(asked(*prompt, tokens=9), sink)
        run_out(engine)
        assert ids(sink) == answer(prompt, 9)
    # once cold and once from the cache, every full block but that of the last id
    cached = (length - 1) // 4 * 4
    assert sink.result(0).ended.cached_tokens == engine.counters().cached_tokens == cached
    assert engine.counters().prompt_tokens == 2 * length - cached
    assert max(sum(len(row.ids) for row in rows) for rows in model.steps) <= 8


def test_a_step_takes_answers_first_and_bounds_the_prompts_beside_them() -> None:
    model = PretendedModel(blocks=32)
    engine = Engine(model, LIMITS)
    first, second = Gathered(), Gathered()
    engine.submit(asked(5, tokens=20), first)
    engine.step()
    engine.submit(asked(*range(2, 32), tokens=2), second)
    for _ in range(4):
        engine.step()
    assert [[len(row.ids) for row in rows] for rows in model.steps] == [[1], [1, 7], [1, 7], [1, 7], [1, 7]]
    assert len(first.tokens) == 5
    run_out(engine)
    assert (ids(first), ids(second)) == (answer((5,), 20), answer(range(2, 32), 2))


def test_a_stop_id_ends_the_answer_and_is_told_apart() -> None:
    engine = Engine(PretendedModel(), LIMITS)
    sink = Gathered()
    constraint = Allowed(9, 8, finishes=False)
    engine.submit(asked(5, constraint=constraint), sink)
    run_out(engine)
    found = sink.result(0)
    assert (found.ids, found.ended.reason) == ((9, 8), "stop")
    assert constraint.advanced == [9, 8, STOP]
    assert found.ended.stop is not None
    assert found.ended.stop.id == STOP
    assert found.ended.stop.masked_log_probability == pytest.approx(0, abs=1e-6)
    assert found.ended.stop.log_probability < -1


def test_a_constraint_after_which_nothing_may_follow_ends_the_answer_at_once() -> None:
    model = PretendedModel()
    engine = Engine(model, LIMITS)
    sink = Gathered()
    constraint = Allowed(9, 8, 7)
    engine.submit(asked(5, constraint=constraint), sink)
    run_out(engine)
    assert (ids(sink), reason(sink), constraint.advanced, len(model.steps)) == ((9, 8, 7), "stop", [9, 8, 7], 3)


def test_the_refusals_log_probability_comes_with_the_first_token_even_if_that_is_the_stop_id() -> None:
    engine = Engine(PretendedModel(), LIMITS)
    plain, stopped = Gathered(), Gathered()
    decoding = Decoding(3, frozenset({STOP}), first_ids=(4, STOP))
    engine.submit(Request((5, 6), decoding), plain)
    engine.submit(Request((5, 6), decoding, Allowed()), stopped)
    run_out(engine)
    first, *others = plain.tokens
    assert len(first.first_log_probabilities) == 2
    assert all(token.first_log_probabilities == () for token in others)
    stop = stopped.result(0).ended.stop
    assert stop is not None
    assert stop.first_log_probabilities == first.first_log_probabilities


@pytest.mark.parametrize(
    ("prompt", "decoding", "slug"),
    [
        ((), Decoding(1), "empty_prompt"),
        ((VOCABULARY,), Decoding(1), "unknown_id"),
        ((3, -1), Decoding(1), "unknown_id"),
        ((2**40,), Decoding(1), "unknown_id"),
        ((3,), Decoding(1, frozenset({VOCABULARY})), "unknown_id"),
        ((3,), Decoding(1, frozenset({-1})), "unknown_id"),
        ((3,), Decoding(1, first_ids=(VOCABULARY,)), "unknown_id"),
        ((3,) * 64, Decoding(1), "too_long"),
        ((3,) * 60, Decoding(5), "too_long"),
        ((3,), Decoding(64), "too_long"),
        ((3,), Decoding(10**9), "too_long"),
    ],
)
def test_what_cannot_be_answered_is_refused_at_once_and_harms_no_neighbour(
    prompt: tuple[int, ...], decoding: Decoding, slug: str
) -> None:
    engine = Engine(PretendedModel(blocks=20), LIMITS)
    neighbour = Gathered()
    engine.submit(asked(5, 6), neighbour)
    engine.step()
    with pytest.raises(DocumentError) as refused:
        engine.submit(Request(prompt, decoding), Gathered())
    assert refused.value.reason == slug
    run_out(engine)
    assert ids(neighbour) == answer((5, 6), 5)
    assert (engine.counters().refused, engine.counters().submitted) == (1, 1)


@pytest.mark.parametrize(("prompt", "tokens", "fits"), [(30, 10, True), (30, 11, False), (1, 39, True), (1, 40, False)])
def test_a_request_that_the_blocks_can_never_hold_is_refused(prompt: int, tokens: int, fits: bool) -> None:
    engine = Engine(PretendedModel(blocks=10), LIMITS)
    sink = Gathered()
    if not fits:
        with pytest.raises(DocumentError, match="need 11 blocks, this engine has 10"):
            engine.submit(asked(*[3] * prompt, tokens=tokens), sink)
        return
    engine.submit(asked(*[3] * prompt, tokens=tokens), sink)
    run_out(engine)
    assert len(ids(sink)) == tokens


def test_a_request_as_long_as_the_model_allows_is_answered() -> None:
    engine = Engine(PretendedModel(blocks=20), LIMITS)
    sink = Gathered()
    engine.submit(asked(*[3] * 60, tokens=4), sink)
    run_out(engine)
    assert ids(sink) == answer([3] * 60, 4)


class Broken(Allowed):
    """A constraint with a fault at one of its calls."""

    def __init__(self, fault: str, at: int) -> None:
        super().__init__(*range(2, 9))
        self.fault, self.at = fault, at

    def allowed(self) -> NDArray[np.bool_] | None:
        if len(self.advanced) == self.at:
            if self.fault == "raises":
                raise RuntimeError("no such passage")
            if self.fault == "nothing":
                return np.zeros(VOCABULARY, np.bool_)
            if self.fault == "short":
                return np.ones(VOCABULARY - 1, np.bool_)
            if self.fault == "numbers":
                return np.ones(VOCABULARY, np.int8)  # type: ignore[return-value]
        return super().allowed()

    def advance(self, token: int) -> None:
        if self.fault == "advance" and len(self.advanced) == self.at:
            raise ValueError("not in the grammar")
        super().advance(token)

    def finished(self) -> bool:
        if self.fault == "finished" and len(self.advanced) > self.at:
            raise KeyError("state")
        return super().finished()


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("fault", ["raises", "nothing", "short", "numbers", "advance", "finished"])
def test_a_broken_constraint_ends_its_own_request_alone(fault: str, at: int) -> None:
    engine = Engine(PretendedModel(), LIMITS)
    before, broken, after = Gathered(), Gathered(), Gathered()
    engine.submit(asked(5, 6), before)
    engine.submit(asked(7, constraint=Broken(fault, at)), broken)
    engine.submit(asked(8, 9), after)
    run_out(engine)
    found = broken.result(0)
    assert (found.ended.reason, len(found.tokens)) == ("error", at)
    assert "cannot be chosen" in found.ended.message
    assert (ids(before), ids(after)) == (answer((5, 6), 5), answer((8, 9), 5))
    assert engine.counters().blocks_in_use == 0


def test_a_row_on_which_the_model_fails_ends_alone() -> None:
    model = PretendedModel()
    model.poison = {13}
    engine = Engine(model, LIMITS)
    before, poisoned, after = Gathered(), Gathered(), Gathered()
    engine.submit(asked(5, 6), before)
    engine.submit(asked(13), poisoned)
    engine.submit(asked(8, 9), after)
    run_out(engine)
    found = poisoned.result(0)
    assert (found.tokens, found.ended.reason) == ((), "error")
    assert "RuntimeError: poisoned" in found.ended.message
    assert (ids(before), ids(after)) == (answer((5, 6), 5), answer((8, 9), 5))
    assert engine.counters().blocks_in_use == 0


def test_a_model_without_numbers_ends_the_request_by_error() -> None:
    class Unsound(PretendedModel):
        def step(self, rows: Sequence[Row]) -> NDArray[np.float32]:
            return super().step(rows) * np.float32(np.nan)

    engine = Engine(Unsound(), LIMITS)
    sink = Gathered()
    engine.submit(asked(5), sink)
    run_out(engine)
    assert reason(sink) == "error"


def test_a_sink_that_raises_ends_its_own_request_alone() -> None:
    engine = Engine(PretendedModel(), LIMITS)
    told: list[Event] = []

    def gone(event: Event) -> None:
        told.append(event)
        raise BrokenPipeError

    neighbour = Gathered()
    engine.submit(asked(5, 6), neighbour)
    engine.submit(asked(7), gone)
    run_out(engine)
    assert [type(event) for event in told] == [Token, Ended]
    assert ids(neighbour) == answer((5, 6), 5)
    assert (engine.counters().failed_sinks, engine.counters().ended["cancelled"], engine.counters().blocks_in_use) == (2, 1, 0)


@pytest.mark.parametrize("after", range(6))
def test_after_a_cancel_no_token_follows_and_the_blocks_are_free(after: int) -> None:
    engine = Engine(PretendedModel(), LIMITS)
    sink, neighbour = Gathered(), Gathered()
    handle = engine.submit(asked(5, tokens=30), sink)
    engine.submit(asked(6, 7), neighbour)
    for _ in range(after):
        engine.step()
    handle.cancel()
    handle.cancel()
    run_out(engine)
    assert (reason(sink), len(sink.tokens)) == ("cancelled", after)
    assert ids(neighbour) == answer((6, 7), 5)
    assert engine.counters().blocks_in_use == 0
    handle.cancel()
    run_out(engine)
    assert engine.counters().ended["cancelled"] == 1


def test_a_cancel_during_a_step_keeps_its_token_back() -> None:
    class Watched(PretendedModel):
        during: Callable[[], None] = staticmethod(lambda: None)

        def step(self, rows: Sequence[Row]) -> NDArray[np.float32]:
            self.during()
            return super().step(rows)

    model = Watched()
    engine = Engine(model, LIMITS)
    sink = Gathered()
    handle = engine.submit(asked(5), sink)
    engine.step()
    model.during = handle.cancel
    run_out(engine)
    assert (reason(sink), len(sink.tokens)) == ("cancelled", 1)


def test_too_many_waiting_are_refused_at_once_and_people_are_counted_apart_from_evaluation() -> None:
    engine = Engine(PretendedModel(), LIMITS)
    for priority in ("people", "evaluation"):
        for _ in range(3):
            engine.submit(asked(5, priority=priority), Gathered())
        with pytest.raises(QueueFullError) as refused:
            engine.submit(asked(5, priority=priority), Gathered())
        assert refused.value.retry_after_seconds == 1.0
    run_out(engine)
    assert (engine.counters().ended["length"], engine.counters().refused, engine.counters().waiting) == (6, 2, 0)
    engine.submit(asked(5), Gathered())


def test_a_request_without_blocks_waits_and_a_later_small_one_does_not_pass_it() -> None:
    engine = Engine(PretendedModel(blocks=8), LIMITS)
    order: list[str] = []

    def told(name: str) -> Callable[[Event], None]:
        return lambda event: order.append(name) if isinstance(event, Ended) else None

    engine.submit(asked(5, tokens=19), told("first"))
    engine.submit(asked(6, tokens=19), told("long"))
    engine.submit(asked(7, tokens=1), told("small"))
    engine.step()
    assert (engine.counters().waiting, engine.counters().running, engine.counters().blocks_in_use) == (2, 1, 5)
    run_out(engine)
    assert order == ["first", "small", "long"]
    assert engine.counters().ended == {"stop": 0, "length": 3, "cancelled": 0, "deadline": 0, "error": 0}


def test_people_begin_before_evaluation_that_came_earlier() -> None:
    engine = Engine(PretendedModel(), Limits(step_tokens=8, most_running=1, most_waiting=9))
    begun: list[str] = []

    def noted(name: str) -> Callable[[Event], None]:
        return lambda event: begun.append(name) if isinstance(event, Ended) else None

    engine.submit(asked(5, tokens=1, priority="evaluation"), noted("evaluation"))
    for _ in range(2):
        engine.submit(asked(5, tokens=1), noted("people"))
    run_out(engine)
    assert begun == ["people", "people", "evaluation"]


def test_evaluation_begins_at_last_though_people_never_cease() -> None:
    engine = Engine(PretendedModel(), Limits(step_tokens=8, most_running=1, most_waiting=9))
    sink = Gathered()
    engine.submit(asked(5, tokens=1, priority="evaluation"), sink)
    people = 0
    while not sink.tokens:
        engine.submit(asked(5, tokens=1), Gathered())
        engine.step()
        people += 1
        assert people < 50
    assert people == MOST_PEOPLE_IN_A_ROW + 1


@pytest.mark.parametrize(
    ("more", "tokens", "said"),
    [
        ({"total_seconds": 10.0}, 3, "3 tokens after 10.0 s"),
        ({"total_seconds": 10.0, "first_token_seconds": 1.0}, 3, "3 tokens after 10.0 s"),
        ({"first_token_seconds": 10.0}, 5, ""),
    ],
)
def test_a_running_request_ends_at_its_deadline(more: dict[str, float], tokens: int, said: str) -> None:
    clock = Clock()
    engine = Engine(PretendedModel(), LIMITS, clock)
    sink = Gathered()
    engine.submit(asked(5, **more), sink)
    for _ in range(3):
        engine.step()
    clock.now = 10.0
    run_out(engine)
    found = sink.result(0)
    assert (len(found.tokens), found.ended.reason) == (tokens, "deadline" if said else "length")
    assert said in found.ended.message


@pytest.mark.parametrize("more", [{"total_seconds": 2.0}, {"first_token_seconds": 2.0}])
def test_a_waiting_request_ends_at_its_deadline(more: dict[str, float]) -> None:
    clock = Clock()
    engine = Engine(PretendedModel(blocks=4), LIMITS, clock)
    waits = Gathered()
    engine.submit(asked(5, tokens=15), Gathered())
    engine.step()
    engine.submit(asked(6, tokens=9, **more), waits)
    engine.step()
    clock.now = 2.0
    engine.step()
    assert (reason(waits), waits.tokens) == ("deadline", [])
    assert engine.counters().waiting == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": "robots"},
        {"first_token_seconds": 0.0},
        {"total_seconds": -1.0},
        {"total_seconds": float("nan")},
    ],
)
def test_requests_that_mean_nothing_are_refused_when_they_are_made(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        asked(5, **wrong)


@pytest.mark.parametrize(
    "wrong", [{"step_tokens": 0}, {"most_running": 0}, {"most_waiting": 0}, {"step_tokens": 4, "most_running": 5}]
)
def test_limits_that_mean_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Limits(**wrong)


REQUESTS = st.lists(
    st.tuples(
        st.lists(st.integers(2, 4), min_size=1, max_size=20),
        st.integers(1, 12),
        st.sampled_from(["people", "evaluation"]),
        # steps before it comes, and steps after which it is cancelled, if ever
        st.integers(0, 6),
        st.one_of(st.none(), st.integers(0, 8)),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(REQUESTS, st.integers(8, 20), st.integers(1, 5), st.integers(5, 12), st.booleans())
def test_whatever_comes_every_answer_is_its_own_and_nothing_is_left(
    requests: list[tuple[list[int], int, Priority, int, int | None]], blocks: int, running: int, budget: int, shares: bool
) -> None:
    model = PretendedModel(blocks=blocks)
    engine = Engine(model, Limits(budget, running, len(requests), shares))
    sinks: list[tuple[Gathered, list[int], int, bool]] = []
    cancels: list[tuple[int, Callable[[], None]]] = []
    step = 0
    for prompt, tokens, priority, pause, cancelled in requests:
        for _ in range(pause):
            engine.step()
            step += 1
            [cancel() for at, cancel in cancels if at == step]
        sink = Gathered()
        handle = engine.submit(Request(tuple(prompt), Decoding(tokens), priority=priority), sink)
        sinks.append((sink, prompt, tokens, cancelled is not None))
        if cancelled is not None:
            cancels.append((step + cancelled, handle.cancel))
    [cancel() for at, cancel in cancels if at >= step]
    run_out(engine)
    for sink, prompt, tokens, is_cancelled in sinks:
        found = sink.result(0)
        assert found.ids == answer(prompt, tokens)[: len(found.ids)]
        assert found.ended.reason == "length" or (is_cancelled and found.ended.reason == "cancelled")
        assert len(found.ids) == tokens or found.ended.reason == "cancelled"
    for rows in model.steps:
        assert sum(len(row.ids) for row in rows) <= budget
        assert len(rows) <= running
    counters = engine.counters()
    assert (counters.waiting, counters.running, counters.blocks_in_use) == (0, 0, 0)
    assert sum(counters.ended.values()) == counters.submitted == len(requests)


@pytest.fixture
def running() -> Iterator[Engine]:
    engine = Engine(PretendedModel(), Limits(step_tokens=16, most_running=4, most_waiting=64)).start()
    yield engine
    engine.close()


def test_in_its_thread_it_answers_many_callers_at_once(running: Engine) -> None:
    found: dict[int, tuple[int, ...]] = {}

    def ask(number: int) -> None:
        found[number] = generate(running, asked(2 + number, 3, tokens=7), 20).ids

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
    assert found == {number: answer((2 + number, 3), 7) for number in range(20)}


def test_close_ends_every_request_with_an_outcome_and_later_ones_hear_it() -> None:
    engine = Engine(PretendedModel(), LIMITS)
    sinks = [Gathered() for _ in range(3)]
    for sink in sinks:
        engine.submit(asked(5, tokens=30), sink)
    engine.step()
    engine.close()
    engine.close()
    assert [(reason(sink), len(sink.tokens)) for sink in sinks] == [("error", 1), ("error", 1), ("error", 0)]
    assert "closed" in sinks[0].result(0).ended.message
    with pytest.raises(EngineClosedError, match="closed"):
        engine.submit(asked(5), Gathered())
    assert engine.counters().blocks_in_use == 0


@pytest.mark.parametrize("comes_first", [True, False])
def test_a_sink_may_close_the_engine_and_no_token_follows_an_end(comes_first: bool) -> None:
    engine = Engine(PretendedModel(), LIMITS)
    ends: list[Ended] = []
    told: list[Event] = []
    is_over = threading.Event()

    def closes(event: Event) -> None:
        if isinstance(event, Token):
            engine.close()
        else:
            ends.append(event)
            is_over.set()

    for sink in (closes, told.append) if comes_first else (told.append, closes):
        engine.submit(asked(5, tokens=1 if sink is closes else 30), sink)
    engine.start()
    assert is_over.wait(10)
    engine.close()
    assert [type(event) for event in told] == ([Ended] if comes_first else [Token, Ended])
    assert [end.reason for end in ends] == ["error"]
    engine.close()
    assert sum(engine.counters().ended.values()) == 2


def test_a_fault_of_the_engine_itself_reaches_every_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(PretendedModel(), LIMITS)
    sink = Gathered()
    engine.submit(asked(5), sink)
    monkeypatch.setattr(engine._scheduler, "plan", lambda: 1 / 0)
    engine.start()
    assert sink.result(10).ended.reason == "error"
    with pytest.raises(EngineClosedError, match="ZeroDivisionError"):
        engine.submit(asked(5), Gathered())
    engine.close()


def test_a_caller_that_gives_up_cancels_its_request(running: Engine) -> None:
    hold = threading.Event()

    class Slow(PretendedModel):
        def step(self, rows: Sequence[Row]) -> NDArray[np.float32]:
            hold.wait(10)
            return super().step(rows)

    engine = Engine(Slow(), LIMITS).start()
    with pytest.raises(TransientError, match=r"no end of the answer after 0\.05 s"):
        generate(engine, asked(5), 0.05)
    hold.set()
    engine.close()
    assert engine.counters().ended["cancelled"] + engine.counters().ended["error"] == 1
