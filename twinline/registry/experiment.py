"""Run the offline pipeline as a DVC experiment, away from the user's branch and workspace.

The pipeline runs in a folder of its own, from the commit that is checked out and the uncommitted changes of tracked files;
the result is a commit that `dvc exp show` lists. A stage whose inputs are known is taken from DVC's run cache.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil

from twinline.clients.run import FAILURE_VARIABLE, REFUSED, USED_WRONGLY
from twinline.clients.settings import PROJECT_VARIABLE
from twinline.clients.source_spec import parse_source
from twinline.contract.errors import ContractError, SettingsError, TooSmallError, TwinlineError
from twinline.registry.git import experiment_references, git, identity, resolve_commit
from twinline.registry.pipeline_output import run_stages

Value = str | int | float | None

EXPERIMENTS: Final = Path(".dvc/tmp/exps/standalone")
# A run in preparation has no process in its folder yet.
LEFTOVER_AFTER_SECONDS: Final = 600


class PipelineFailedError(TwinlineError):
    """A stage of the pipeline ended with an error, which it has printed; another try may help."""


class StageRefusedError(ContractError):
    """A stage of the pipeline found its input wrong for good."""


def run_experiment(
    repository: Path,
    home: Path,
    name: str,
    overrides: Mapping[str, Value],
    environment: Mapping[str, str] = os.environ,
    *,
    targets: Sequence[str] = (),
) -> str:
    """Run the pipeline with some parameters changed, and return the experiment's commit.

    Args:
        repository: the checkout.
        home: the folder of all state; the stages find snapshots and checkpoints there.
        name: the experiment's name; it replaces a finished experiment of that name, unless a tag registers that one.
        overrides: values for parameters of `params.yaml`, by dotted name.
        targets: stages to run, each with its dependencies; none: the whole pipeline.

    Raises:
        PipelineFailedError: a stage failed; no experiment is left, and a repeat starts at that stage.
        TooSmallError, StageRefusedError, SettingsError: a stage failed, and a repeat would fail alike.
    """
    sweep_leftovers(repository)
    _discard_experiment(repository, name)
    command = experiment_command(name, overrides, targets)
    with TemporaryDirectory() as folder:
        told = Path(folder, "failure.json")
        stages = {**pipeline_environment(repository, home, environment), FAILURE_VARIABLE: str(told)}
        code = run_stages(command, repository, stages)
        if code != 0:
            raise pipeline_failure(f"experiment {name}", code, told)
    return resolve_commit(repository, name)


def pipeline_failure(subject: str, code: int, told: Path) -> TwinlineError:
    """Return the error of a run that failed: of the kind that its stage ended with, so that nothing is repeated for nothing.

    Args:
        code: what DVC ended with, whatever the stage's own exit code was.
        told: the file in which the stage said why; missing where it was killed, or DVC itself failed.
    """
    if not told.is_file():
        return PipelineFailedError(
            f"{subject}: a stage failed, its message stands above (dvc ended with {code}); what came before it is cached, so "
            "repeating the command starts there"
        )
    failure = json.loads(told.read_bytes())
    if failure["error"] == TooSmallError.__name__:
        return TooSmallError(failure["message"])
    kinds = {USED_WRONGLY: SettingsError, REFUSED: StageRefusedError}
    said = f"{subject}: stage command `{failure['command']}` ended with {failure['code']}: {failure['message']}"
    return kinds.get(failure["code"], PipelineFailedError)(said)


def experiment_command(name: str, overrides: Mapping[str, Value], targets: Sequence[str] = ()) -> list[str]:
    """Return the command line of `run_experiment`."""
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name]
    for parameter, value in overrides.items():
        command += ["--set-param", f"{parameter}={hydra_literal(value)}"]
    return [*command, *targets]


def take_snapshot(repository: Path, home: Path, source: str, environment: Mapping[str, str] = os.environ) -> str:
    """Read a source into the snapshot store, and return the snapshot's id.

    DVC cannot see changes in another place: a run that names a source by its address would get yesterday's documents from the
    cache. An id names the content.

    Raises:
        PipelineFailedError: the source could not be read; the reason has been printed.
        StageRefusedError, SettingsError: the same, and a repeat would fail alike.
    """
    command = [sys.executable, "-m", "etl", "ingest", "--store", "--source", source]
    with TemporaryDirectory() as folder:
        told = Path(folder, "failure.json")
        done = subprocess.run(
            command,
            cwd=repository,
            env={**pipeline_environment(repository, home, environment), FAILURE_VARIABLE: str(told)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        sys.stderr.write(done.stdout)
        if done.returncode != 0:
            raise pipeline_failure(f"source {source or 'of params.yaml'}", done.returncode, told)
    return str(json.loads(done.stdout.splitlines()[-1])["snapshot"])


def pipeline_environment(repository: Path, home: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which DVC runs stages: our interpreter first, absolute places, a Git identity.

    It names no project: each stage uses its working folder, a copy of the checkout.
    """
    name, email = identity(repository)
    return {
        **{variable: value for variable, value in environment.items() if variable != PROJECT_VARIABLE},
        # The stages call `python`, which without an activated environment is another interpreter.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}",
        # Stages run in a copy of the checkout, where a relative path means another folder.
        "TWINLINE_HOME": str(home.resolve()),
        # `dvc exp run` makes commits, and fails without an identity in Git.
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
    }


def absolute_source(source: str, folder: Path) -> str:
    """Return a source whose local path is absolute: the pipeline runs in another folder than the user.

    An address (`files:s3://...`) stays as it is, and so does an empty text, the source of params.yaml.

    Raises:
        SettingsError: the text names no source, or there is nothing at its path.
    """
    if not source:
        return source
    spec = parse_source(source).absolute(folder)
    if spec.is_local and not os.path.exists(spec.location):  # noqa: PTH110 (a path too long is not there)
        raise SettingsError(f"--source {source}: {spec.location} does not exist")
    return str(spec)


def hydra_literal(value: Value) -> str:
    """Return a value for `--set-param`, escaped: Hydra reads commas and braces as syntax."""
    if not isinstance(value, str):
        return json.dumps(value)
    # Hydra's quoted strings have two escapes: a quote, and backslashes before a quote.
    escaped = re.sub(r'(\\*)"', lambda match: match[1] * 2 + '\\"', value)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return '"' + escaped + "\\" * trailing + '"'


def sweep_leftovers(repository: Path, now: float | None = None) -> list[Path]:
    """Remove the folders of experiments that were killed, and return them.

    DVC never uses them again, and each holds a copy of data and weights. A folder is removed when no process works in it and it
    is older than the preparation of a run takes.
    """
    root = (repository / EXPERIMENTS).resolve()
    folders = [path for path in root.glob("tmp*") if path.is_dir()]
    if not folders:
        return []
    busy = set(_working_folders())
    clock = time.time() if now is None else now
    swept = []
    for folder in folders:
        is_used = any(place == folder or folder in place.parents for place in busy)
        if not is_used and clock - folder.stat().st_mtime > LEFTOVER_AFTER_SECONDS:
            shutil.rmtree(folder)
            swept.append(folder)
    return swept


def _working_folders() -> Iterator[Path]:
    for process in psutil.process_iter():
        try:
            yield Path(process.cwd())
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue  # gone meanwhile, or another user's: such a process cannot work in our checkout


def _discard_experiment(repository: Path, name: str) -> None:
    """Remove a finished experiment of this name, so that a scheduler's repeat is not refused.

    `dvc exp run --force` would do it too, and would run every stage again. A registered experiment stays: a tag holds it.
    """
    for reference in experiment_references(repository, name):
        git(repository, "update-ref", "-d", reference)
