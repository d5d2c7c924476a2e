"""Two real Triton servers with a repository each: a release goes into service on both or on neither."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.checkout import CHECKOUT
from tests.fixtures_triton import RunningTriton, release_that_serves, running_triton
from triton_models.names import embed_model
from triton_models.repository import is_stable, releases_in
from twinline.clients.settings import Settings
from twinline.clients.triton.control import TritonControl
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.clients.triton.fleet import Replica, TritonFleet
from twinline.contract.encoder.golden import read_golden
from twinline.contract.errors import ContractError, TransientError
from twinline.contract.release.checks import Check, require_pass
from twinline.contract.release.manifest import Manifest
from twinline.release import publish, switch


@dataclass(frozen=True)
class Pair:
    """Two servers that serve the base release, and a second release that is packaged."""

    servers: tuple[RunningTriton, RunningTriton]
    base: Path
    second: Path

    @property
    def settings(self) -> Settings:
        return Settings(
            home=self.servers[0].home,
            triton_grpc=",".join(server.grpc for server in self.servers),
            triton_http=",".join(server.http for server in self.servers),
            triton_repositories=",".join(str(server.repository) for server in self.servers),
        )

    @property
    def manifest(self) -> Manifest:
        return Manifest.load(self.second)

    def embedder(self, folder: Path) -> TritonEmbedder:
        manifest = Manifest.load(folder)
        return TritonEmbedder(self.settings.triton_grpc_address, manifest.release, manifest.space)

    def confirm(self, address: str) -> Sequence[Check]:
        with TritonEmbedder(address, self.manifest.release, self.manifest.space) as embedder:
            return publish.golden_checks(self.second, self.manifest, embedder)


@pytest.fixture(scope="module")
def pair(base_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    second = release_that_serves(base_release, "onnx_fp32", folder / "second")
    with running_triton(folder / "one", base_release) as one, running_triton(folder / "two", base_release) as two:
        yield Pair((one, two), base_release, second)


@pytest.fixture
def fleet(pair: Pair) -> Iterator[TritonFleet]:
    with closing(TritonFleet.connect(pair.settings)) as connected:
        yield connected


class DamagedDisk(TritonControl):
    """The control of a server on whose disk a byte changes between the writing and the loading."""

    def __init__(self, address: str, repository: Path) -> None:
        super().__init__(address)
        self._repository = repository

    def load(self, model: str) -> None:
        encoder = self._repository / model.replace("embed_", "encoder_") / "1"
        weights = max(encoder.iterdir(), key=lambda path: path.stat().st_size)
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        super().load(model)


def everywhere_as_before(pair: Pair, fleet: TritonFleet) -> None:
    """Assert that both servers serve the base release, and know nothing of the second one."""
    base, second = Manifest.load(pair.base).release, pair.manifest.release
    for replica in fleet.replicas:
        assert replica.control.ready(f"embed_{base}")
        assert replica.control.space("embed") == Manifest.load(pair.base).space
        assert is_stable(base, replica.repository)
        assert not replica.control.ready(f"embed_{second}")
        assert not replica.control.ready(f"encoder_{second}")
        assert releases_in(replica.repository) == [base]
        assert [path.name for path in replica.repository.parent.glob(".models-*")] == []


def test_where_one_server_refuses_nothing_changes_anywhere(pair: Pair, fleet: TritonFleet) -> None:
    sound, other = fleet.replicas
    damaged = Replica(other.address, other.repository, DamagedDisk(other.address, other.repository))
    with pytest.raises(ContractError, match=rf"{other.address}.*SHA-256"):
        publish.publish(pair.second, pair.manifest, embed_model(pair.manifest.release), [sound, damaged], "cpu", pair.confirm)
    everywhere_as_before(pair, fleet)
    with pair.embedder(pair.base) as embedder:
        assert len(embedder.embed(["a question"] * 4, "query").vectors) == 4
    # and a switch in spite of it is refused
    with pytest.raises(ContractError, match=f"{sound.address}, {other.address} has not loaded"):
        publish.require_everywhere(pair.manifest.release, embed_model(pair.manifest.release), fleet.replicas)


def test_where_one_server_answers_otherwise_nothing_changes_anywhere(pair: Pair, fleet: TritonFleet) -> None:
    def confirm(address: str) -> Sequence[Check]:
        found = pair.confirm(address)
        return found if address == fleet.replicas[0].address else [Check("golden query texts", False, "0.2 away")]

    with pytest.raises(ContractError, match=rf"Triton at {fleet.replicas[1].address} is refused.*0\.2 away"):
        publish.publish(pair.second, pair.manifest, embed_model(pair.manifest.release), fleet.replicas, "cpu", confirm)
    everywhere_as_before(pair, fleet)


def test_where_one_server_is_away_nothing_is_begun(pair: Pair) -> None:
    missing = pair.settings.model_copy(update={"triton_grpc": f"{pair.servers[0].grpc},127.0.0.1:9"})
    with closing(TritonFleet.connect(missing)) as fleet, pytest.raises(TransientError, match=r"127\.0\.0\.1:9 \(1 of 2\)"):
        fleet.require_all()


def test_where_both_accept_both_follow(pair: Pair, fleet: TritonFleet) -> None:
    """By the command that a person types; then `embed`, there and back."""
    base, second = Manifest.load(pair.base), pair.manifest
    for arguments in (("fetch", str(pair.second)), ("publish", second.release), ("publish", second.release)):
        done = _release(pair, *arguments)
        assert done.returncode == 0, done.stderr
    assert "loaded on 0 of 2 servers, confirmed by all" in done.stderr
    publish.require_everywhere(second.release, embed_model(second.release), fleet.replicas)
    for manifest in (second, base):
        for replica in fleet.replicas:
            note = replica.repository.parent / f"embed-{replica.address}"
            switch.follow(manifest.release, manifest.space, replica.repository, replica.control, note)
            assert switch.follows(manifest.release, manifest.space, replica.repository, replica.control, note)
        for replica in fleet.replicas:
            assert is_stable(manifest.release, replica.repository)
            require_pass(_golden_of_stable(replica, pair.base, manifest), replica.address, "")


def test_a_server_that_hangs_costs_no_query_and_is_asked_again_when_it_goes_on(pair: Pair) -> None:
    golden = next(entry for entry in read_golden(pair.base) if entry.role == "query")
    manifest, hanging = Manifest.load(pair.base), pair.servers[1]
    with TritonEmbedder(pair.settings.triton_grpc, manifest.release, manifest.space, query_seconds=4) as embedder:
        for _ in range(4):
            embedder.embed([golden.text], "query")
        # It keeps its port and its connections, and never answers: what a crash does not look like.
        os.kill(hanging.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            for _ in range(6):
                assert golden.distance(embedder.embed([golden.text], "query").vectors[0]) <= 1e-6
            # A search that waits for ever, or as long as documents do, would not be here yet.
            assert time.monotonic() - started < 25
        finally:
            os.kill(hanging.pid, signal.SIGCONT)
        with TritonEmbedder(hanging.grpc, manifest.release, manifest.space) as alone:
            assert golden.distance(alone.embed([golden.text], "query").vectors[0]) <= 1e-6


def test_a_server_that_dies_costs_no_query(pair: Pair) -> None:
    # The last test of this module: afterwards one of the two is gone.
    golden = next(entry for entry in read_golden(pair.base) if entry.role == "query")
    with pair.embedder(pair.base) as embedder:
        for round_ in range(60):
            if round_ == 20:
                os.kill(pair.servers[1].pid, signal.SIGKILL)
            found = embedder.embed([golden.text], "query")
            assert golden.distance(found.vectors[0]) <= 1e-6
    with closing(TritonFleet.connect(pair.settings)) as fleet:
        # the remaining server is enough to go back, and too little to publish
        publish.require_everywhere(
            Manifest.load(pair.base).release, embed_model(Manifest.load(pair.base).release), fleet.replicas
        )
        with pytest.raises(TransientError, match=f"{pair.servers[1].grpc} \\(1 of 2\\)"):
            fleet.require_all()


def _golden_of_stable(replica: Replica, folder: Path, manifest: Manifest) -> list[Check]:
    with TritonEmbedder(replica.address, manifest.release, manifest.space, model="embed") as embedder:
        return publish.golden_checks(folder, manifest, embedder)


def _release(pair: Pair, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "TWINLINE_HOME": str(pair.settings.home),
        "TWINLINE_TRITON_GRPC": pair.settings.triton_grpc,
        "TWINLINE_TRITON_REPOSITORIES": pair.settings.triton_repositories,
    }
    command = [sys.executable, "-m", "twinline.release", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=200, check=False)
