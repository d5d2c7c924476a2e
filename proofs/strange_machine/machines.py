"""The machines: one for each promised Python, and one with every oddity at once."""

import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.checkout import CHECKOUT
from bench.workspace import free_ports
from twinline.clients.hidden import OURS
from twinline.contract.errors import SettingsError
from twinline.registry.git import git

ODD: Final = "odd"
_PORTS: Final = ("kafka", "triton_http", "triton_grpc", "triton_metrics", "search", "admin", "airflow")
# Nothing listens there: what goes through it fails. Set-up alone goes without, since it has to reach the outside world.
_PROXY: Final = "http://127.0.0.1:9"
_SECRET_UMASK: Final = 0o077
# The files of this experiment are on another machine; the commit and its tags are in every clone.
_LOCK: Final = """\
schema: '2.0'
stages:
  encoder-package:
    cmd: python -m export package
    outs:
    - {path: models/release, hash: md5, md5: 0123456789abcdef0123456789abcdef.dir, size: 10, nfiles: 2}
"""


@dataclass(frozen=True)
class Machine:
    """A clone and the environment that its owner's shell has.

    Attributes:
        name: a version of Python, or `odd`.
        python: the interpreter for set-up.
        project: the clone.
        variables: of every command.
        proxies: of every command but set-up.
        umask: of every command; -1: the caller's.
    """

    name: str
    python: str
    project: Path
    variables: Mapping[str, str]
    proxies: Mapping[str, str] = field(default_factory=dict)
    umask: int = -1

    def run(self, *command: str, limit_seconds: float, is_set_up: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone; standard output and error are both in `stdout`, and bytes of any encoding are kept.

        Raises:
            subprocess.TimeoutExpired: it took too long.
        """
        return subprocess.run(
            command,
            cwd=self.project,
            env={**self.variables, **({} if is_set_up else self.proxies)},
            umask=self.umask,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=limit_seconds,
            check=False,
        )

    def twinline(self, *arguments: str, limit_seconds: float) -> subprocess.CompletedProcess[str]:
        """Run `twinline ARGUMENTS` as the clone's set-up has installed it."""
        return self.run(str(self.project / ".venv" / "bin" / "twinline"), *arguments, limit_seconds=limit_seconds)


def promised() -> list[str]:
    """Return the versions of Python that README names."""
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    return list(settings["tool"]["twinline"]["pythons"])


def machine(name: str, workspace: Path) -> Machine:
    """Make a machine, or find the one that an earlier run has left.

    Raises:
        SettingsError: its Python is not on this machine.
    """
    if name != ODD:
        return plain_machine(name, workspace, interpreter(name))
    place = workspace / "my proj (1)"
    project = _clone(place / "twinline")
    _plant_foreign_tags(project)
    other = place / "pp"
    for module in (*OURS[1:], "clients", "search", "release", "commands"):
        (other / module).mkdir(parents=True, exist_ok=True)
        (other / module / "__init__.py").write_text("raise ImportError('another package of this name')\n")
    active = place / "other env"
    (active / "bin").mkdir(parents=True, exist_ok=True)
    for program in ("python", "python3", "twinline", "airflow", "dvc"):
        (active / "bin" / program).write_text("#!/bin/sh\necho 'the program of another environment ran' >&2\nexit 99\n")
        (active / "bin" / program).chmod(0o755)
    variables = {
        **_shell(),
        "PYTHONPATH": str(other),
        "LC_ALL": "POSIX",
        # Not even the superuser can write there.
        "HOME": "/proc/no-home",
        "VIRTUAL_ENV": str(active),
        "PATH": f"{active / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    proxies = {name: _PROXY for kind in ("http", "https", "all") for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY")}
    return Machine(ODD, interpreter(promised()[0].rpartition(".")[0]), project, variables, proxies, _SECRET_UMASK)


def plain_machine(name: str, workspace: Path, python: str = "python3") -> Machine:
    """Make a machine without oddities, or find the one that an earlier run has left."""
    return Machine(name, python, _clone(workspace / name / "twinline"), _shell())


def interpreter(version: str) -> str:
    """Return the path of a Python of this machine, by its version or the beginning of it.

    Raises:
        SettingsError: there is none.
    """
    for candidate in _candidates(version):
        asked = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
        done = subprocess.run([candidate, "-c", asked], capture_output=True, text=True, check=False)
        if f"{done.stdout.strip()}.".startswith(f"{version}."):
            return candidate
    raise SettingsError(f"Python {version} is promised and not on this machine: install it (pyenv, apt), or leave it out")


def _candidates(version: str) -> Iterator[str]:
    minor = ".".join(version.split(".")[:2])
    for found in (f"/usr/bin/python{minor}", shutil.which(f"python{minor}"), shutil.which("python3")):
        if found and Path(found).exists():
            yield found
    for folder in sorted(Path("~/.pyenv/versions").expanduser().glob(f"{minor}.*")):
        yield str(folder / "bin" / "python")


def _shell() -> dict[str, str]:
    """Return the variables of a fresh shell, with ports of a stack of its own."""
    ours = ("TWINLINE_", "KAFKA_", "QDRANT_", "AIRFLOW", "PYTHON", "VIRTUAL_ENV")
    ports = {f"TWINLINE_{name.upper()}_PORT": str(port) for name, port in zip(_PORTS, free_ports(len(_PORTS)), strict=True)}
    return {**{name: value for name, value in os.environ.items() if not name.startswith(ours)}, **ports}


def _clone(folder: Path) -> Path:
    """Clone the checkout without its tags, uncommitted changes of tracked files included."""
    if not (folder / ".git").is_dir():
        git(CHECKOUT, "clone", "--quiet", "--no-tags", str(CHECKOUT), str(folder))
    for name in git(CHECKOUT, "diff", "--name-only", "--diff-filter=AM", "HEAD").split():
        shutil.copy2(CHECKOUT / name, folder / name)
    return folder


def _plant_foreign_tags(project: Path) -> None:
    """Make the clone one of a repository whose registry has a version in production, without the DVC remote of its files."""
    if git(project, "tag", "--list", "encoder@*").strip():
        return
    nobody = ("-c", "user.name=proofs", "-c", "user.email=proofs@localhost")
    (project / "dvc.lock").write_text(_LOCK)
    git(project, "add", "--force", "dvc.lock")
    git(project, *nobody, "commit", "--quiet", "--only", "dvc.lock", "--message", "an experiment of elsewhere")
    for tag in ("encoder@v1.0.0", "encoder#prod#1"):
        git(project, *nobody, "tag", "--annotate", tag, "--message", "release r0123456789ab")
    git(project, "reset", "--quiet", "--mixed", "HEAD~1")
    (project / "dvc.lock").unlink()
