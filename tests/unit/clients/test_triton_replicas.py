"""Several servers behind one embedder: turns, fail-over, a door for each; and the settings that name them."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinline.clients.settings import Settings, load_settings
from twinline.clients.triton import embedder as triton
from twinline.clients.triton import replica
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.clients.triton.fleet import Replica, TritonFleet
from twinline.clients.triton.transport import addresses
from twinline.contract.encoder import tensors
from twinline.contract.encoder.golden import encode_vector
from twinline.contract.errors import ContractError, MismatchError, SettingsError, TransientError, TwinlineError

VECTOR = np.array([0.6, 0.8, 0, 0], np.float32)


class Server:
    """A transport of a server that serves `space`, or fails as it is told to."""

    def __init__(self, address: str, space: str = "wanted") -> None:
        self.address = address
        self.space = space
        self.failure: TwinlineError | None = None
        self.asked = 0
        self.hangs = False
        self.waited: list[float] = []

    def config(self, model: str, timeout_seconds: float = 0) -> dict[str, Any]:
        self._fail(timeout_seconds)
        golden = f'{{"name": "g", "role": "query", "text": "a", "vector": "{encode_vector(VECTOR)}"}}'
        values = {"space": self.space, "precision": "fp32", "golden": golden}
        return {
            "parameters": {name: {"string_value": value} for name, value in values.items()},
            "output": [{"name": tensors.EMBEDDING, "dims": [4]}],
            "max_batch_size": 8,
        }

    def infer(
        self, model: str, inputs: Mapping[str, Any], outputs: Sequence[str], priority: int, timeout_seconds: float = 0
    ) -> dict[str, Any]:
        self.asked += 1
        self._fail(timeout_seconds)
        rows = len(inputs[tensors.TEXT])
        return {
            tensors.EMBEDDING: np.tile(VECTOR, (rows, 1)),
            tensors.TOKEN_COUNT: np.ones((rows, 1), np.int32),
            tensors.TRUNCATED: np.zeros((rows, 1), np.bool_),
            tensors.SPACE: np.full((rows, 1), self.space.encode(), dtype=np.object_),
        }

    def close(self) -> None:
        pass

    def _fail(self, timeout_seconds: float) -> None:
        if self.hangs:
            self.waited.append(timeout_seconds)
            time.sleep(timeout_seconds)
            raise TransientError(f"{self.address} did not answer in time")
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Server]:
    made: dict[str, Server] = {}

    def open_transport(address: str, *_: object) -> Server:
        return made.setdefault(address, Server(address))

    monkeypatch.setattr(triton, "open_transport", open_transport)
    return made


@pytest.fixture
def long_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, a rest does not end within a test."""
    monkeypatch.setattr(replica, "_FIRST_REST_SECONDS", 600.0)
    monkeypatch.setattr(replica, "_LONGEST_REST_SECONDS", 600.0)


def test_servers_take_turns(servers: dict[str, Server]) -> None:
    embedder = TritonEmbedder("a:1, b:1", "r1", "wanted")
    for _ in range(8):
        embedder.embed(["a question"], "query")
    # each was asked for its golden text once, and for its share of the rest
    assert sorted(server.asked for server in servers.values()) == [5, 5]


def test_one_that_dies_costs_no_query_and_is_passed_over(servers: dict[str, Server]) -> None:
    embedder = TritonEmbedder("a:1,b:1", "r1", "wanted")
    embedder.embed(["a"] * 4, "query")
    dead = servers["b:1"]
    dead.failure = TransientError("gone")
    before = dead.asked
    for _ in range(20):
        assert len(embedder.embed(["a question"], "query").vectors) == 1
    assert dead.asked - before <= 1


def test_when_all_are_away_the_error_says_so(servers: dict[str, Server]) -> None:
    embedder = TritonEmbedder("a:1,b:1", "r1", "wanted")
    for server in servers.values():
        server.failure = TransientError(f"{server.address} is gone")
    with pytest.raises(TransientError, match="is gone"):
        embedder.embed(["a question"], "query")
    for server in servers.values():
        server.failure = None
    # although both rest: there is nobody else to ask
    assert len(embedder.embed(["a question"], "query").vectors) == 1


def test_one_that_comes_back_with_another_encoder_is_refused_and_not_gone_around(servers: dict[str, Server]) -> None:
    embedder = TritonEmbedder("a:1,b:1", "r1", "wanted")
    servers["a:1"].space = "other"
    with pytest.raises(MismatchError, match="Triton at a:1 serves space other"):
        embedder.embed(["a question"], "query")


def test_what_one_refuses_for_good_is_not_sent_to_the_other(servers: dict[str, Server]) -> None:
    embedder = TritonEmbedder("a:1,b:1", "r1", "wanted")
    embedder.embed(["a"], "query")
    for server in servers.values():
        server.failure = ContractError("no such input")
        server.asked = 0
    with pytest.raises(ContractError, match="no such input"):
        embedder.embed(["a question"], "query")
    assert sum(server.asked for server in servers.values()) <= 1


def test_a_server_that_hangs_takes_its_share_of_a_querys_time_and_the_next_one_answers(
    servers: dict[str, Server], long_rest: None
) -> None:
    embedder = TritonEmbedder("a:1,b:1", "r1", "wanted", query_seconds=0.4)
    embedder.embed(["a"], "query")
    embedder.embed(["a"], "query")
    hanging = servers["a:1"]
    hanging.hangs = True
    for _ in range(8):
        assert len(embedder.embed(["a question"], "query").vectors) == 1
    # only one of them asked it, then it was passed over
    [waited] = hanging.waited
    assert 0 < waited <= 0.2


def test_a_server_that_hangs_before_its_first_check_costs_no_query_either(servers: dict[str, Server]) -> None:
    embedder = TritonEmbedder("a:1,b:1", "r1", "wanted", query_seconds=0.4)
    servers["a:1"].hangs = True
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: embedder.embed(["a question"], "query"), range(4)))
    assert [len(one.vectors) for one in found] == [1] * 4


def test_when_all_hang_a_query_fails_within_its_time_and_documents_may_wait_longer(servers: dict[str, Server]) -> None:
    embedder = TritonEmbedder("a:1,b:1", "r1", "wanted", query_seconds=0.2)
    embedder.embed(["a"] * 2, "query")
    embedder.embed(["a"] * 2, "query")
    for server in servers.values():
        server.hangs = True
    started = time.monotonic()
    with pytest.raises(TransientError, match="did not answer in time"):
        embedder.embed(["a question"], "query")
    waits = [wait for server in servers.values() for wait in server.waited]
    assert len(waits) == 2
    assert sum(waits) <= 0.21
    assert time.monotonic() - started < 20
    assert embedder._seconds["document"] == 60


def test_one_that_comes_back_from_its_rest_is_tried_by_one_query_alone(servers: dict[str, Server], long_rest: None) -> None:
    embedder = TritonEmbedder("a:1,b:1", "r1", "wanted", query_seconds=1.0)
    embedder.embed(["a"], "query")
    embedder.embed(["a"], "query")
    hanging = servers["a:1"]
    hanging.hangs = True
    for _ in range(2):
        embedder.embed(["a question"], "query")
    assert len(hanging.waited) == 1
    # its rest is over
    embedder._replicas[0]._rests_until = 0.0
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: embedder.embed(["a question"], "query"), range(8)))
    # once when it began to hang, and once after its rest
    assert len(hanging.waited) == 2


def test_a_server_that_has_too_much_to_do_is_gone_around_and_neither_rests_nor_is_checked_again(
    servers: dict[str, Server],
) -> None:
    embedder = TritonEmbedder("a:1,b:1", "r1", "wanted")
    embedder.embed(["a"], "query")
    embedder.embed(["a"], "query")
    busy = servers["a:1"]
    busy.failure, busy.asked = TransientError("overloaded", 1.0), 0
    for _ in range(6):
        assert len(embedder.embed(["a question"], "query").vectors) == 1
    # every time that it was its turn, and never for its golden text
    assert busy.asked == 3
    for server in servers.values():
        server.failure = TransientError("overloaded", 1.0)
    with pytest.raises(TransientError, match="overloaded") as failure:
        embedder.embed(["a question"], "query")
    assert failure.value.retry_after_seconds == 1.0


@pytest.mark.parametrize("listed", ["a", "a:1,", "a:1,,b:2", ":1", "a:b"])
def test_a_list_of_servers_that_is_none_is_refused(listed: str) -> None:
    with pytest.raises(SettingsError, match="host:port"):
        addresses(listed)


def test_each_server_has_its_repository_or_all_share_one(tmp_path: Path) -> None:
    two = "a:1,b:1"
    shared = TritonFleet.connect(Settings(home=tmp_path, triton_grpc=two))
    assert [one.repository for one in shared.replicas] == [tmp_path / "triton" / "models"] * 2
    own = TritonFleet.connect(Settings(home=tmp_path, triton_grpc=two, triton_repositories="/m/a,/m/b"))
    assert [(one.address, str(one.repository)) for one in own.replicas] == [("a:1", "/m/a"), ("b:1", "/m/b")]


def test_repositories_that_do_not_fit_the_servers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINLINE_TRITON_GRPC", "a:1,b:1,c:1")
    monkeypatch.setenv("TWINLINE_TRITON_REPOSITORIES", "/m/a,/m/b")
    with pytest.raises(SettingsError, match=r"2 folders, .* 3 servers"):
        load_settings()


def test_all_have_their_turn_and_what_repeating_cannot_mend_comes_first() -> None:
    failures = {"a:1": TransientError("a is away"), "b:1": ContractError("b refuses"), "c:1": None}
    turns = []

    def call(replica: Replica) -> str:
        turns.append(replica.address)
        if failure := failures[replica.address]:
            raise failure
        return replica.address

    fleet = TritonFleet([Replica(address, Path("m"), None) for address in failures])  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="b refuses"):
        fleet.each(call)
    assert turns == ["a:1", "b:1", "c:1"]
