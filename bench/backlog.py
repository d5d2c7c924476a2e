"""Memory over a backlog: a real broker, the real consumer in a process of its own, the real embedded store.

    messages ──> Kafka ──> consumer ──(encoder)──> Edge        memory, sampled over the messages
    the same texts ──────────────────(encoder)──> Edge         the control: the store alone, without a consumer

The store holds all points, so its memory grows; any growth beyond that is the consumer's.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import psutil

from bench.backlog_messages import publish
from bench.checkout import CHECKOUT
from bench.workspace import Workspace, make_workspace
from triton_models.repository import write_models
from twinline.clients.kafka.connect import ensure_topics
from twinline.clients.kafka.standing import group_lag
from twinline.clients.settings import Settings
from twinline.contract.errors import ContractError, TransientError
from twinline.contract.release.manifest import Manifest
from twinline.stack import broker as embedded_broker
from twinline.stack import readiness

Encoder = Literal["hash", "triton"]

_SAMPLE_SECONDS: Final = 0.2
_START_SECONDS: Final = 90.0
# During this share caches fill, and kafka-python prefetches: from the embedded broker, the whole backlog.
_WARM_UP_SHARE: Final = 0.2
_POINTS_OF_A_CURVE: Final = 40
_MIB: Final = 2**20


@dataclass
class Curve:
    """Memory of a process in MiB over its handled messages: resident memory, and its private part (no mapped files)."""

    messages: list[int] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def slope(self, values: Sequence[float]) -> float:
        """Return the MiB that 10,000 messages add, by least squares, after the warm-up."""
        done, memory = np.asarray(self.messages, float), np.asarray(values, float)
        counted = done >= _WARM_UP_SHARE * done.max()
        return float(np.polyfit(done[counted] / 10_000, memory[counted], 1)[0])

    def report(self) -> dict[str, Any]:
        """Return the figures for the report."""
        step = max(1, len(self.messages) // _POINTS_OF_A_CURVE)
        return {
            "seconds": round(self.seconds, 1),
            "messages_per_second": round(self.messages[-1] / self.seconds, 1),
            "slope_mib_per_10000_messages": round(self.slope(self.resident), 3),
            "own_slope_mib_per_10000_messages": round(self.slope(self.own), 3),
            "peak_mib": round(max(self.resident), 1),
            "own_peak_mib": round(max(self.own), 1),
            "curve": [
                [done, round(resident, 1), round(own, 1)]
                for done, resident, own in list(zip(self.messages, self.resident, self.own, strict=True))[::step]
            ],
        }


def measure_backlog(folder: Path, release: Path | None, messages: int, encoder: Encoder) -> dict[str, Any]:
    """Consume a backlog, then write the same points without a consumer; return both curves of memory and their slopes.

    Raises:
        ContractError: a process ended before it was done, or messages are left.
    """
    started = time.monotonic()
    workspace = make_workspace(folder, {})
    release = release or _export(workspace)
    manifest = Manifest.load(release)
    with ExitStack() as triton:
        with running_broker(workspace) as settings:
            if encoder == "triton":
                triton.enter_context(_running_triton(workspace, settings, release))
            ensure_topics(settings)
            backlog = publish(settings, messages)
            environment = {**workspace.environment, "TWINLINE_TOPIC": settings.topic, "KAFKA_BOOTSTRAP": settings.kafka_address}
            consumer = _run_worker("consumer", workspace, environment, release, messages, encoder)
            left = sum(group_lag(settings, "backlog", settings.topic).values())
        # The control needs no broker, and an embedded broker is busy even without requests.
        store = _run_worker("store", workspace, environment, release, messages, encoder)
    if left:
        raise ContractError(f"{left} of {messages} messages are not committed, though the consumer reports that it is done")
    return {
        "bench": "backlog",
        "encoder": "hash: vectors made of a text's hash, no model" if encoder == "hash" else "Triton, the release's own",
        "release": manifest.release,
        "backlog": asdict(backlog),
        "consumer": consumer.report(),
        "store_alone": store.report(),
        "own_slope_of_the_consumer_mib_per_10000_messages": round(consumer.slope(consumer.own) - store.slope(store.own), 3),
        "seconds": round(time.monotonic() - started, 1),
    }


def _export(workspace: Workspace) -> Path:
    out = workspace.folder / "release"
    if not out.is_dir():
        workspace.module("export", "base", "--out", str(out))
    return out


@contextmanager
def running_broker(workspace: Workspace) -> Iterator[Settings]:
    """Run the embedded broker, unless KAFKA_BOOTSTRAP names another one; yield settings with a topic of their own."""
    settings = workspace.settings()
    settings = settings.model_copy(update={"topic": f"backlog-{os.getpid()}-{int(time.time())}"})
    if settings.kafka_bootstrap:
        yield settings
        return
    data = Path(workspace.folder / "broker" / str(time.time_ns()))
    command = [sys.executable, "-m", "twinline.stack.broker", settings.host, str(settings.kafka_port), str(data)]
    with _process(command, workspace.environment, lambda: readiness.broker(settings.kafka_address)):
        yield settings
    embedded_broker.stop_losslessly(data)


@contextmanager
def _running_triton(workspace: Workspace, settings: Settings, release: Path) -> Iterator[None]:
    from twinline.clients.triton.control import TritonControl

    write_models(release, settings.model_repository)
    control = TritonControl(settings.triton_grpc_address)
    command = [sys.executable, "-m", "triton_models", "serve"]
    with _process(command, workspace.environment, lambda: None if control.ready() else "not ready"):
        yield


@contextmanager
def _process(command: Sequence[str], environment: Mapping[str, str], problem: Any) -> Iterator[None]:
    with subprocess.Popen(command, cwd=CHECKOUT, env=dict(environment), stdin=subprocess.DEVNULL, stdout=sys.stderr) as process:
        try:
            give_up = time.monotonic() + _START_SECONDS
            while (reason := problem()) is not None:
                if process.poll() is not None or time.monotonic() > give_up:
                    raise TransientError(f"`{' '.join(command)}` did not become ready: {reason}")
                time.sleep(_SAMPLE_SECONDS)
            yield
        finally:
            process.terminate()
            process.wait(timeout=_START_SECONDS)


def _run_worker(
    what: str, workspace: Workspace, environment: Mapping[str, str], release: Path, messages: int, encoder: Encoder
) -> Curve:
    """Run a worker to its end, and sample its memory."""
    store = workspace.folder / f"store-{what}-{time.time_ns()}"
    command = [sys.executable, "-m", "bench.backlog_worker", what, str(store), str(release), str(messages), encoder]
    curve, started = Curve(), 0.0
    with subprocess.Popen(command, cwd=CHECKOUT, env=dict(environment), stdout=subprocess.PIPE, text=True) as process:
        done = _Last(process)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            # Not while it closes the store: the memory that it frees then is no part of the curve.
            if 0 < done.value < messages:
                started = started or time.monotonic()
                try:
                    memory = watched.memory_info()
                except psutil.Error:
                    break  # it has just ended
                curve.messages.append(done.value)
                curve.resident.append(memory.rss / _MIB)
                curve.own.append((memory.rss - memory.shared) / _MIB)
                curve.seconds = time.monotonic() - started
            time.sleep(_SAMPLE_SECONDS)
        done.join()
    if process.returncode or done.value < messages:
        raise ContractError(f"the process `{what}` ended with {process.returncode} after {done.value} of {messages} messages")
    return curve


class _Last:
    """The last number from a process's output."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.value = 0
        self._lines = process.stdout or ()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the output."""
        self._thread.join()

    def _read(self) -> None:
        for line in self._lines:
            self.value = int(line)
