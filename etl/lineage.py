"""Lineage: the headers of every message that name its origin."""

import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from twinline.contract.documents.records import Origin


@dataclass(frozen=True, slots=True)
class Lineage:
    """The run, code and package behind every message of one process."""

    run_id: str
    git_revision: str
    producer: str

    def headers(self, content_sha256: str | None = None, origin: Origin | None = None) -> list[tuple[str, bytes]]:
        """Return the headers of one message, without unknown ones.

        `source_sha256` is the hash of the document's content; `source_file_sha256` is the hash of the bytes at `source_uri`.
        """
        values = {"source_sha256": content_sha256, **asdict(self)}
        if origin is not None and origin.uri:
            line = "" if origin.line is None else str(origin.line)
            values |= {"source_uri": origin.uri, "source_line": line, "source_file_sha256": origin.sha256}
        return [(name, value.encode()) for name, value in values.items() if value]


def find_lineage(environment: Mapping[str, str], project: Path) -> Lineage:
    """Return the lineage of this process: Airflow's run or the time, the project's revision, the package's version."""
    run_id = environment.get("AIRFLOW_CTX_DAG_RUN_ID") or datetime.now(UTC).strftime("manual__%Y-%m-%dT%H:%M:%S.%fZ")
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=False)
    revision = asked.stdout.strip() if asked.returncode == 0 else ""
    return Lineage(run_id, revision, f"twinline {metadata.version('twinline')}")
