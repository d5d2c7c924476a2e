"""The checks of `twinline doctor`: each returns its finding, and a remedy where the finding is bad."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

from twinline.clients.code import PACKAGES
from twinline.clients.hidden import check_modules
from twinline.clients.settings import Settings
from twinline.clients.telemetry import TELEMETRY_OFF
from twinline.clients.triton.fleet import TritonFleet
from twinline.contract.encoder.golden import check_tokens, read_golden
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.selfcheck import check_process
from twinline.contract.errors import ContractError, SettingsError, TwinlineError
from twinline.stack import ports, processes, requirements
from twinline.stack.parts import parts

Verdict = Literal["good", "warning", "bad"]

_DISK_BYTES = 5 * 2**30  # a training run, its exports and two releases' collections, with a margin
_MEMORY_BYTES = 6 * 2**30  # the stack takes 2.5, fine-tuning of a small encoder 2 more
_BROKER_GLIBC = (2, 34)
_LIMIT_SECONDS = 60


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Run every check."""
    checks: tuple[Callable[[Settings], Finding], ...] = (
        _python, _programs, _places, _modules, _packages, _versions, _model_server, _glibc, _ports, _broker_elsewhere, _disk,
        _memory, _cpu, _gpu, _telemetry, _contract,
    )  # fmt: skip
    return [check(settings) for check in checks]


def _python(_: Settings) -> Finding:
    version = platform.python_version()
    is_supported = sys.version_info[:3] >= (3, 11, 2) and sys.version_info[:2] <= (3, 13)
    return _finding("Python", is_supported, version, "make the environments again: make clean; make setup PYTHON=python3.11")


def _programs(_: Settings) -> Finding:
    missing = [program for program in ("git", "make") if shutil.which(program) is None]
    found = f"no {', '.join(missing)}" if missing else "git, make"
    return _finding("programs", not missing, found, f"sudo apt-get install {' '.join(missing)}")


def _places(settings: Settings) -> Finding:
    try:
        requirements.check_places(settings)
    except SettingsError as error:
        return Finding("folders", "bad", str(error), "as said")
    return Finding("folders", "good", f"project {settings.project}, state {settings.home}")


def _modules(_: Settings) -> Finding:
    try:
        check_modules()
    except SettingsError as error:
        return Finding("modules", "bad", str(error), "as said")
    return Finding("modules", "good", f"ours, from {PACKAGES}")


def _packages(_: Settings) -> Finding:
    check = subprocess.run(
        [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"],
        capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS,
    )  # fmt: skip
    lines = (check.stdout or check.stderr).strip().splitlines()
    return _finding("packages", check.returncode == 0, "; ".join(lines[:3]), "make clean; make setup")


def _versions(settings: Settings) -> Finding:
    constraints = settings.project / "constraints.txt"
    if not constraints.is_file():
        return Finding("versions", "warning", f"{constraints} is missing, so nothing to compare with", "copy the checkout's")
    pinned = dict(line.strip().split("==") for line in constraints.read_text().splitlines() if "==" in line)
    installed = {found.metadata["Name"].lower().replace("_", "-"): found.version for found in metadata.distributions()}
    other = [name for name, version in pinned.items() if name in installed and installed[name].split("+")[0] != version]
    detail = f"{len(other)} differ from constraints.txt: {', '.join(other[:5])}" if other else "as in constraints.txt"
    return _finding("versions", not other, detail, "make setup", otherwise="warning")


def _model_server(settings: Settings) -> Finding:
    if settings.triton_grpc:
        with closing(TritonFleet.connect(settings)) as fleet:
            away = [server.address for server in fleet.replicas if not server.control.ready()]
        found = f"no answer at {', '.join(away)}" if away else f"elsewhere, at {settings.triton_grpc}"
        return _finding("model server", not away, found, "start it; searches use the servers that answer, publishing needs all")
    try:
        requirements.check_model_server(settings.server_environment)
    except SettingsError as error:
        return Finding("model server", "bad", str(error), "as said")
    return Finding("model server", "good", f"Triton in {settings.server_environment.name}, every library found")


def _glibc(_: Settings) -> Finding:
    name, version = platform.libc_ver()
    is_enough = name == "glibc" and tuple(int(number) for number in version.split(".")[:2]) >= _BROKER_GLIBC
    remedy = "the embedded broker needs glibc 2.34 (Debian 12, Ubuntu 22.04): set KAFKA_BOOTSTRAP to a broker elsewhere"
    return _finding("C library", is_enough, f"{name} {version}", remedy)


def _ports(settings: Settings) -> Finding:
    taken = []
    for part in parts(settings):
        if not processes.find(settings.home, part.name):
            taken += [port for port in part.ports if not ports.is_free(settings.host, port.number)]
    if not taken:
        return Finding("ports", "good", "free, or held by this stack")
    detail = "; ".join(f"{port.number} is held by {ports.holder(port.number)}" for port in taken)
    return Finding("ports", "bad", detail, f"stop it, or set {', '.join(port.setting for port in taken)}")


def _broker_elsewhere(settings: Settings) -> Finding:
    if not settings.kafka_bootstrap:
        return Finding("broker", "good", "the embedded one: for laptops and tests, not durable against a power cut")
    from twinline.clients.kafka.connect import kafka_errors, make_admin

    try:
        # With its credentials: what a port without them says is not what the consumer will meet.
        with closing(make_admin(settings)) as admin, kafka_errors(settings):
            admin.list_topics()
    except SettingsError as error:
        return Finding("broker", "bad", str(error), "as said")
    except TwinlineError as error:
        return Finding("broker", "bad", str(error), "start it, or unset KAFKA_BOOTSTRAP to use the embedded one")
    return Finding("broker", "good", f"answers at {settings.kafka_address}")


def _disk(settings: Settings) -> Finding:
    place = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    return _finding("disk", free >= _DISK_BYTES, f"{free / 2**30:.0f} GiB free at {place}", "free some, or move TWINLINE_HOME")


def _memory(_: Settings) -> Finding:
    total = psutil.virtual_memory().total
    remedy = "leave parts out (`twinline up --no-scheduler`), or use a larger machine"
    return _finding("memory", total >= _MEMORY_BYTES, f"{total / 2**30:.0f} GiB", remedy, otherwise="warning")


def _cpu(_: Settings) -> Finding:
    flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split())
    fast = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags]
    remedy = "without AVX2 encoding is many times slower: use another machine for more than a trial"
    detail = f"{os.cpu_count()} cores, {', '.join(fast) or 'no AVX2'}"
    if not {"amx_bf16", "avx512_bf16"}.intersection(fast):
        detail += "; no bf16, so training uses fp32"
    return _finding("CPU", bool(fast), detail, remedy, otherwise="warning")


def _gpu(_: Settings) -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("GPU", "good", "none: everything runs on the CPU")
    listing = subprocess.run(
        [program, "--query-gpu=name,memory.total", "--format=csv,noheader"],
        capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS,
    )  # fmt: skip
    if listing.returncode != 0:
        return Finding("GPU", "warning", listing.stdout.strip() or listing.stderr.strip(), "repair the driver")
    detail = "; ".join(listing.stdout.strip().splitlines())
    try:
        is_usable = not metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return Finding("GPU", "good", f"{detail}; not used here: torch belongs to the role `train`")
    return _finding("GPU", is_usable, detail, "torch is the CPU build: make setup TORCH=gpu", otherwise="warning")


def _telemetry(_: Settings) -> Finding:
    leaky = [name for name, value in TELEMETRY_OFF.items() if os.environ.get(name) != value]
    if "openvino_telemetry" not in sys.modules and importlib.util.find_spec("openvino_telemetry") is not None:
        leaky.append("openvino_telemetry")
    detail = f"not off: {', '.join(leaky)}" if leaky else "off, for every dependency that has any"
    return _finding("telemetry", not leaky, detail, "start through `twinline`, which turns it off")


def _contract(settings: Settings) -> Finding:
    releases = sorted(folder.parent for folder in settings.releases.glob("*/contract.json"))
    try:
        check_process()
        for folder in releases:
            check_tokens(read_golden(folder), Preprocessor.load(folder), f"release {folder.name}")
    except ContractError as error:
        return Finding("contract", "bad", str(error), "make setup; if it stays, the release must be made again")
    return Finding("contract", "good", f"golden cases of the rules and of {len(releases)} releases hold")


def _finding(name: str, is_good: bool, detail: str, remedy: str, otherwise: Verdict = "bad") -> Finding:
    return Finding(name, "good", detail) if is_good else Finding(name, otherwise, detail, remedy)
