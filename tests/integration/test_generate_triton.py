"""The generator's model in a real Triton: a tiny random llama, by HTTP and gRPC, equal to the engine in process."""

import json
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from export.generator.to_openvino import export_openvino
from tests.fixtures_triton import RunningTriton, running_triton
from tests.unit.export.tiny_generator import POSITIONS, STOP, write_tiny_generator
from triton_models.generator.engine.engine import Engine
from triton_models.generator.engine.model import ModelSettings, PagedModel
from triton_models.generator.engine.requests import Decoding, Request, generate
from triton_models.generator.engine.scheduler import Limits
from triton_models.generator.repository import write_generator
from triton_models.generator.served import ServedGenerator
from twinline.clients.triton.control import TritonControl

pytestmark = pytest.mark.integration

MODEL = "generate_tiny"
PROMPT = [5, 6, 7]
SERVED = ServedGenerator(
    release="tiny",
    fingerprint="f" * 64,
    file="openvino/model.xml",
    most_positions=POSITIONS,
    stop_ids=(STOP,),
    max_tokens=300,
    choices=("max_tokens", "seed"),
    model=ModelSettings(blocks=128, threads=1),
    limits=Limits(most_waiting=8),
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_generator(folder / "generator")
    export_openvino(folder / "generator", folder / "exported" / SERVED.file)
    return folder / "exported"


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTriton]:
    with running_triton(tmp_path_factory.mktemp("home")) as server:
        write_generator(exported, SERVED, server.repository)
        control = TritonControl(server.grpc)
        control.load(MODEL)
        control.close()
        yield server


@pytest.fixture(scope="module")
def expected(exported: Path) -> tuple[int, ...]:
    engine = Engine(PagedModel(exported / SERVED.file, SERVED.most_positions, SERVED.model)).start()
    found = generate(engine, Request(tuple(PROMPT), Decoding(20, frozenset(SERVED.stop_ids)))).ids
    engine.close()
    return found


def posted(server: RunningTriton, door: str, **given: object) -> httpx.Response:
    body = {"input_ids": PROMPT, "max_tokens": 20, **given}
    return httpx.post(f"http://{server.http}/v2/models/{MODEL}/{door}", json=body, timeout=60)


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]


def test_one_response_by_http_has_the_ids_of_the_engine_in_process(server: RunningTriton, expected: tuple[int, ...]) -> None:
    found = posted(server, "generate", stream=False, first_ids=[4, 9]).json()
    assert tuple(found["token_ids"]) == expected
    assert len(found["first_log_probabilities"]) == 2
    assert found["finish_reason"] in ("stop", "length")


def test_a_stream_by_http_has_an_event_a_token_and_the_reason_last(server: RunningTriton, expected: tuple[int, ...]) -> None:
    *tokens, last = events(posted(server, "generate_stream"))
    assert tuple(event["token_ids"] for event in tokens) == expected
    assert all("finish_reason" not in event for event in tokens)
    assert last["finish_reason"] in ("stop", "length")


@pytest.mark.parametrize("door", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"input_ids": []}, "no ids"),
        ({"input_ids": [300]}, "vocabulary ends at 299"),
        ({"max_tokens": 301}, "the release allows 300"),
        ({"temperature": 1.0}, "not temperature"),
        ({"input_ids": [3] * 500}, "512 positions"),
    ],
)
def test_a_bad_request_is_a_400_with_its_reason(server: RunningTriton, door: str, given: dict[str, object], said: str) -> None:
    answer = posted(server, door, stream=False, **given)
    assert answer.status_code == 400
    assert said in answer.text


def test_a_stream_by_grpc_that_is_cancelled_frees_its_place(server: RunningTriton, expected: tuple[int, ...]) -> None:
    for _ in range(20):
        client = triton_grpc.InferenceServerClient(server.grpc)
        results: queue.Queue[Any] = queue.Queue()
        client.start_stream(lambda result, error, results=results: results.put(error or result))
        ids = triton_grpc.InferInput("input_ids", [len(PROMPT)], "INT64")
        ids.set_data_from_numpy(np.array(PROMPT, np.int64))
        most = triton_grpc.InferInput("max_tokens", [1], "INT32")
        most.set_data_from_numpy(np.array([300], np.int32))
        client.async_stream_infer(MODEL, [ids, most], enable_empty_final_response=True)
        first = results.get(timeout=30)
        assert first.as_numpy("token_ids").tolist() == [expected[0]]
        client.stop_stream(cancel_requests=True)
        client.close()
    begin = time.monotonic()
    assert tuple(posted(server, "generate", stream=False).json()["token_ids"]) == expected
    # twenty answers of 300 tokens would have filled the blocks and the queue
    assert time.monotonic() - begin < 30
