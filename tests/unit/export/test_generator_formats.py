"""A tiny random llama through export and engine, against transformers in fp32; the same with real weights where they are."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray

from export.generator.cached import load_generator
from export.generator.formats import KNOWN_FORMATS, check_formats, export_formats, known_format
from export.generator.parity import measure_parity
from export.generator.reference import ReferenceGenerator
from export.generator.runtimes import decode_with
from export.generator.to_openvino import export_int8, export_openvino
from tests.unit.export.tiny_generator import POSITIONS, STOP, VOCABULARY, write_tiny_generator
from triton_models.generator.engine.engine import Engine
from triton_models.generator.engine.model import ModelSettings, PagedModel, Precision
from triton_models.generator.engine.requests import Decoding, Gathered, QueueFullError, Request, Token, generate
from triton_models.generator.engine.scheduler import Limits
from twinline.contract.errors import ContractError, SettingsError

pytestmark = pytest.mark.integration

# Weights that a machine may have: fetched, not part of the repository.
REAL = "GENERATOR_FOLDER"


def prompts(count: int, seed: int = 0, longest: int = 150) -> list[tuple[int, ...]]:
    random = np.random.default_rng(seed)
    return [tuple(random.integers(3, VOCABULARY, int(random.integers(1, longest))).tolist()) for _ in range(count)]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture(scope="module")
def exported(generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("exported") / "fp32" / "model.xml"
    export_openvino(generator, target)
    return target


@pytest.fixture(scope="module")
def reference(generator: Path) -> ReferenceGenerator:
    return ReferenceGenerator.load(generator)


def engine_of(file: Path, precision: Precision = "fp32", blocks: int = 128, limits: Limits | None = None) -> Engine:
    return Engine(PagedModel(file, POSITIONS, ModelSettings(precision, blocks, 1)), limits).start()


@pytest.fixture
def engine(exported: Path) -> Iterator[Engine]:
    engine = engine_of(exported)
    yield engine
    engine.close()


@pytest.mark.parametrize("rows", [1, 8, 16])
def test_greedy_ids_are_those_of_transformers_alone_and_in_a_batch_cold_and_warm(
    engine: Engine, reference: ReferenceGenerator, rows: int
) -> None:
    asked = prompts(16)
    for _ in range(2):
        figure = measure_parity("openvino_fp32", "fp32", asked, reference, decode_with(engine, rows), 24, frozenset({STOP}))
        assert figure.passed, figure.summary()
        assert figure.worst < 1e-4
    counters = engine.counters()
    assert counters.cached_tokens > counters.prompt_tokens / 4
    assert counters.blocks_in_use == 0


def test_answers_are_the_same_without_the_cache_and_with_other_steps(
    exported: Path, engine: Engine, reference: ReferenceGenerator
) -> None:
    asked = prompts(12, seed=1)
    expected = decode_with(engine, 12)(asked, 24, frozenset({STOP}))
    assert len({answer.ids for answer in expected}) > 8
    for limits in (Limits(shares_prefixes=False), Limits(step_tokens=17, most_running=5), Limits(step_tokens=512)):
        other = engine_of(exported, limits=limits)
        assert [answer.ids for answer in decode_with(other, 12)(asked, 24, frozenset({STOP}))] == [one.ids for one in expected]
        other.close()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_lay_in_the_blocks_before_changes_nothing(exported: Path, precision: Precision) -> None:
    answers = []
    for filled in (0x00, 0xFF):
        model = PagedModel(exported, POSITIONS, ModelSettings(precision, 64, 1))
        for port in model._request.get_compiled_model().inputs:
            if "cache" in port.get_any_name():
                # 0xFF in every byte is no number, in each of the types
                model._request.get_tensor(port.get_any_name()).data.view(np.uint8)[...] = filled
        engine = Engine(model).start()
        answers.append([answer.ids for answer in decode_with(engine, 4)(prompts(4), 12, frozenset({STOP}))])
        engine.close()
    assert answers[0] == answers[1]


def test_prompts_with_one_beginning_are_answered_as_each_alone(exported: Path, engine: Engine) -> None:
    beginning = prompts(1, seed=2, longest=140)[0] * 3
    asked = [(*beginning[:130], *rest) for rest in prompts(12, seed=3, longest=30)]
    together = [answer.ids for answer in decode_with(engine, 12)(asked, 16, frozenset({STOP}))]
    assert engine.counters().cached_tokens >= 128
    cold = engine_of(exported, limits=Limits(shares_prefixes=False))
    assert [answer.ids for answer in decode_with(cold, 1)(asked, 16, frozenset({STOP}))] == together
    cold.close()


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_lower_precisions_are_measured_and_reported(
    exported: Path, reference: ReferenceGenerator, tmp_path: Path, precision: Precision
) -> None:
    file = exported
    if precision == "int8":
        file = tmp_path / "int8" / "model.xml"
        export_int8(exported, file)
        assert file.with_suffix(".bin").stat().st_size < exported.with_suffix(".bin").stat().st_size / 2
    engine = engine_of(file, precision)
    figure = measure_parity(precision, precision, prompts(8), reference, decode_with(engine, 8), 16, frozenset({STOP}))
    engine.close()
    assert figure.tokens > 8
    assert figure.worst > 1e-5
    assert np.isfinite(figure.worst)


def test_every_format_is_exported_and_compared_with_the_reference(
    generator: Path, reference: ReferenceGenerator, tmp_path: Path
) -> None:
    entries = export_formats(generator, tmp_path, list(KNOWN_FORMATS))
    assert [entry.name for entry in entries] == list(KNOWN_FORMATS)
    figures = check_formats(tmp_path, entries, prompts(6), reference, 16, frozenset({STOP}), threads=1)
    assert [figure.name for figure in figures] == list(KNOWN_FORMATS)
    for figure in figures:
        assert figure.passed or figure.precision != "fp32", figure.summary()
        assert figure.tokens > 6
    # no folder of this machine in the file, so that equal generators give equal files
    assert str(Path.cwd()).encode() not in (tmp_path / "onnx" / "model.onnx").read_bytes()


def test_int8_alone_leaves_no_other_file(generator: Path, tmp_path: Path) -> None:
    export_formats(generator, tmp_path, ["openvino_int8"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["openvino_int8"]


def test_a_format_that_is_not_known_is_refused_before_anything_is_written(generator: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'openvino_int4' of a generator is not known: choose from onnx_fp32"):
        export_formats(generator, tmp_path / "target", ["openvino_fp32", "openvino_int4"])
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("name", ["onnx_fp32", "openvino_fp32", "openvino_int8"])
def test_a_format_whose_file_is_missing_is_named(reference: ReferenceGenerator, tmp_path: Path, name: str) -> None:
    with pytest.raises(ContractError, match="does not exist: export the generator"):
        check_formats(tmp_path, [known_format(name)], prompts(1), reference, 4, frozenset({STOP}))


class InTurn:
    """Allows every third id by turns, the stop id after four tokens, and nothing more after nine."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def allowed(self) -> NDArray[np.bool_] | None:
        if len(self.taken) == 2:
            return np.arange(VOCABULARY) == 7
        mask = np.arange(VOCABULARY) % 3 == len(self.taken) % 3
        mask[STOP] = len(self.taken) >= 4
        return mask

    def advance(self, token: int) -> None:
        assert self.allowed()[token]  # type: ignore[index]
        self.taken.append(token)

    def finished(self) -> bool:
        return len(self.taken) >= 9


def masked_answer(generator: Path, prompt: tuple[int, ...], decoding: Decoding) -> tuple[list[Token], list[float]]:
    """Return the greedy answer under `InTurn` by transformers without a cache, and the first log-probabilities."""
    model, constraint = load_generator(generator), InTurn()
    tokens: list[Token] = []
    first: list[float] = []
    while len(tokens) < decoding.max_tokens and not constraint.finished() and (not tokens or tokens[-1].id != STOP):
        ids = [*prompt, *(token.id for token in tokens)]
        with torch.inference_mode():
            scores = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1].double(), dim=-1).numpy()
        first = first or [float(scores[one]) for one in decoding.first_ids]
        allowed = np.flatnonzero(constraint.allowed())
        token = int(allowed[scores[allowed].argmax()])
        tokens.append(Token(token, float(scores[token]), float(scores[token] - np.log(np.exp(scores[allowed]).sum()))))
        constraint.advance(token)
    return tokens, first


def test_masked_answers_are_those_of_transformers_alone_and_in_a_batch(engine: Engine, generator: Path) -> None:
    asked = prompts(12, seed=4)
    decoding = Decoding(12, frozenset({STOP}), first_ids=(STOP, 9))
    sinks = [Gathered() for _ in asked]
    for prompt, sink in zip(asked, sinks, strict=True):
        engine.submit(Request(prompt, decoding, InTurn()), sink)
    for prompt, sink in zip(asked, sinks, strict=True):
        expected, first = masked_answer(generator, prompt, decoding)
        assert expected[2].id == 7
        for found in (sink.result(60), generate(engine, Request(prompt, decoding, InTurn()))):
            assert found.ended.reason == "stop"
            tokens = [*found.tokens, *([found.ended.stop] if found.ended.stop else [])]
            assert [token.id for token in tokens] == [token.id for token in expected]
            for name in ("log_probability", "masked_log_probability"):
                told, wanted = ([getattr(token, name) for token in answer] for answer in (tokens, expected))
                np.testing.assert_allclose(told, wanted, atol=1e-4)
            np.testing.assert_allclose(tokens[0].first_log_probabilities, first, atol=1e-4)


def test_a_seed_draws_the_same_alone_and_in_a_batch(engine: Engine) -> None:
    asked = prompts(8, seed=5)
    requests = [Request(prompt, Decoding(12, temperature=0.8, top_p=0.9, seed=place)) for place, prompt in enumerate(asked)]
    sinks = [Gathered() for _ in requests]
    for request, sink in zip(requests, sinks, strict=True):
        engine.submit(request, sink)
    assert [sink.result(60).ids for sink in sinks] == [generate(engine, request).ids for request in requests]


def test_two_hundred_requests_some_cancelled_leave_nothing_behind(exported: Path) -> None:
    engine = engine_of(exported, blocks=40, limits=Limits(most_waiting=200))
    random = np.random.default_rng(6)
    process = psutil.Process()
    expected: dict[int, tuple[int, ...]] = {}
    asked = prompts(10, seed=7, longest=60)
    memory = []
    for turn in range(20):
        sinks = [Gathered() for _ in asked]
        handles = [
            engine.submit(Request(prompt, Decoding(10, frozenset({STOP}))), sink)
            for prompt, sink in zip(asked, sinks, strict=True)
        ]
        for handle in handles:
            if turn and random.random() < 0.3:
                handle.cancel()
        for number, sink in enumerate(sinks):
            found = sink.result(60)
            assert found.ended.reason in ("stop", "length", "cancelled")
            if found.ended.reason != "cancelled":
                assert expected.setdefault(number, found.ids) == found.ids
        memory.append(process.memory_info().rss)
    counters = engine.counters()
    engine.close()
    assert (counters.submitted, sum(counters.ended.values()), counters.blocks_in_use, counters.running) == (200, 200, 0, 0)
    assert counters.ended["cancelled"] > 10
    assert len(expected) == 10
    # After the first turns nothing grows; 200 leaks of a row of keys and values would be more.
    assert memory[-1] - memory[4] < 20 * 2**20


def test_without_blocks_requests_wait_and_a_full_queue_refuses(exported: Path) -> None:
    engine = engine_of(exported, blocks=4, limits=Limits(most_waiting=3))
    sinks: list[Gathered] = []
    refused = 0
    for prompt in [(5, 6, 7)] * 12:
        try:
            sinks.append(Gathered())
            engine.submit(Request(prompt, Decoding(100)), sinks[-1])
        except QueueFullError:
            refused += 1
            sinks.pop()
    assert refused >= 8
    assert {sink.result(60).ids for sink in sinks} == {sinks[0].result(0).ids}
    assert engine.counters().blocks_in_use == 0
    engine.close()


def test_a_cancel_from_another_thread_is_seen_within_two_tokens(engine: Engine) -> None:
    sink = Gathered()
    enough = threading.Event()
    seen_at_cancel: list[int] = []

    def told(event: object) -> None:
        sink(event)  # type: ignore[arg-type]
        if len(sink.tokens) == 5:
            enough.set()

    handle = engine.submit(Request((5, 6, 7), Decoding(400)), told)
    assert enough.wait(30)
    seen_at_cancel.append(len(sink.tokens))
    handle.cancel()
    found = sink.result(30)
    assert found.ended.reason == "cancelled"
    assert len(found.tokens) - seen_at_cancel[0] <= 2


@pytest.mark.parametrize("damage", ["missing", "empty folder", "no weights", "no model"])
def test_what_is_no_generator_is_refused_by_name(generator: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "damaged"
    if damage != "missing":
        folder.mkdir()
    if damage == "no weights":
        (folder / "config.json").write_bytes((generator / "config.json").read_bytes())
    if damage == "no model":
        (folder / "config.json").write_text(json.dumps({"model_type": "twinline"}))
    with pytest.raises(ContractError, match="damaged"):
        export_openvino(folder, tmp_path / "target" / "model.xml")


def test_a_model_whose_layers_do_not_all_see_everything_is_refused(generator: Path, tmp_path: Path) -> None:
    model = load_generator(generator)
    model.config.layer_types = ["full_attention", "sliding_attention"]
    model.save_pretrained(tmp_path / "sliding")
    with pytest.raises(ContractError, match="sliding_attention"):
        export_openvino(tmp_path / "sliding", tmp_path / "model.xml")


@pytest.mark.parametrize("damage", ["missing", "text", "encoder"])
def test_a_file_that_is_no_generator_is_refused_by_the_engine(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "model.xml"
    if damage == "text":
        file.write_text("<net/>")
    if damage == "encoder":
        import openvino
        from openvino import opset13 as ops

        given = ops.parameter([-1, 4], np.float32, name="x")
        openvino.save_model(openvino.Model([ops.relu(given)], [given]), file)
    with pytest.raises(ContractError, match=r"model\.xml"):
        PagedModel(file, POSITIONS, ModelSettings(blocks=4, threads=1))


def test_real_weights_give_the_ids_of_transformers_alone_in_batches_cold_and_warm(tmp_path: Path) -> None:
    folder = Path(os.environ.get(REAL, ""))
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"{REAL} names no folder with model.safetensors: unpack SmolLM2-135M-Instruct there to run this")
    export_openvino(folder, tmp_path / "model.xml")
    config = json.loads((folder / "config.json").read_text())
    random = np.random.default_rng(0)
    sizes = [int(size) for size in random.integers(5, 200, 8)]
    asked = [tuple(random.integers(3, config["vocab_size"], size).tolist()) for size in sizes]
    engine = Engine(PagedModel(tmp_path / "model.xml", config["max_position_embeddings"], ModelSettings(blocks=256))).start()
    figure = measure_parity(
        "openvino_fp32", "fp32", asked, ReferenceGenerator.load(folder), decode_with(engine, 1), 16, frozenset({STOP})
    )
    assert figure.passed, figure.summary()
    expected = [answer.ids for answer in decode_with(engine, 1)(asked, 16, frozenset({STOP}))]
    engine.close()
    # in batches, first cold and then warm
    engine = Engine(PagedModel(tmp_path / "model.xml", config["max_position_embeddings"], ModelSettings(blocks=256))).start()
    for rows in (8, 16):
        found = decode_with(engine, rows)([*asked, *asked], 16, frozenset({STOP}))
        assert [answer.ids for answer in found] == [*expected, *expected]
    engine.close()
