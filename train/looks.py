"""A log of looks at the test split: settings chosen after many looks are fitted to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path


def log_look(home: Path, split_sha256: str, space: str) -> int:
    """Append a line about this look; return the number of looks at this split, this look included."""
    path = home / "evaluation" / "looks.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "split_sha256": split_sha256, "space": space}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    with path.open(encoding="utf-8") as file:
        return sum(json.loads(entry)["split_sha256"] == split_sha256 for entry in file)
