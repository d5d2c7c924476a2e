"""Hostile files through the real command: counts of ingests that ended, neighbours that are missing, links that were followed.

make the places ─> for each, `python -m etl ingest` in a process of its own ─> its snapshot and rejects ─> counts

A hostile file may be read or set aside. It must be one of both, in bounded memory, and cost nobody else anything.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from bench.checkout import CHECKOUT
from proofs.hostile.files import OUTSIDE_TEXT, Place, make_places
from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError

# Python with pyarrow, and the sort of an ingest; beside it the largest reader's own limit.
_BASE_BYTES: Final = 640 << 20
_TIME_LIMIT_SECONDS: Final = 900
_COUNTS: Final = ("ended", "over_budget", "missing", "unsaid", "followed")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an ingest left: its exit code and last words, the memory of its largest process, its rows."""

    exit_code: int
    said: str
    peak_bytes: int
    documents: list[dict[str, Any]]
    rejects: list[dict[str, Any]]


def measure_hostile(folder: Path, seed: int, *, short: bool = False) -> dict[str, JSON]:
    """Ingest every place and return one JSON object.

    Args:
        folder: for places and snapshots; an earlier run's is replaced.
    """
    from etl.sources.files import SUPPORTED

    if folder.exists() and any(folder.iterdir()) and not (folder / "outside").is_dir():
        raise ContractError(f"{folder} holds something else than an earlier run: name another --workspace")
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    places = make_places(folder, SUPPORTED, seed, short=short)
    rows = []
    totals: Counter[str] = Counter()
    for place in places:
        before = time.monotonic()
        outcome = _ingest(place, folder)
        counts, facts = judge(place, outcome, budget_bytes(place))
        totals.update(counts)
        seconds = round(time.monotonic() - before, 1)
        row: dict[str, JSON] = {"place": place.path.name, "files": len(place.hostile), "seconds": seconds}
        row |= {"set_aside": len(outcome.rejects), "peak_mib": outcome.peak_bytes >> 20, "facts": list(facts)}
        rows.append(row | dict(counts))
    return {
        "files": sum(len(place.hostile) for place in places),
        "readers": len(SUPPORTED),
        **{name: totals[name] for name in _COUNTS},
        "places": list(rows),
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
    }


def passed(report: Mapping[str, Any]) -> bool:
    """Say whether every count of harm is 0."""
    return not any(report[name] for name in _COUNTS)


def budget_bytes(place: Place) -> int:
    """Return the memory that the largest process of an ingest may take, by the sizes of a place's files."""
    from etl.reading.child import Limits

    files = [place.path] if place.path.is_file() else [path for path in place.path.iterdir() if path.is_file()]
    largest = max(path.stat().st_size for path in files)
    return _BASE_BYTES + max(Limits.of_table(largest).memory_bytes, Limits.of_document(largest).memory_bytes)


def judge(place: Place, outcome: Outcome, budget: int) -> tuple[dict[str, int], list[str]]:
    """Return the counts of harm that an ingest shows, and a sentence for each."""
    keys = {row["key"] for row in outcome.documents}
    said = {row["place"] for row in (*outcome.documents, *outcome.rejects)}
    missing = [key for key in place.neighbours if key not in keys]
    unsaid = [name for name in place.hostile if name not in said]
    followed = [
        row for row in (*outcome.documents, *outcome.rejects) if any(OUTSIDE_TEXT in str(value) for value in row.values())
    ]
    facts = [f"ended with {outcome.exit_code}: {outcome.said[-500:]}"] if outcome.exit_code else []
    if is_over := outcome.peak_bytes > budget:
        facts.append(f"took {outcome.peak_bytes >> 20} MiB, the budget is {budget >> 20}")
    facts += [f"neighbours missing: {missing[:5]}"] * bool(missing) + [f"neither read nor set aside: {unsaid[:5]}"] * bool(unsaid)
    facts += [f"followed out of the place: {followed[0]['place']}"] if followed else []
    counts = {"ended": int(outcome.exit_code != 0), "over_budget": int(is_over), "missing": len(missing)}
    return counts | {"unsaid": len(unsaid), "followed": len(followed)}, facts


def _ingest(place: Place, folder: Path) -> Outcome:
    out = folder / f"snapshot-{place.path.name}"
    command = [sys.executable, "-m", "etl", "ingest", "--source", f"files:{place.path}", "--out", str(out)]
    log = folder / f"{place.path.name}.log"
    # One damaged table has more broken rows than the place has documents, and the share of them is another matter.
    (folder / "params.yaml").write_text("ingest:\n  max_reject_share: 1.0\n")
    # A home of its own: the erasures and kept states of this machine are none of its business.
    environment = {**os.environ, "TWINLINE_HOME": str(folder / "home"), "PYTHONPATH": str(CHECKOUT)}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        status, peak = _watch(process)
    found = (list(_rows(out, "documents-*.parquet")), list(_rows(out, "rejects.parquet")))
    return Outcome(status, log.read_text(errors="replace"), peak, *found)


def _watch(process: "subprocess.Popen[bytes]") -> tuple[int, int]:
    """Return exit code and peak memory, of the process or its largest child; kill it after the time limit."""
    end, peak = time.monotonic() + _TIME_LIMIT_SECONDS, 0
    while process.poll() is None:
        if time.monotonic() > end:
            process.kill()
        # Not the peak that `wait` tells: a process inherits that of the process that started it.
        with suppress(psutil.Error):
            family = psutil.Process(process.pid)
            peak = max(peak, *(_peak(one.pid) for one in (family, *family.children(recursive=True))))
        time.sleep(0.02)
    return process.returncode, peak


def _peak(pid: int) -> int:
    """Return the highest resident memory of a process so far; 0 once it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    match = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _rows(folder: Path, pattern: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return [row for path in sorted(folder.glob(pattern)) for row in pq.read_table(path).to_pylist()]
