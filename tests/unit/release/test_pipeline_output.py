"""A person sees a line a stage and the stages' own lines, and not what DVC says about its records."""

import io
import sys
from pathlib import Path

import pytest

from twinline.registry.pipeline_output import run_stages, show

OUTPUT = """\
WARNING: No file hash info found for '/x/data/snapshot'. It won't be created.
Running stage 'ingest':
> ops/python -m etl ingest
ingest: 103 documents
Updating lock file 'dvc.lock'

Stage 'prepare' didn't change, skipping
Stage 'encoder-pairs' is cached - skipping run, checking out outputs
Running stage 'encoder-train':
WARNING my.module: a warning of the stage's own
\x1b[33mWARNING\x1b[0m: Some of the cache files do not exist neither locally nor on remote.
train: 12 steps
To track the changes with git, run:

\tgit add dvc.lock

To enable auto staging, run:

\tdvc config core.autostage true
Use `dvc push` to send your updates to remote storage.
ERROR: failed to reproduce 'encoder-evaluate': exited with 3
"""


def shown(text: str) -> list[str]:
    out = io.StringIO()
    show(io.StringIO(text, newline=""), out, total=10)
    return out.getvalue().splitlines()


def test_stages_are_counted_and_the_records_of_dvc_are_left_out() -> None:
    assert shown(OUTPUT) == [
        "[1/10, 0 s] ingest",
        "ingest: 103 documents",
        "[2/10, 0 s] prepare: nothing changed, as before",
        "[3/10, 0 s] encoder-pairs: nothing changed, as before",
        "[4/10, 0 s] encoder-train",
        "WARNING my.module: a warning of the stage's own",
        "train: 12 steps",
        "ERROR: failed to reproduce 'encoder-evaluate': exited with 3",
    ]


def test_a_progress_bar_stays_on_its_line() -> None:
    out = io.StringIO()
    show(io.StringIO("tuned:  10%\rtuned:  20%\rtuned: 100%\n", newline=""), out, total=1)
    assert out.getvalue() == "tuned:  10%\rtuned:  20%\rtuned: 100%\n"


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_the_commands_and_both_its_streams_are_shown(tmp_path: Path, code: int) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: x}, b: {cmd: y}}")
    program = f"import sys; print(\"Running stage 'a':\", flush=True); print('caf\\u00e9', file=sys.stderr); sys.exit({code})"
    out = io.StringIO()
    environment = {"PYTHONIOENCODING": "latin-1"}  # no stage's encoding ends a run
    assert run_stages([sys.executable, "-c", program], tmp_path, environment, out) == code
    assert [line.partition("]")[2] or line for line in out.getvalue().splitlines()] == [" a", "caf\ufffd"]
