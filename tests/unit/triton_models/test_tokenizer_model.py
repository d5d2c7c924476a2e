"""The tokenizer model of Triton, run as Triton runs it, with a stand-in for Triton's own module."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.checkout import CHECKOUT
from twinline.contract.encoder.specification import ChunkerSettings, make_contract
from twinline.contract.encoder.tokens import TokenEncoder

BUCKETS = (4, 8, 16)


@dataclass
class Tensor:
    name: str
    array: Any

    def as_numpy(self) -> Any:
        return self.array


@dataclass
class Error:
    message: str
    code: int = 0
    INVALID_ARG = 3


@dataclass
class Response:
    output: list[Tensor] = field(default_factory=list)
    error: Error | None = None

    def arrays(self) -> dict[str, Any]:
        assert self.error is None
        return {tensor.name: tensor.array for tensor in self.output}


Request = Mapping[str, Any]


def request(*texts: str, role: str = "document") -> Request:
    column = np.array([[text.encode()] for text in texts], dtype=np.object_)
    return {"TEXT": column, "ROLE": np.full(column.shape, role.encode(), dtype=np.object_)}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    stand_in = ModuleType("triton_python_backend_utils")
    stand_in.Tensor, stand_in.TritonError, stand_in.InferenceResponse = Tensor, Error, Response  # type: ignore[attr-defined]
    stand_in.get_input_tensor_by_name = lambda given, name: Tensor(name, given[name])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = spec_from_file_location("tokenizer_model_alone", CHECKOUT / "triton_models" / "encoder" / "tokenizer" / "model.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "ask": 2, "say": 3, "cat": 4, "dog": 5}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    contract, own = make_contract(
        tokenizer.to_str().encode(),
        max_tokens=16,
        dimension=8,
        query_prefix="ask ",
        document_prefix="say ",
        chunker=ChunkerSettings(overlap_tokens=0, title="omit", title_max_tokens=0),
    )
    made = module.TritonPythonModel()
    made._encoder, made._buckets, made._space = TokenEncoder(contract.vector, own), BUCKETS, b"a space"
    return made


REQUESTS = (
    request("cat"),
    request("dog", "cat cat cat cat cat cat", role="query"),
    request("cat dog cat dog cat dog cat dog cat dog cat dog cat dog cat dog cat dog"),
    request("dog", role="query"),
)


def test_a_request_is_answered_alike_alone_and_among_others(model: Any) -> None:
    together = model.execute(list(REQUESTS))
    for given, found in zip(REQUESTS, together, strict=True):
        [alone] = model.execute([given])
        assert found.arrays().keys() == alone.arrays().keys()
        for name, array in alone.arrays().items():
            np.testing.assert_array_equal(found.arrays()[name], array, err_msg=name)


def test_each_text_has_the_prefix_of_its_own_role_and_its_request_its_own_length(model: Any) -> None:
    first, second, third, _ = (found.arrays() for found in model.execute(list(REQUESTS)))
    assert first["input_ids"].tolist() == [[3, 4, 0, 0]]
    assert second["input_ids"][:, 0].tolist() == [2, 2]
    assert [answer["input_ids"].shape for answer in (first, second, third)] == [(1, 4), (2, 8), (1, 16)]
    assert third["TRUNCATED"].tolist() == [[True]]


def test_a_bad_request_gets_its_own_error_and_its_neighbours_get_their_answers(model: Any) -> None:
    not_text = {**request("cat"), "TEXT": np.array([[b"\xff"]], dtype=np.object_)}
    answers = model.execute([request("cat"), request("cat", role="poet"), not_text, request("dog")])
    assert [bool(found.error) for found in answers] == [False, True, True, False]
    assert "poet" in answers[1].error.message
    assert "UTF-8" in answers[2].error.message
    assert answers[3].arrays()["input_ids"].tolist() == [[3, 5, 0, 0]]


def test_one_request_may_mix_roles(model: Any) -> None:
    column = np.array([[b"cat"], [b"dog"], [b"cat"]], dtype=np.object_)
    roles = np.array([[b"query"], [b"document"], [b"query"]], dtype=np.object_)
    [found] = model.execute([{"TEXT": column, "ROLE": roles}])
    assert found.arrays()["input_ids"][:, :2].tolist() == [[2, 4], [3, 5], [2, 4]]


LIMIT = 262_144


@pytest.mark.parametrize("text", ["cat " * (LIMIT // 4) + "x", "x" * (LIMIT + 1), "\U0001f600" * (LIMIT + 1), "cat " * 2_500_000])
def test_a_text_beyond_the_limit_is_refused_before_it_costs_anything(model: Any, text: str) -> None:
    answers = model.execute([request("cat"), request("dog", text), request("dog")])
    assert [bool(found.error) for found in answers] == [False, True, False]
    assert f"TEXT has {len(text)} characters, the limit is {LIMIT}: cut it" in answers[1].error.message
    assert answers[1].error.code == Error.INVALID_ARG


@pytest.mark.parametrize("text", ["cat " * (LIMIT // 4), "x" * LIMIT, "\U0001f600" * LIMIT])
def test_a_text_at_the_limit_is_answered(model: Any, text: str) -> None:
    [found] = model.execute([request(text)])
    assert found.arrays()["input_ids"].shape[0] == 1


def test_the_limit_cuts_alike_without_a_server_and_is_counted_as_a_cut(model: Any) -> None:
    long, short = "x" * (2 * LIMIT), "cat"
    encoded = model._encoder.encode([long, long[:LIMIT], short], "document")
    assert encoded.token_ids[0] == encoded.token_ids[1]
    # One unknown word, which no limit of tokens cuts.
    assert encoded.truncated.tolist() == [True, False, False]
