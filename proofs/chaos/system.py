"""A system of its own: the stack's own parts in a temporary home on free ports, each supervised by the harness."""

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from bench.base_release import base_release_folder
from bench.checkout import CHECKOUT
from bench.workspace import free_ports
from proofs.chaos.brokers import Broker, EmbeddedBroker, NamedBroker
from proofs.chaos.points import ONLINE_MODULE
from proofs.chaos.supervised import Supervised
from triton_models.repository import point_stable_model, write_models
from twinline.clients.kafka.connect import ensure_topics
from twinline.clients.settings import Settings
from twinline.contract.release.manifest import Manifest, collection_name, consumer_group
from twinline.stack import processes
from twinline.stack.parts import Part, parts

_PORTS = ("KAFKA", "TRITON_HTTP", "TRITON_GRPC", "TRITON_METRICS", "SEARCH", "ADMIN")
_PARTS = ("broker", "triton", "online")
_START_SECONDS = 240.0
_BUILD_SECONDS = 300.0


class System:
    """Broker, Triton and online process, one release, its collection active."""

    def __init__(self, home: Path, sabotage: str = "") -> None:
        """Prepare all parts, start none."""
        self.home = home
        self.folder = home / "chaos"
        self.folder.mkdir(parents=True)
        release = base_release_folder()
        self.release = Manifest.load(release).release
        ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
        kafka = os.environ.get("KAFKA_BOOTSTRAP", "")
        # On a shared broker our names must differ from those of other users.
        topic = f"documents-{uuid.uuid4().hex[:8]}" if kafka else "documents"
        store = {name: os.environ[name] for name in ("TWINLINE_STORE", "QDRANT_URL", "QDRANT_API_KEY") if name in os.environ}
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TWINLINE_", "KAFKA_")) or name.startswith("TWINLINE_KAFKA_S")
        }
        self.environment = {
            **kept,
            **store,
            **{f"TWINLINE_{name}_PORT": str(port) for name, port in ports.items()},
            "TWINLINE_HOME": str(home),
            "TWINLINE_TOPIC": topic,
            **({"KAFKA_BOOTSTRAP": kafka} if kafka else {}),
            processes.STACK_VARIABLE: str(home),
            "CHAOS_FOLDER": str(self.folder),
            "CHAOS_SABOTAGE": sabotage,
        }
        fields: dict[str, Any] = {f"{name.lower()}_port": port for name, port in ports.items()}
        self.settings = Settings(
            home=home,
            topic=topic,
            kafka_bootstrap=kafka,
            store="qdrant" if store.get("TWINLINE_STORE") == "qdrant" else "edge",
            qdrant_url=store.get("QDRANT_URL"),
            **fields,
        )
        shutil.copytree(release, self.settings.releases / self.release)
        write_models(release, self.settings.model_repository)
        point_stable_model(self.release, self.settings.model_repository)
        self._parts = {part.name: part for part in parts(self.settings) if part.name in _PARTS}
        self.supervised = {name: self._supervise(part) for name, part in self._parts.items()}
        self.broker: Broker = (
            EmbeddedBroker(self.supervised["broker"], home / "kafka") if "broker" in self.supervised else NamedBroker()
        )

    @property
    def collection(self) -> str:
        """Return the name of the release's collection."""
        return collection_name(self.release)

    @property
    def group(self) -> str:
        """Return the consumer group."""
        return consumer_group(self.release)

    def start_dependencies(self) -> None:
        """Start broker and Triton, and make the topics."""
        for name in ("broker", "triton"):
            if name in self.supervised:
                self.supervised[name].start()
        for name in ("broker", "triton"):
            if name in self.supervised:
                self.wait_ready(name)
        ensure_topics(self.settings)

    def build(self) -> None:
        """Build the collection by the documented command."""
        command = [sys.executable, "-m", "streaming", "build", "--release", self.release]
        environment = {**self.environment, processes.PART_VARIABLE: "build"}
        done = subprocess.run(
            command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}: {done.stderr[-2000:]}")

    def start_online(self) -> None:
        """Start the online process and let it answer from the collection."""
        self.supervised["online"].start()
        self.wait_ready("online")
        place = f"{self.settings.admin_url}/collections/{self.collection}/activate"
        self._wait(lambda: self._activate(place), "the collection is active")

    def wait_ready(self, name: str) -> None:
        """Wait until a part is ready by the stack's own probe."""
        self._wait(self._parts[name].probe, f"{name} is ready")

    def stop(self) -> dict[str, int | None]:
        """Stop all running parts in order; return exit codes. No process of ours is left afterwards."""
        codes: dict[str, int | None] = {}
        for name in ("online", "triton", "broker"):
            if name in self.supervised:
                codes[name] = self.supervised[name].stop(self._parts[name].stop_limit_seconds)
        processes.end(self.home, None, patience_seconds=5, as_group=True)
        return codes

    def left_behind(self, name: str) -> int:
        """Return the number of a part's processes that do not descend from the running one."""
        pid = self.supervised[name].pid
        own = {process.pid for process in processes.find(self.home, name)}
        if pid is None:
            return len(own)
        import psutil

        try:
            current = {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
        except psutil.NoSuchProcess:
            return 0
        return len(own - current)

    def _supervise(self, part: Part) -> Supervised:
        command = list(part.command)
        if part.name == "online":
            # The same process, with points for kills.
            command[command.index(ONLINE_MODULE)] = "proofs.chaos.points"
        environment = {**self.environment, processes.PART_VARIABLE: part.name}
        return Supervised(part.name, command, environment, self.home / f"{part.name}.log")

    def _activate(self, place: str) -> str | None:
        try:
            response = httpx.post(place, timeout=60, trust_env=False)
        except httpx.HTTPError as exc:
            return str(exc)
        return None if response.is_success else response.text[:300]

    def _wait(self, probe: Callable[[], str | None], meaning: str) -> None:
        give_up = time.monotonic() + _START_SECONDS
        while (problem := probe()) is not None:
            if time.monotonic() > give_up:
                raise RuntimeError(f"waited {_START_SECONDS:.0f} s for: {meaning}: {problem}")
            time.sleep(0.1)
