"""What a person sees of the pipeline: a line a stage with its number, the stages' own lines, and DVC's errors.

DVC's warnings are about its own records ("No file hash info found for ..."): nobody who trains can act on them. They are left
out, and its errors are not.
"""

import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Final, TextIO, cast

import yaml

# Without it DVC's lines come after those of the stage that they announce.
_AT_ONCE: Final = {"PYTHONUNBUFFERED": "1"}
_RUNNING: Final = re.compile(r"Running stage '([^']+)'")
_NOT_RUN: Final = re.compile(r"Stage '([^']+)' (didn't change, skipping|is cached - skipping run)")
# Lines of DVC that name nothing of the project's: its warnings and what it does with its records.
_INTERNAL: Final = re.compile(
    r"(?:\x1b\[\d+m)?WARNING(?:\x1b\[0m)?: |> ops/python |Updating lock file|Generating lock file|Use `dvc push`|"
    r"To (?:track|enable|apply|promote) |\t(?:git|dvc) |Ran experiment\(s\)|Experiment results have been|Reproducing experiment"
)


def run_stages(command: Sequence[str], folder: Path, environment: Mapping[str, str], out: TextIO | None = None) -> int:
    """Run DVC, show what concerns a person on standard error, and return its exit code.

    Args:
        out: where to, instead of standard error.
    """
    shown = out or sys.stderr
    total = stage_count(folder / "dvc.yaml")
    with subprocess.Popen(
        command, cwd=folder, env={**environment, **_AT_ONCE}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            # newline="": a progress bar ends its lines with a carriage return, and keeps to one line.
            with TextIOWrapper(cast(IO[bytes], process.stdout), "utf-8", "replace", newline="") as lines:
                show(lines, shown, total)
        except BaseException:
            process.terminate()
            raise
        return int(process.wait())


def show(lines: Iterable[str], out: TextIO, total: int) -> None:
    """Write the lines that concern a person, and a line of progress for each stage."""
    stages, began = 0, time.monotonic()
    for line in lines:
        bare = line.strip("\r\n")
        if found := _RUNNING.match(bare):
            stages += 1
            out.write(f"[{stages}/{total}, {time.monotonic() - began:.0f} s] {found[1]}\n")
        elif found := _NOT_RUN.match(bare):
            stages += 1
            out.write(f"[{stages}/{total}, {time.monotonic() - began:.0f} s] {found[1]}: nothing changed, as before\n")
        elif bare.strip() and not _INTERNAL.match(bare):
            out.write(line)
        out.flush()


def stage_count(pipeline: Path) -> int:
    """Return how many stages a pipeline has."""
    return len(yaml.safe_load(pipeline.read_text("utf-8"))["stages"])
