"""Real processes for the tests: each fixture is started once, on free ports, with a home of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import pytest

from bench.workspace import free_ports
from proofs.foreign.apache import RIGHTS, ApacheKafka, missing_tools
from tests.checkout import CHECKOUT
from tests.fixtures_triton import base_release, triton_server  # noqa: F401  (fixtures for every module here)
from twinline.clients.settings import Settings
from twinline.stack import broker as embedded_broker
from twinline.stack import processes, readiness

_START_LIMIT_SECONDS = 60
EXTERNAL_BROKER = os.environ.get("KAFKA_BOOTSTRAP", "")
_PORT_SETTINGS = ("KAFKA", "TRITON_HTTP", "TRITON_GRPC", "TRITON_METRICS", "SEARCH", "ADMIN", "AIRFLOW")


@dataclass(frozen=True)
class Stack:
    """A stack with a home and ports of its own, driven as a person does: by the command."""

    home: Path
    environment: dict[str, str] = field(repr=False)

    @property
    def settings(self) -> Settings:
        """Return the settings that the command reads from the environment."""
        ports = {f"{name.lower()}_port": int(self.environment[f"TWINLINE_{name}_PORT"]) for name in _PORT_SETTINGS}
        topic = self.environment.get("TWINLINE_TOPIC", "documents")
        return Settings(home=self.home, kafka_bootstrap=self.environment.get("KAFKA_BOOTSTRAP", ""), topic=topic, **ports)

    def on_broker(self, variables: Mapping[str, str]) -> "Stack":
        """Return this stack on a broker elsewhere, with a topic of its own there; without variables, on its embedded one."""
        topic = {"TWINLINE_TOPIC": f"documents-{uuid4().hex[:8]}"} if variables else {}
        return replace(self, environment={**self.environment, **variables, **topic})

    def run(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run `twinline ARGUMENTS` and return what came of it."""
        return subprocess.run(
            [sys.executable, "-m", "twinline", *arguments],
            cwd=CHECKOUT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder with a short path, as the socket of the supervisor needs; pytest's own are too deep."""
    folder = Path(tempfile.mkdtemp(prefix="twinline-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def make_stack(short_folder: Path) -> Iterator[Callable[[str], Stack]]:
    """Make stacks that nothing of is left when the session ends, whatever a test did to them."""
    made: list[Stack] = []

    def make(name: str) -> Stack:
        home = (short_folder / name).resolve()
        ports = dict(zip(_PORT_SETTINGS, free_ports(len(_PORT_SETTINGS)), strict=True))
        variables = {f"TWINLINE_{setting}_PORT": str(port) for setting, port in ports.items()}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("TWINLINE_", "KAFKA_"))}
        made.append(Stack(home, inherited | variables | {"TWINLINE_HOME": str(home)}))
        return made[-1]

    yield make
    for stack in (stack for stack in made if processes.find(stack.home)):
        stack.run("down")
        processes.end(stack.home, None, patience_seconds=5, as_group=True)


@pytest.fixture(scope="session")
def stack(make_stack: Callable[[str], Stack]) -> Stack:
    """The stack that tests share; each says with `up` what it needs of it."""
    return make_stack("stack")


@pytest.fixture(scope="session")
def apache(short_folder: Path) -> Iterator[ApacheKafka]:
    """An Apache Kafka of the tests' own."""
    if missing := missing_tools():
        pytest.skip(f"Apache Kafka needs {', '.join(missing)}, which this machine lacks")
    started = ApacheKafka.start(short_folder / "apache")
    yield started
    started.stop()


@pytest.fixture(scope="session")
def broker_variables(request: pytest.FixtureRequest) -> Iterator[Mapping[str, str]]:
    """What the environment of a process says of a broker that is not the embedded one: nothing where it is."""
    chosen = request.config.getoption("--broker")
    if EXTERNAL_BROKER or chosen == "embedded":
        yield {"KAFKA_BOOTSTRAP": EXTERNAL_BROKER} if EXTERNAL_BROKER else {}
        return
    started: ApacheKafka = request.getfixturevalue("apache")
    if chosen == "apache":
        yield {"KAFKA_BOOTSTRAP": started.address}
        return
    started.grant(RIGHTS)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in started.secure_variables().items():
            patch.setenv(name, value)
        yield started.secure_variables()


@pytest.fixture
def _embedded_only(pytestconfig: pytest.Config) -> None:
    """Skip where the broker is not the embedded one: it is not ours to restart."""
    if EXTERNAL_BROKER or pytestconfig.getoption("--broker") != "embedded":
        pytest.skip("it restarts the embedded broker, and this run has another one")


@pytest.fixture(scope="session")
def broker(short_folder: Path, broker_variables: Mapping[str, str]) -> Iterator[str]:
    """The bootstrap address of a real broker: the one that KAFKA_BOOTSTRAP names, or `--broker` chooses, else the embedded one.

    It may be somebody's, and is shared by the tests: each uses topics and groups of its own.
    """
    if broker_variables:
        yield broker_variables["KAFKA_BOOTSTRAP"]
        return
    (port,) = free_ports(1)
    data_folder = short_folder / "broker"
    command = [sys.executable, "-m", "twinline.stack.broker", "127.0.0.1", str(port), str(data_folder)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: readiness.broker(f"127.0.0.1:{port}"), process)
        yield f"127.0.0.1:{port}"
        process.terminate()
        process.wait(timeout=30)
    embedded_broker.stop_losslessly(data_folder)


def wait_until(probe: Callable[[], str | None], process: subprocess.Popen[bytes]) -> None:
    """Wait until a probe finds nothing wrong, or fail with what it said last."""
    give_up = time.monotonic() + _START_LIMIT_SECONDS
    while (problem := probe()) is not None:
        if process.poll() is not None or time.monotonic() > give_up:
            pytest.fail(f"{process.args!r} did not become ready (exit {process.poll()}): {problem}")
        time.sleep(0.1)
