"""The engine around vLLM, with a stand-in for vLLM: what is asked of it, and that its answers become ours."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.unit.triton_models.generator_models import STOP, VOCABULARY, Clock, answer, next_token
from triton_models.generator.engine.engine_vllm import VllmEngine
from triton_models.generator.engine.requests import Decoding, Ended, Event, Gathered, QueueFullError, Request, generate
from triton_models.generator.engine.scheduler import MOST_PEOPLE_IN_A_ROW
from triton_models.generator.engine.vllm_core import JOBS, VllmSettings
from twinline.contract.errors import DocumentError, SettingsError


@dataclass
class Served:
    """One request inside the stand-in."""

    prompt: list[int]
    parameters: Any
    mask: Callable[[Sequence[int], torch.Tensor], torch.Tensor] | None
    output: list[int] = field(default_factory=list)


class StandIn:
    """As much of vLLM's synchronous engine as is used: it decodes all requests greedily by the pretended model."""

    def __init__(self, arguments: SimpleNamespace) -> None:
        self.arguments = arguments
        self.processor = arguments.logits_processors[0]()
        self.requests: dict[str, Served] = {}
        self.aborted: list[str] = []
        self.priorities: list[int] = []
        self.fault: Exception | None = None

    def add_request(self, request_id: str, prompt: dict[str, list[int]], parameters: Any, priority: int) -> None:
        if prompt["prompt_token_ids"] == [13]:
            raise ValueError("thirteen")
        self.priorities.append(priority)
        mask = self.processor.new_req_logits_processor(parameters)
        self.requests[request_id] = Served(prompt["prompt_token_ids"], parameters, mask)

    def abort_request(self, request_ids: list[str]) -> None:
        for name in request_ids:
            self.aborted.append(name)
            self.requests.pop(name, None)

    def step(self) -> list[Any]:
        if self.fault:
            raise self.fault
        outputs = []
        for name, served in list(self.requests.items()):
            logits = torch.linspace(0, 1, VOCABULARY)
            logits[next_token([*served.prompt, *served.output])] = 9
            masked = served.mask(served.output, logits.clone()) if served.mask else logits
            token = int(masked.argmax())
            served.output.append(token)
            parameters = served.parameters
            finished = token in parameters.stop_token_ids or len(served.output) >= parameters.max_tokens
            if finished:
                del self.requests[name]
            raw = float(torch.log_softmax(logits, dim=-1)[token])
            completion = SimpleNamespace(token_ids=[token], logprobs=[{token: SimpleNamespace(logprob=raw)}])
            outputs.append(SimpleNamespace(request_id=name, finished=finished, outputs=[completion], num_cached_tokens=0))
        return outputs


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[VllmEngine]:
    def module(name: str, **content: Any) -> None:
        made = ModuleType(name)
        made.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, made)

    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_USE_V2_MODEL_RUNNER", "VLLM_NO_USAGE_STATS"):
        monkeypatch.setenv(name, "0")
    module("vllm", EngineArgs=SimpleNamespace, SamplingParams=SimpleNamespace)
    module("vllm.inputs", TokensPrompt=dict)
    module("vllm.sampling_params", RequestOutputKind=SimpleNamespace(DELTA=1))
    for name in ("vllm.v1", "vllm.v1.engine", "vllm.v1.sample"):
        module(name)
    module("vllm.v1.engine.llm_engine", LLMEngine=SimpleNamespace(from_engine_args=StandIn))
    module("vllm.v1.sample.logits_processor", AdapterLogitsProcessor=object)
    engine = VllmEngine(Path("folder"), VOCABULARY, 64, VllmSettings(most_running=2, most_waiting=2), Clock())
    yield engine
    engine.close()
    assert not JOBS


def asked(*prompt: int, tokens: int = 5, **more: Any) -> Request:
    return Request(prompt, Decoding(tokens, frozenset({STOP})), **more)


def run_out(engine: VllmEngine) -> None:
    for _ in range(200):
        if not engine.step():
            return
    pytest.fail("the engine does not come to an end")


class Ordered:
    """Allows the listed tokens in their order, then nothing but the stop id."""

    def __init__(self, *tokens: int, fault: str = "") -> None:
        self.left, self.fault, self.advanced = list(tokens), fault, list[int]()

    def allowed(self) -> NDArray[np.bool_] | None:
        if self.fault == "raises":
            raise RuntimeError("no such passage")
        mask = np.zeros(VOCABULARY, np.bool_)
        if self.fault != "nothing":
            mask[self.left[0] if self.left else STOP] = True
        return mask

    def advance(self, token: int) -> None:
        assert token == (self.left.pop(0) if self.left else STOP)
        self.advanced.append(token)

    def finished(self) -> bool:
        return not self.left


def test_vllm_gets_ids_and_nothing_of_its_own_defaults(engine: VllmEngine) -> None:
    inside = engine._engine
    assert inside.arguments.skip_tokenizer_init
    assert inside.arguments.generation_config == "vllm"
    assert not inside.arguments.async_scheduling
    engine.submit(asked(5, 6, priority="evaluation"), Gathered())
    engine.step()
    [served] = inside.requests.values()
    assert served.prompt == [5, 6]
    assert (served.parameters.temperature, served.parameters.stop_token_ids, served.parameters.ignore_eos) == (0.0, [STOP], True)
    assert not served.parameters.detokenize
    assert inside.priorities == [1]


def test_answers_are_the_models_own_with_both_log_probabilities(engine: VllmEngine) -> None:
    sinks = [Gathered() for _ in range(4)]
    for number, sink in enumerate(sinks):
        engine.submit(asked(5, 6 + number, priority="people" if number % 2 else "evaluation"), sink)
    run_out(engine)
    assert [sink.result(0).ids for sink in sinks] == [answer((5, 6 + number), 5) for number in range(4)]
    token = sinks[0].tokens[0]
    assert token.log_probability == pytest.approx(token.masked_log_probability)
    counters = engine.counters()
    assert (counters.ended["length"], counters.generated_tokens, counters.running, counters.waiting) == (4, 20, 0, 0)


def test_people_begin_first_and_evaluation_at_last(engine: VllmEngine) -> None:
    sink = Gathered()
    engine.submit(asked(5, tokens=1, priority="evaluation"), sink)
    people = 0
    while not sink.tokens:
        for _ in range(2):
            engine.submit(asked(5, tokens=1), Gathered())
        engine.step()
        people += 2
        assert people < 50
    assert people > MOST_PEOPLE_IN_A_ROW


def test_a_constraint_masks_each_step_and_ends_the_answer(engine: VllmEngine) -> None:
    sink = Gathered()
    decoding = Decoding(9, frozenset({STOP}), first_ids=(4, 9))
    engine.submit(Request((5,), decoding, Ordered(9, 8, 7)), sink)
    run_out(engine)
    found = sink.result(0)
    assert (found.ids, found.ended.reason) == ((9, 8, 7), "stop")
    assert found.tokens[0].masked_log_probability == pytest.approx(0, abs=1e-5)
    assert found.tokens[0].first_log_probabilities[1] == pytest.approx(found.tokens[0].log_probability, abs=1e-5)
    assert len(engine._engine.aborted) == 1
    assert not engine._engine.requests


def test_a_stop_id_is_told_apart(engine: VllmEngine) -> None:
    sink, constraint = Gathered(), Ordered()
    engine.submit(asked(5, constraint=constraint), sink)
    run_out(engine)
    found = sink.result(0)
    assert (found.ids, found.ended.reason, constraint.advanced) == ((), "stop", [STOP])
    assert found.ended.stop is not None
    assert found.ended.stop.id == STOP


@pytest.mark.parametrize("fault", ["raises", "nothing"])
def test_a_broken_constraint_ends_its_own_request_alone(engine: VllmEngine, fault: str) -> None:
    broken, neighbour = Gathered(), Gathered()
    engine.submit(asked(5, constraint=Ordered(9, fault=fault)), broken)
    engine.submit(asked(6, 7), neighbour)
    run_out(engine)
    assert (broken.result(0).ended.reason, broken.result(0).ids) == ("error", ())
    assert "constraint" in broken.result(0).ended.message
    assert neighbour.result(0).ids == answer((6, 7), 5)


def test_what_vllm_itself_refuses_ends_by_error_alone(engine: VllmEngine) -> None:
    refused, neighbour = Gathered(), Gathered()
    engine.submit(asked(13), refused)
    engine.submit(asked(6, 7), neighbour)
    run_out(engine)
    assert "thirteen" in refused.result(0).ended.message
    assert neighbour.result(0).ids == answer((6, 7), 5)


def test_a_cancel_reaches_vllm_and_a_full_queue_refuses(engine: VllmEngine) -> None:
    sinks = [Gathered() for _ in range(2)]
    handles = [engine.submit(asked(5, tokens=30), sink) for sink in sinks]
    engine.step()
    waiting = [Gathered() for _ in range(2)]
    for sink in waiting:
        engine.submit(asked(6), sink)
    with pytest.raises(QueueFullError):
        engine.submit(asked(6), Gathered())
    handles[0].cancel()
    engine.step()
    assert sinks[0].result(0).ended.reason == "cancelled"
    assert len(engine._engine.aborted) == 1
    run_out(engine)
    assert [len(sink.result(0).ids) for sink in (sinks[1], *waiting)] == [30, 5, 5]
    assert engine.counters().refused == 1


def test_deadlines_and_bad_requests_are_those_of_the_other_engine(engine: VllmEngine) -> None:
    with pytest.raises(DocumentError, match="vocabulary"):
        engine.submit(asked(VOCABULARY), Gathered())
    late = Gathered()
    engine.submit(asked(5, tokens=30, total_seconds=5.0), late)
    engine.step()
    engine._clock.now = 5.0  # type: ignore[attr-defined]
    run_out(engine)
    assert (late.result(0).ended.reason, len(late.result(0).ids)) == ("deadline", 1)


def test_a_sink_that_raises_ends_its_own_request(engine: VllmEngine) -> None:
    told: list[Event] = []

    def gone(event: Event) -> None:
        told.append(event)
        raise BrokenPipeError

    engine.submit(asked(5), gone)
    run_out(engine)
    assert isinstance(told[-1], Ended)
    assert (len(told), engine.counters().failed_sinks) == (2, 2)


def test_in_its_thread_it_answers_and_a_fault_of_vllm_reaches_every_caller(engine: VllmEngine) -> None:
    engine.start()
    assert generate(engine, asked(5, 6), 20).ids == answer((5, 6), 5)
    engine._engine.fault = RuntimeError("out of memory")
    assert "out of memory" in generate(engine, asked(5, 6), 20).ended.message
    engine.close()


def test_where_vllm_is_not_installed_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_USE_V2_MODEL_RUNNER", "VLLM_NO_USAGE_STATS"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(SettingsError, match="vLLM is not installed here"):
        VllmEngine(Path("folder"), VOCABULARY, 64)
