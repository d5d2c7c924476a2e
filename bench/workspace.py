"""A folder and a set of free ports of a benchmark's own, so that it leaves the user's stack and data alone."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.checkout import CHECKOUT
from twinline.clients.params import read_params, set_params
from twinline.clients.settings import PROJECT_VARIABLE, Settings, load_settings
from twinline.contract.errors import ContractError

_PORTS = ("kafka", "triton_http", "triton_grpc", "triton_metrics", "search", "admin", "airflow")


@dataclass(frozen=True)
class Workspace:
    """The place of a benchmark: `folder` holds its params.yaml and outputs as in DVC, `folder/home` its stack."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *command: str) -> None:
        """Run one of our commands here, its output on standard error.

        Raises:
            ContractError: it failed; its own message is above.
        """
        print(f"$ {' '.join(command)}", file=sys.stderr, flush=True)
        result = subprocess.run(command, cwd=self.folder, env=dict(self.environment), stdout=sys.stderr, check=False)
        if result.returncode != 0:
            raise ContractError(f"`{' '.join(command)}` ended with {result.returncode}; its message is above")

    def module(self, *arguments: str) -> None:
        """Run `python -m ...` here."""
        self.run(sys.executable, "-m", *arguments)

    def settings(self) -> Settings:
        """Return the settings of commands in this workspace."""
        before = dict(os.environ)
        os.environ.update(self.environment)
        try:
            return load_settings()
        finally:
            os.environ.clear()
            os.environ.update(before)


def make_workspace(folder: Path, changes: Mapping[str, Any]) -> Workspace:
    """Make the folder, with the checkout's params.yaml and some changes in it.

    Args:
        folder: stays between runs, so that finished work is not done again.
        changes: values by dotted name, such as `encoder.train.epochs`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    params = read_params(CHECKOUT / "params.yaml")
    set_params(params, changes)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    environment = dict(os.environ)
    environment["TWINLINE_HOME"] = str(folder / "home")
    environment[PROJECT_VARIABLE] = str(CHECKOUT)
    environment["PYTHONPATH"] = str(CHECKOUT)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    for name, port in zip(_PORTS, free_ports(len(_PORTS)), strict=True):
        environment[f"TWINLINE_{name.upper()}_PORT"] = str(port)
    return Workspace(folder, environment)


@contextmanager
def running_stack(workspace: Workspace) -> Iterator[None]:
    """Run the embedded stack without Airflow while the block runs."""
    try:
        workspace.module("twinline", "up", "--no-scheduler")
        yield
    finally:
        workspace.module("twinline", "down")


def free_ports(count: int) -> Sequence[int]:
    """Return ports without a listener."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
