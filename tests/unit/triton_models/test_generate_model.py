"""The generator's model of Triton, run as Triton runs it, with a stand-in for Triton's own module."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.checkout import CHECKOUT
from tests.unit.triton_models.generator_models import STOP, VOCABULARY, PretendedModel, answer
from triton_models.generator.engine.model import ModelSettings, Row
from triton_models.generator.engine.scheduler import Limits
from triton_models.generator.repository import write_generator
from triton_models.generator.served import ServedGenerator, read_served
from twinline.contract.errors import ContractError, MismatchError, SettingsError

FINAL = 1
SERVED = ServedGenerator(
    release="r1",
    fingerprint="f" * 64,
    file="openvino/model.xml",
    most_positions=64,
    stop_ids=(STOP,),
    max_tokens=6,
    choices=("max_tokens", "seed"),
    model=ModelSettings(blocks=16),
    limits=Limits(step_tokens=8, most_running=2, most_waiting=3),
)


@dataclass
class Tensor:
    name: str
    array: NDArray[Any]

    def as_numpy(self) -> NDArray[Any]:
        return self.array


@dataclass
class Error:
    message: str
    code: int = 0
    INVALID_ARG = 3
    UNAVAILABLE = 4


@dataclass
class Response:
    output: list[Tensor] = field(default_factory=list)
    error: Error | None = None


class Call:
    """A request and its caller: what was sent to it, and whether it left."""

    def __init__(self, *prompt: int, **given: Any) -> None:
        self.tensors: dict[str, NDArray[Any]] = {"input_ids": np.array([prompt], np.int64)}
        for name, value in given.items():
            is_text = isinstance(value, str)
            self.tensors[name] = np.array([value.encode()], dtype=np.object_) if is_text else np.atleast_1d(np.array(value))
        self.responses: list[Response] = []
        self.is_over = threading.Event()
        self.left = False

    def get_response_sender(self) -> "Call":
        return self

    def send(self, response: Response, flags: int = 0) -> None:
        assert not self.is_over.is_set()
        self.responses.append(response)
        if flags == FINAL:
            self.is_over.set()

    def is_cancelled(self) -> bool:
        return self.left

    def end(self) -> Mapping[str, Any]:
        """Wait for the last response, and return it."""
        assert self.is_over.wait(10)
        assert self.responses[-1].error is None
        return {tensor.name: tensor.array.tolist() for tensor in self.responses[-1].output}

    def error(self) -> Error:
        """Return the error that is the only response."""
        assert self.is_over.is_set()
        [response] = self.responses
        assert response.error is not None
        return response.error

    def ids(self) -> tuple[int, ...]:
        """Return the ids of all responses."""
        return tuple(
            one for response in self.responses for tensor in response.output if tensor.name == "token_ids" for one in tensor.array
        )


class MetricFamily:
    """Triton's metrics, kept in a dictionary."""

    COUNTER, GAUGE = "counter", "gauge"
    values: ClassVar[dict[str, float]] = {}
    is_on: ClassVar[bool] = True

    def __init__(self, name: str, description: str, kind: str) -> None:
        if not self.is_on:
            raise NoMetricsError
        assert description
        self.name, self.kind = name, kind

    def Metric(self, labels: dict[str, str]) -> "MetricFamily":
        assert labels == {"release": "r1"}
        return self

    def set(self, value: float) -> None:
        assert self.kind == self.GAUGE
        self.values[self.name] = value

    def increment(self, value: float) -> None:
        assert self.kind == self.COUNTER
        assert value >= 0
        self.values[self.name] = self.values.get(self.name, 0) + value


class NoMetricsError(Exception):
    """Triton's own exception."""


class Held(PretendedModel):
    """A model whose steps wait while they are held."""

    def __init__(self) -> None:
        super().__init__()
        self.goes = threading.Event()
        self.goes.set()

    def step(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        assert self.goes.wait(10)
        return super().step(rows)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    stand_in = ModuleType("triton_python_backend_utils")
    stand_in.Tensor, stand_in.TritonError, stand_in.InferenceResponse = Tensor, Error, Response  # type: ignore[attr-defined]
    monkeypatch.setattr(MetricFamily, "values", {})
    stand_in.MetricFamily, stand_in.TritonModelException = MetricFamily, NoMetricsError  # type: ignore[attr-defined]
    stand_in.TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL  # type: ignore[attr-defined]
    stand_in.get_input_tensor_by_name = lambda call, name: (  # type: ignore[attr-defined]
        Tensor(name, call.tensors[name]) if name in call.tensors else None
    )
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = spec_from_file_location("generate_alone", CHECKOUT / "triton_models" / "generator" / "generate" / "model.py")
    assert spec
    assert spec.loader
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def pretended() -> Held:
    return Held()


@pytest.fixture
def model(module: Any, pretended: Held, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    # The tests report themselves.
    monkeypatch.setattr(module, "_ASKS_A_REPORT", 10**9)
    monkeypatch.setattr(module, "read_served", lambda folder: SERVED)
    monkeypatch.setattr(module, "PagedModel", lambda *given: pretended)
    made = module.TritonPythonModel()
    made.initialize({})
    yield made
    pretended.goes.set()
    made.finalize()


def test_a_token_is_a_response_and_the_last_one_says_why_it_ends(model: Any) -> None:
    call = Call(5, 6, 7)
    assert model.execute([call]) is None
    last = call.end()
    assert call.ids() == answer((5, 6, 7), 6)
    assert len(call.responses) == 7
    assert last == {"finish_reason": [b"length"], "message": [b""], "stop_id": [-1], "cached_tokens": [0]}
    first = {tensor.name: tensor.array for tensor in call.responses[0].output}
    assert first.keys() == {"token_ids", "log_probabilities", "masked_log_probabilities"}
    assert first["log_probabilities"].dtype == np.float32


def test_a_caller_that_wants_one_response_gets_one(model: Any) -> None:
    call = Call(5, 6, 7, stream=False, max_tokens=3, first_ids=[4, 9])
    model.execute([call])
    last = call.end()
    assert len(call.responses) == 1
    assert tuple(last["token_ids"]) == answer((5, 6, 7), 3)
    assert len(last["first_log_probabilities"]) == 2
    assert last["finish_reason"] == [b"length"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temperature": np.float32(1)}, "not temperature"),
        ({"top_p": np.float32(0.9)}, "not top_p"),
        ({"top_k": 4}, "not top_k"),
        ({"max_tokens": 7}, "the release allows 6"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": -3}, "max_tokens is -3"),
        ({"max_tokens": [1, 2]}, "max_tokens has 2 values"),
        ({"max_tokens": np.zeros(0, np.int32)}, "max_tokens has 0 values"),
        ({"seed": -1}, "seed is -1"),
        ({"priority": "robots"}, "priority is 'robots'"),
        ({"first_token_ms": 0}, "first_token_seconds is 0"),
        ({"total_ms": -5}, "total_seconds is -0.005"),
        ({"stream": [True, False]}, "stream has 2 values"),
        ({"first_ids": [VOCABULARY]}, "first_ids holds 50"),
        ({"input_ids": np.zeros((1, 0), np.int64)}, "the prompt has no ids"),
        ({"input_ids": [3, VOCABULARY]}, "prompt_ids holds 50"),
        ({"input_ids": [3] * 64}, "are more than the 64 positions"),
    ],
)
def test_a_bad_request_gets_its_own_error_and_its_neighbours_get_their_answers(
    model: Any, given: dict[str, Any], said: str
) -> None:
    before, bad, after = Call(5, 6), Call(7, **given), Call(8)
    model.execute([before, bad, after])
    assert said in bad.error().message
    assert bad.error().code == Error.INVALID_ARG
    before.end()
    after.end()
    assert (before.ids(), after.ids()) == (answer((5, 6), 6), answer((8,), 6))
    assert not model._answers


def test_a_full_queue_says_so_at_once(model: Any, pretended: Held) -> None:
    pretended.goes.clear()
    calls = [Call(5, priority="evaluation") for _ in range(8)]
    model.execute(calls)
    refused = [call for call in calls if call.is_over.is_set()]
    assert len(refused) >= 3
    assert all(call.error().code == Error.UNAVAILABLE for call in refused)
    pretended.goes.set()
    for call in calls:
        if call not in refused:
            call.end()


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_callers_that_leave_are_noticed_running_and_waiting(model: Any, pretended: Held) -> None:
    running = Call(5)
    model.execute([running])
    running.end()
    pretended.goes.clear()
    calls = [Call(5, 6) for _ in range(3)]
    model.execute(calls)
    wait_for(lambda: model._engine.counters().running >= 1)
    for call in calls:
        call.left = True
    time.sleep(0.3)
    pretended.goes.set()
    assert [call.end()["finish_reason"] for call in calls] == [[b"cancelled"]] * 3
    assert [call.ids() for call in calls] == [()] * 3
    assert model._engine.counters().blocks_in_use == 0


def test_a_caller_that_leaves_in_mid_answer_gets_no_more_tokens(model: Any, pretended: Held) -> None:
    class Leaves(Call):
        def send(self, response: Response, flags: int = 0) -> None:
            super().send(response, flags)
            self.left = len(self.ids()) >= 2

    call = Leaves(5, 6)
    pretended.goes.clear()
    model.execute([call])
    pretended.goes.set()
    assert call.end()["finish_reason"] == [b"cancelled"]
    assert call.ids() == answer((5, 6), 2)


def test_the_counters_are_among_tritons_metrics(model: Any) -> None:
    for _ in range(2):
        call = Call(5, 6)
        model.execute([call])
        call.end()
        model._metrics.report(model._engine.counters())
    found = {name.removeprefix("twinline_generator_"): value for name, value in MetricFamily.values.items()}
    expected = {"submitted": 2, "generated_tokens": 12, "ended_length": 2, "ended_error": 0, "running": 0, "blocks": 16}
    assert {name: found[name] for name in expected} == expected
    assert len(found) == 16


def test_a_triton_without_metrics_answers_all_the_same(
    model: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(MetricFamily, "is_on", False)
    for _ in range(3):
        model._metrics.report(model._engine.counters())
    assert [record.message for record in caplog.records] == ["no_metrics"]
    call = Call(5, 6)
    model.execute([call])
    call.end()


def test_unloading_ends_every_answer_with_an_outcome(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = Held()
    monkeypatch.setattr(module, "read_served", lambda folder: SERVED)
    monkeypatch.setattr(module, "PagedModel", lambda *given: pretended)
    made = module.TritonPythonModel()
    made.initialize({})
    pretended.goes.clear()
    calls = [Call(5), Call(6), Call(7)]
    made.execute(calls)
    threading.Timer(0.1, pretended.goes.set).start()
    made.finalize()
    assert all(call.end()["finish_reason"] in ([b"error"], [b"length"]) for call in calls)


def exported(folder: Path) -> Path:
    (folder / "openvino").mkdir(parents=True)
    (folder / "openvino" / "model.xml").write_text("<net/>")
    (folder / "openvino" / "model.bin").write_bytes(b"weights")
    return folder


def test_a_written_model_has_its_code_and_settings_and_reads_them_back(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    assert write_generator(exported(tmp_path / "exported"), SERVED, repository) == "generate_r1"
    version = repository / "generate_r1" / "1"
    assert read_served(version) == SERVED
    config = (repository / "generate_r1" / "config.pbtxt").read_text()
    assert "decoupled: true" in config
    assert f'key: "fingerprint" value: {{ string_value: "{"f" * 64}" }}' in config
    for name in ("model.py", "triton_models/generator/engine/engine.py", "twinline/contract/answers/constraint.py"):
        assert (version / name).is_file()
    # nothing of the other rooms
    assert not (version / "twinline" / "contract" / "documents").exists()
    assert not list(version.rglob("__pycache__"))
    # again, with other weights: replaced as a whole
    (tmp_path / "exported" / "openvino" / "model.bin").write_bytes(b"others")
    write_generator(tmp_path / "exported", replace(SERVED, max_tokens=5), repository)
    assert read_served(version).max_tokens == 5
    assert (version / "openvino" / "model.bin").read_bytes() == b"others"


DAMAGES = (
    *("weights changed", "code changed", "file missing", "file added"),
    *("no record", "no json", "other settings", "unknown setting"),
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_does_not_load(tmp_path: Path, damage: str) -> None:
    write_generator(exported(tmp_path / "exported"), SERVED, tmp_path / "models")
    version = tmp_path / "models" / "generate_r1" / "1"
    record = version / "served.json"
    if damage == "weights changed":
        (version / "openvino" / "model.bin").write_bytes(b"weightz")
    elif damage == "code changed":
        with (version / "triton_models" / "generator" / "engine" / "sampler.py").open("a") as stream:
            stream.write("#\n")
    elif damage == "file missing":
        (version / "openvino" / "model.bin").unlink()
    elif damage == "file added":
        (version / "generation_config.json").write_text("{}")
    elif damage == "no record":
        record.unlink()
    elif damage == "no json":
        record.write_text("{")
    elif damage == "other settings":
        record.write_text(record.read_text().replace('"blocks": 16', '"blocks": 0'))
    elif damage == "unknown setting":
        record.write_text(record.read_text().replace('"blocks"', '"pages"'))
    with pytest.raises(MismatchError, match="publish the release again"):
        read_served(version)


@pytest.mark.parametrize("missing", ["model.xml", "model.bin"])
def test_an_export_without_its_files_is_refused(tmp_path: Path, missing: str) -> None:
    (exported(tmp_path / "exported") / "openvino" / missing).unlink()
    with pytest.raises(ContractError, match=missing):
        write_generator(tmp_path / "exported", SERVED, tmp_path / "models")
    assert not (tmp_path / "models" / "generate_r1").exists()


@pytest.mark.parametrize("wrong", [{"choices": ("repetition",)}, {"stop_ids": ()}])
def test_settings_that_cannot_be_served_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        replace(SERVED, **wrong)
