"""An environment a role: made by `venv`, filled with the wheel and one extra at the versions of constraints.txt, and measured."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.checkout import CHECKOUT
from twinline.contract.errors import ContractError

_CONSTRAINTS: Final = CHECKOUT / "constraints.txt"
_INSTALL_SECONDS: Final = 1_800.0
_WITH_TORCH: Final = ("train", "all")


@dataclass(frozen=True)
class Environment:
    """One installed role.

    Attributes:
        folder: of the virtual environment.
        project: the folder that its commands run in.
        variables: the settings that they see; nothing of the checkout is on their path.
        size_mib: of its packages, pip and setuptools left out.
        install_seconds: from the wheel and an index or a folder of wheels to a whole environment.
    """

    folder: Path
    project: Path
    variables: Mapping[str, str]
    size_mib: float
    install_seconds: float

    def run(self, *command: str, limit_seconds: float = 600.0) -> str:
        """Run a program of the environment in the project, and return what it prints.

        Raises:
            ContractError: it failed; carries the end of its own words.
        """
        done = subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=self.project,
            env=dict(self.variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_seconds,
        )
        if done.returncode != 0:
            raise ContractError(f"`{' '.join(command)}` ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
        return done.stdout

    def installed(self, *modules: str) -> list[str]:
        """Return those of the modules that are found in the environment."""
        program = "import importlib.util, sys; print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name)))"
        return self.run("python", "-c", program, *modules).split()


def make_environment(folder: Path, wheel: Path, extra: str, project: Path, settings: Mapping[str, str]) -> Environment:
    """Make an environment with one extra, or with none, in place of what is in the folder.

    Args:
        settings: variables of the stack, beside those that any program needs.

    Raises:
        ContractError: pip ended with an error, which is above.
    """
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--constraint", str(_CONSTRAINTS)]
    if extra in _WITH_TORCH:
        _install_torch(pip)
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    done = subprocess.run([*pip, wanted], env=_plain(), stdout=sys.stderr, check=False, timeout=_INSTALL_SECONDS)
    if done.returncode != 0:
        raise ContractError(f"`pip install {wanted}` ended with {done.returncode}: see above")
    variables = {**_plain(), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}", **settings}
    return Environment(folder, project, variables, _size_mib(folder), round(time.monotonic() - began, 1))


def _install_torch(pip: list[str]) -> None:
    """Take the build for CPUs, as set-up does, where a folder of wheels has it; else PyPI's, with CUDA, comes with the rest."""
    version = next(line for line in _CONSTRAINTS.read_text().splitlines() if line.startswith("torch==")).strip()
    subprocess.run([*pip, "--no-deps", f"{version}+cpu"], env=_plain(), capture_output=True, check=False)


def _plain() -> dict[str, str]:
    ours = ("TWINLINE_", "KAFKA_", "AIRFLOW", "PYTHON", "QDRANT_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _size_mib(folder: Path) -> float:
    (site_packages,) = folder.glob("lib/python3*/site-packages")
    sizes = (
        path.lstat().st_size
        for path in site_packages.rglob("*")
        if path.relative_to(site_packages).parts[0].split("-")[0] not in ("pip", "setuptools") and path.is_file()
    )
    return round(sum(sizes) / 2**20, 1)
