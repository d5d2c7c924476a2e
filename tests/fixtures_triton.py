"""A real release of the base model, made once and kept, and a real Triton that serves it. Import the fixtures that you need."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.base_release import base_release_folder
from bench.workspace import free_ports
from tests.checkout import CHECKOUT
from triton_models.repository import point_stable_model, write_models
from twinline.clients.triton.control import TritonControl
from twinline.contract.release.manifest import Manifest, release_id

_START_LIMIT_SECONDS = 90


@dataclass(frozen=True)
class RunningTriton:
    """A server that answers."""

    home: Path
    grpc: str
    http: str
    log: Path
    pid: int = 0

    @property
    def repository(self) -> Path:
        """Return the model repository that it serves."""
        return self.home / "triton" / "models"


def release_that_serves(release: Path, format_name: str, target: Path) -> Path:
    """Copy a release as another one, equal but for the format that is served."""
    shutil.copytree(release, target)
    manifest = Manifest.load(release)
    serving = replace(manifest.serving, format=format_name)
    identity = manifest.space, manifest.fingerprints.contract, serving, manifest.files
    name = release_id(*identity, manifest.index, manifest.fusion)
    replace(manifest, release=name, serving=serving).save(target)
    return target


@contextmanager
def running_triton(home: Path, *releases: Path) -> Iterator[RunningTriton]:
    """Run the embedded server on free ports with the models of some releases; `embed` stands for the first."""
    for release in releases:
        write_models(release, home / "triton" / "models")
    if releases:
        point_stable_model(Manifest.load(releases[0]).release, home / "triton" / "models")
    http, grpc, metrics = free_ports(3)
    environment = {
        **os.environ,
        "TWINLINE_HOME": str(home),
        "TWINLINE_TRITON_HTTP_PORT": str(http),
        "TWINLINE_TRITON_GRPC_PORT": str(grpc),
        "TWINLINE_TRITON_METRICS_PORT": str(metrics),
    }
    server = RunningTriton(home, f"127.0.0.1:{grpc}", f"127.0.0.1:{http}", home / "triton.log")
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "triton_models", "serve"],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(server, process)
            # The command becomes the server: its process is the server's own.
            yield replace(server, pid=process.pid)
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(server: RunningTriton, process: subprocess.Popen[bytes]) -> None:
    control = TritonControl(server.grpc)
    give_up = time.monotonic() + _START_LIMIT_SECONDS
    while not control.ready():
        if process.poll() is not None or time.monotonic() > give_up:
            pytest.fail(f"Triton did not start (exit {process.poll()}): {server.log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)
    control.close()


@pytest.fixture(scope="session")
def base_release() -> Path:
    """The packaged base model with the default contract."""
    return base_release_folder()


@pytest.fixture(scope="session")
def triton_server(base_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTriton]:
    """One Triton for the session: serves the base release, under its own name and as `embed`."""
    # In a folder whose name would be shell syntax, were it not quoted.
    with running_triton(tmp_path_factory.mktemp("my (odd) home; $(id)"), base_release) as server:
        yield server
