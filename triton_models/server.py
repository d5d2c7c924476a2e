"""The embedded Triton: the server inside the wheel `nvidia-pytriton`, made to run without a container."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from twinline.clients.telemetry import TELEMETRY_OFF
from twinline.contract.errors import SettingsError

_BACKENDS: Final = Path(__file__).resolve().parent / "backends"
_OUR_BACKENDS: Final = ("onnxruntime", "openvino")
# `twinline down` finds the processes of a stack by this, also after a crash of their supervisor.
_MARKS: Final = ("TWINLINE_STACK", "TWINLINE_PART")
# Only these variables of the caller are passed on: a PYTHONPATH or LD_PRELOAD of the platform must not reach the server.
_KEPT_VARIABLES: Final = ("HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", *_MARKS)
_EXIT_TIMEOUT_SECONDS: Final = 10
_SERVER: Final = "tritonserver"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The options of a Triton process."""

    environment: Path
    repository: Path
    host: str
    http_port: int
    grpc_port: int
    metrics_port: int
    load: Sequence[str]

    @property
    def shared_memory_prefix(self) -> str:
        """Return the prefix of this server's shared memory; two servers on one machine must differ."""
        return f"twinline_triton_{self.http_port}_"


@dataclass(frozen=True, slots=True)
class Wheel:
    """The places of the server's parts in its virtual environment."""

    environment: Path
    site_packages: Path
    python_version: str

    @property
    def root(self) -> Path:
        """Return the server's own folder."""
        return self.site_packages / "pytriton" / "tritonserver"

    @property
    def binary(self) -> Path:
        """Return the executable."""
        return self.root / "bin" / _SERVER

    @property
    def stub(self) -> Path:
        """Return the executable that hosts one Python model, built for this Python version."""
        return self.root / "python_backend_stubs" / self.python_version / "triton_python_backend_stub"


def find_wheel(environment: Path) -> Wheel:
    """Find the server in a virtual environment, by its files.

    Raises:
        SettingsError: it is missing, or has no stub for the environment's Python.
    """
    # Not resolved: .../bin/python links out of the environment.
    environment = environment.absolute()
    found = sorted(environment.glob("lib/python3.*/site-packages/pytriton/tritonserver"))
    if not found:
        raise SettingsError(f"no Triton in {environment}: make the environment of the model server with `make setup`")
    site_packages = found[0].parents[1]
    wheel = Wheel(environment, site_packages, site_packages.parent.name.removeprefix("python"))
    if not wheel.stub.is_file():
        known = ", ".join(sorted(path.name for path in wheel.stub.parents[1].iterdir()))
        raise SettingsError(
            f"{environment} has Python {wheel.python_version}, Triton's wheel serves {known}: make it with one of them"
        )
    return wheel


def server_environment(wheel: Wheel, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the server's process.

    Args:
        wheel: of the server.
        inherited: the caller's environment; only a few harmless variables of it are passed on.
    """
    # The stub finds its packages only by the first `python3` on PATH.
    path = os.pathsep.join([str(wheel.environment / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    libraries = [wheel.site_packages / "nvidia_pytriton.libs", *_python_libraries(wheel.environment)]
    return {
        **{name: inherited[name] for name in _KEPT_VARIABLES if name in inherited},
        **TELEMETRY_OFF,
        "PATH": path,
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        # No __pycache__ in the repository: models are immutable.
        "PYTHONDONTWRITEBYTECODE": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }


def check_libraries(wheel: Wheel, environment: Mapping[str, str]) -> None:
    """Ask the loader whether server and stub find every shared library.

    Raises:
        SettingsError: names the missing library and the line that installs it.
    """
    for program in (wheel.binary, wheel.stub):
        listing = subprocess.run(["ldd", str(program)], env=dict(environment), capture_output=True, text=True, check=False)
        missing = [line.split("=>")[0].strip() for line in listing.stdout.splitlines() if "not found" in line]
        if missing:
            raise SettingsError(f"{program.name} needs {', '.join(missing)}: {_remedy(missing[0], wheel)}")


def link_backends(wheel: Wheel, folder: Path) -> Path:
    """Make the backend folder and return it: Triton's Python backend with the right stub, and ours beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "python"
    python.mkdir(parents=True)
    for source in (*(wheel.root / "backends" / "python").glob("*.*"), wheel.stub):
        # Copies, because Triton refuses a backend library outside the backend folder.
        shutil.copy2(source, python / source.name)
    for name in _OUR_BACKENDS:
        (folder / name).symlink_to(_BACKENDS / name)
    return folder


def server_command(wheel: Wheel, options: ServerOptions, backends: Path) -> list[str]:
    """Return the command line: explicit model control, and no default address or port."""
    shared_memory = f"shm-region-prefix-name={options.shared_memory_prefix}"
    return [
        str(wheel.binary),
        f"--model-repository={options.repository}",
        f"--backend-directory={backends}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in options.load),
        # A release that cannot be loaded must not stop the others; its model stays unready and reports the reason.
        "--exit-on-error=false",
        "--strict-readiness=false",
        "--disable-auto-complete-config",
        f"--http-address={options.host}",
        f"--http-port={options.http_port}",
        f"--grpc-address={options.host}",
        f"--grpc-port={options.grpc_port}",
        f"--metrics-address={options.host}",
        f"--metrics-port={options.metrics_port}",
        # The wheel's server runs on the CPU.
        "--allow-gpu-metrics=false",
        f"--exit-timeout-secs={_EXIT_TIMEOUT_SECONDS}",
        "--log-format=ISO8601",
        *(f"--backend-config={backend},{shared_memory}" for backend in ("python", *_OUR_BACKENDS)),
    ]


def without_shell_words(repository: Path, backends: Path) -> tuple[Path, Path, Path]:
    """Return a folder to start the server in, and both paths as they are seen from there.

    Triton's Python backend starts its stub by `bash -c`, with these paths unquoted: a space or a parenthesis above them would
    be shell syntax.
    """
    folder = Path(os.path.commonpath([repository, backends]))
    return folder, repository.relative_to(folder), backends.relative_to(folder)


def clean_shared_memory(options: ServerOptions) -> None:
    """Remove the shared memory of a killed server on these ports."""
    for path in Path("/dev/shm").glob(f"{options.shared_memory_prefix}*"):  # noqa: S108  (where shared memory is)
        path.unlink(missing_ok=True)


def end_orphans(options: ServerOptions) -> None:
    """End the processes of a killed server on these ports.

    Each of them holds a model in memory and never notices that its server is gone.
    """
    for process in psutil.process_iter():
        try:
            named = any(part.startswith(options.shared_memory_prefix) for part in process.cmdline())
            parent = process.parent()
            if named and (parent is None or parent.name() != _SERVER):
                process.kill()
        except psutil.Error:
            continue  # ended meanwhile, or owned by another user


def _python_libraries(environment: Path) -> list[Path]:
    """Return the library folder of the environment's base Python: pyenv and uv put libpython there."""
    home = (environment / "bin" / "python3").resolve().parent.parent / "lib"
    return [home] if any(home.glob("libpython3*.so.1.0")) and home != Path("/usr/lib") else []


def _remedy(library: str, wheel: Wheel) -> str:
    if library.startswith("libpython"):
        return f"sudo apt-get install libpython{wheel.python_version}"
    return f"find its package with `apt-file search {library}` and install it"


def exec_server(options: ServerOptions, backends: Path) -> None:
    """Become the server: this process is replaced, so that a supervisor's signals reach Triton itself.

    Raises:
        SettingsError: a part of the server is missing.
    """
    wheel = find_wheel(options.environment)
    environment = server_environment(wheel, os.environ)
    check_libraries(wheel, environment)
    options.repository.mkdir(parents=True, exist_ok=True)
    # Before their shared memory is removed.
    end_orphans(options)
    clean_shared_memory(options)
    link_backends(wheel, backends)
    folder, repository, backends = without_shell_words(options.repository, backends)
    command = server_command(wheel, replace(options, repository=repository), backends)
    os.chdir(folder)
    sys.stdout.flush()
    os.execve(command[0], command, environment)  # noqa: S606  (no shell wanted)
