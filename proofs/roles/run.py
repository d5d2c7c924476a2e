"""Roles: does each run from the wheel with its own packages alone, and what does it weigh?

wheel ─> a project without code ─> serve: stack up ─> documents and a base release ─> client asks ─> release, train, schedule

The project has dvc.yaml, params.yaml, dags/ and a registry of its own; none of the checkout's code is on the path of a role.
The checkout's own environment publishes documents and deploys the release, so that the short form needs two roles only.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.base_release import base_release_folder
from bench.checkout import CHECKOUT
from bench.workspace import Workspace, free_ports
from proofs.roles import checks
from proofs.roles.environments import Environment, make_environment
from proofs.roles.wheel import build_wheel, copy_files, tracked_files, wheel_faults
from twinline.clients.kafka.connect import committed_offsets, end_offsets
from twinline.clients.online import AdminClient
from twinline.clients.settings import PROJECT_FILES, PROJECT_VARIABLE
from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError, TwinlineError
from twinline.contract.release.manifest import consumer_group
from twinline.registry.git import git
from twinline.release.verify.index import wait_until_caught_up

SOURCE: Final = "pydocs:json,html"
# What a project is beside its data: everything but code.
_PROJECT: Final = (*PROJECT_FILES, "constraints.txt", ".dvcignore", ".gitignore", ".dvc/", "dags/", "ops/")
_PORTS: Final = ("kafka", "triton_http", "triton_grpc", "triton_metrics", "search", "admin", "airflow")


@dataclass(frozen=True)
class Outcome:
    """What became of one role. `start_seconds`: of its command's shortest answer, `--help`."""

    role: str
    passed: bool
    seen: str
    size_mib: float
    install_seconds: float
    start_seconds: float
    check_seconds: float


def measure_roles(folder: Path, *, short: bool = False) -> dict[str, JSON]:
    """Build the wheel, and run each role of it in an environment of its own; return one JSON object.

    Args:
        folder: for wheel, environments and project; needs a short path, for the supervisor's socket, and some gigabytes.
        short: client and serve only.
    """
    if folder.exists() and not (folder / "wheel").is_dir() and any(folder.iterdir()):
        raise ContractError(f"{folder} holds something else than an earlier run: name another --workspace")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    wheel = build_wheel(folder)
    faults = wheel_faults(wheel)
    outcomes = [asdict(outcome) for outcome in _roles(folder, wheel, short)]
    for made in ("environments", "source"):
        shutil.rmtree(folder / made, ignore_errors=True)
    return {
        "wheel": wheel.name,
        "wheel_faults": list(faults),
        "roles": list(outcomes),
        "seconds": round(time.monotonic() - began, 1),
    }


def passed(report: Mapping[str, JSON]) -> bool:
    """Say whether the wheel is as it must be, and every role ran."""
    roles = report["roles"]
    return (
        not report["wheel_faults"]
        and isinstance(roles, list)
        and all(isinstance(role, dict) and role["passed"] for role in roles)
    )


def _roles(folder: Path, wheel: Path, short: bool) -> Iterator[Outcome]:
    project = _make_project(folder / "project")
    ports = {f"TWINLINE_{name.upper()}_PORT": str(port) for name, port in zip(_PORTS, free_ports(len(_PORTS)), strict=True)}
    settings = {
        **ports,
        PROJECT_VARIABLE: str(project),
        "TWINLINE_HOME": str(folder / "home"),
        "TWINLINE_SERVER_ENVIRONMENT": str(CHECKOUT / ".venv-server"),
    }
    driver = Workspace(CHECKOUT, {**os.environ, **settings, "PYTHONPATH": str(CHECKOUT)})

    def made(role: str, extra: str) -> Environment:
        _say(f"role {role}: an environment with {f'extra {extra}' if extra else 'the base'}")
        return make_environment(folder / "environments" / role, wheel, extra, project, settings)

    serve = made("serve", "serve")
    with _stack(serve):
        documents = _fill(driver)
        yield _outcome("serve", serve, "twinline", lambda: checks.check_serve(serve, documents))
        client = made("client", "")
        url = driver.settings().search_url
        yield _outcome("client", client, "twinline", lambda: checks.check_client(client, url))
        _remove(client)
        if short:
            return
        release = made("release", "release")
        yield _outcome("release", release, "twinline", lambda: checks.check_release(release))
        _remove(release)
    _remove(serve)
    train = made("train", "train")
    yield _outcome("train", train, "twinline", lambda: checks.check_train(train))
    _remove(train)
    schedule = made("schedule", "schedule")
    yield _outcome("schedule", schedule, "airflow", lambda: checks.check_schedule(schedule, folder / "airflow"))
    _remove(schedule)


def _outcome(role: str, environment: Environment, program: str, check: Callable[[], str]) -> Outcome:
    began = time.monotonic()
    environment.run(program, "--help")
    started = time.monotonic()
    try:
        seen, is_right = check(), True
    except (TwinlineError, OSError, subprocess.SubprocessError) as error:
        seen, is_right = str(error), False
    ended = time.monotonic()
    _say(f"role {role}: {'runs' if is_right else 'FAILED'}: {seen}")
    return Outcome(
        role,
        is_right,
        seen,
        environment.size_mib,
        environment.install_seconds,
        round(started - began, 2),
        round(ended - started, 1),
    )


def _make_project(folder: Path) -> Path:
    """Make a project without code, and a Git repository of it for its registry."""
    names = [
        name for name in tracked_files() if any(name == part or (part[-1] == "/" and name.startswith(part)) for part in _PROJECT)
    ]
    copy_files(names, folder)
    checks.make_small(folder)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    for name, value in (("user.name", "proofs"), ("user.email", "proofs@localhost")):
        git(folder, "config", name, value)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "a project without code")
    return folder


@contextmanager
def _stack(serve: Environment) -> Iterator[None]:
    """Run the embedded stack from the environment of the role `serve`, Airflow left out, for the time of a block."""
    try:
        sys.stderr.write(serve.run("twinline", "up", "--no-scheduler"))
        yield
    finally:
        sys.stderr.write(serve.run("twinline", "down"))


def _fill(driver: Workspace) -> int:
    """Publish documents and put the base model into service; return how many documents there are."""
    driver.module("twinline.release", "deploy", str(base_release_folder()))
    driver.module("twinline", "publish", "--source", SOURCE, "--all")
    return _wait_for_documents(driver)


def _wait_for_documents(driver: Workspace) -> int:
    settings = driver.settings()
    with closing(AdminClient(settings.admin_url)) as admin:
        (collection,) = admin.status().collections
        ends = end_offsets(settings, settings.topic)
        wait_until_caught_up(
            ends, lambda: committed_offsets(settings, consumer_group(collection.release), settings.topic), patience_seconds=120
        )
        # One message a document here: each was published once.
        return sum(ends.values())


def _remove(environment: Environment) -> None:
    shutil.rmtree(environment.folder, ignore_errors=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
