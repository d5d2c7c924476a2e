"""Put an untuned base model into service: exported, judged by its golden texts, and deployed like a trained one."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from triton_models.names import Device
from twinline.clients.base_model import DEFAULT_BASE_MODEL
from twinline.clients.run import REFUSED, USED_WRONGLY
from twinline.clients.settings import Settings, in_project
from twinline.contract.errors import ContractError, SettingsError, TransientError
from twinline.release.flow import Flow


@dataclass(frozen=True, slots=True)
class Base:
    """A base model, and how it is served.

    Args:
        model: a folder, `package:NAME` or a Hugging Face name.
        chunker: `tokens`, or `none` for one vector a document.
        device: where Triton runs it.
        serve: a format, or `fastest`.
    """

    model: str = DEFAULT_BASE_MODEL
    chunker: str = "tokens"
    device: Device = "cpu"
    serve: str = "fastest"


def bootstrap(flow: Flow, settings: Settings, base: Base) -> str:
    """Export a base model, deploy it, and return the release's id.

    Raises:
        SettingsError, ContractError: it cannot be exported.
        TransientError: the export ended otherwise, or a part of the stack is away.
    """
    project = settings.find_project()
    folder = settings.home / "base" / "release"
    folder.parent.mkdir(parents=True, exist_ok=True)
    options = ["--out", str(folder), "--base-model", base.model, "--chunker", base.chunker, "--serve", base.serve]
    if documents := stored_documents(settings.snapshots):
        # For the calibration of int8; without it bf16 is the quickest that there is.
        options += ["--documents", str(documents)]
    # In a process of its own: exporting needs torch, and nothing here may.
    command = [sys.executable, "-m", "export", "base", *options]
    code = subprocess.run(command, cwd=project, env=in_project(project), stdout=sys.stderr, check=False).returncode
    if code != 0:
        said = f"exporting {base.model} ended with {code}, its message stands above"
        raise {USED_WRONGLY: SettingsError, REFUSED: ContractError}.get(code, TransientError)(said)
    return flow.deploy(str(folder), base.device).release


def stored_documents(snapshots: Path) -> Path | None:
    """Return the first file of documents of the newest stored snapshot; None where there is none."""
    records = sorted(snapshots.glob("s*/snapshot.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    files = (path for record in records for path in sorted(record.parent.glob("documents-*.parquet")))
    return next(files, None)
