"""The lineage of a release, as far as this run knows it, for the manifest."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from twinline.contract.canonical import JSON


def collect_lineage(
    environment: Mapping[str, str],
    snapshot_file: Path | None = None,
    params_file: Path | None = None,
    base_model: str = "",
) -> dict[str, JSON]:
    """Return snapshot and its files, code, experiment, parameters, scheduler run and time; unknown values are None.

    Args:
        environment: of this process. DVC and Airflow name their run in it; SOURCE_DATE_EPOCH, where set, is the time,
            so that a build can be repeated to the byte.
        snapshot_file: `snapshot.json` of the training data.
        params_file: the parameters of the pipeline.
        base_model: its name in the parameters; for a model inside an installed package, the package's version is noted.
    """
    epoch = environment.get("SOURCE_DATE_EPOCH")
    created = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    snapshot = _snapshot(snapshot_file)
    return {
        "snapshot": snapshot.get("id"),
        # SHA-256 by file name: the id is only a short hash of these.
        "snapshot_files": snapshot.get("files"),
        "base_model_version": _package_version(base_model),
        "git_revision": _git_revision(),
        "dvc_experiment": environment.get("DVC_EXP_NAME"),
        "params_sha256": _sha256(params_file),
        "airflow_run": environment.get("AIRFLOW_CTX_DAG_RUN_ID"),
        "created_at": created.isoformat(timespec="seconds"),
    }


def _snapshot(path: Path | None) -> Mapping[str, JSON]:
    if path is None or not path.is_file():
        return {}
    record: Mapping[str, JSON] = json.loads(path.read_bytes())
    return record


def _package_version(base_model: str) -> str | None:
    kind, _, name = base_model.partition(":")
    try:
        return metadata.version(name) if kind == "package" else None
    except metadata.PackageNotFoundError:
        return None


def _sha256(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _git_revision() -> str | None:
    """Return the commit of the working folder, or None outside a repository or without Git."""
    git = shutil.which("git")
    if git is None:
        return None
    found = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None
