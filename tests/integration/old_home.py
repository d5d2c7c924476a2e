"""An installation as commit 4b22519 left it, made by that commit's own code; then the same checkout, brought up to this one.

    checkout    a clone of this repository at the old commit; two versions registered, their files in cache and remote
    home        a stack's: log, store with two collections, Triton repository, journal, snapshots, erasures, dead letters
    base        an untuned base model, packaged

The slow part (two training runs of a tiny encoder) depends on the old commit and on libraries alone, and is kept.
"""

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.unit.train.conftest import WORDS, write_tiny_base

ROOT: Final = Path(__file__).resolve().parents[2]
# The last commit before the library moved under `twinline/`.
OLD: Final = "4b22519646b04b67adb13fead56951d17e0f81ad"

# Seen from the checkout.
BASE_MODEL: Final = "../tiny"

_CACHE: Final = ROOT / "var" / "test-cache"
_MADE_BY: Final = ("torch", "transformers", "onnx", "onnxscript", "openvino", "tokenizers", "dvc", "daft", "pyarrow")
_DOCUMENTS: Final = 60
_QUERIES: Final = 40
# By their names of then. A third of the queries is held out for development, so that live quality can be measured.
_SMALL: Final = (
    "pairs.dev_share=0.7",
    "train.max_steps=2",
    "train.batch_size=8",
    "train.mini_batch_size=8",
    "evaluate.margin=1.0",
    "evaluate.bootstrap_samples=100",
)


@dataclass(frozen=True)
class Installation:
    """A checkout with the home that it works on; the code that runs is the checkout's."""

    checkout: Path
    home: Path
    environment: Mapping[str, str] = field(repr=False)

    def run(self, module: str, *arguments: str, stdin: str = "", timeout: float = 400) -> subprocess.CompletedProcess[str]:
        """Run `python -m MODULE ARGUMENTS` as a person in the checkout does, and return what came of it."""
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.checkout,
            env=self.variables(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def require(self, module: str, *arguments: str, stdin: str = "", timeout: float = 400) -> dict[str, Any]:
        """Run a command that must succeed, and return the JSON object on its last line; an empty one where it prints none."""
        done = self.run(module, *arguments, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, f"{module} {arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        lines = done.stdout.strip().splitlines()
        found: dict[str, Any] = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        return found

    def variables(self) -> dict[str, str]:
        """Return the environment of a command: this environment's interpreter, the checkout's code, the home."""
        return {
            **self.environment,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.checkout),
            "TWINLINE_HOME": str(self.home),
            "TWINLINE_PROJECT": str(self.checkout),
            # With a model this small, more threads only wait for each other.
            "OMP_NUM_THREADS": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
        }


def require_history() -> None:
    """Skip where the old commit is not in this repository."""
    known = subprocess.run(["git", "cat-file", "-e", f"{OLD}^{{commit}}"], cwd=ROOT, capture_output=True, check=False)
    if known.returncode != 0:
        pytest.skip(f"commit {OLD[:7]} is not here, so nothing can be made with its code: `git fetch --unshallow`")


def old_installation(folder: Path, home: Path, environment: Mapping[str, str]) -> Installation:
    """Return a copy of the old installation in `folder`, with its state in `home`; nothing of it runs."""
    made = _CACHE / f"upgrade-{_key()}"
    if not made.is_dir():
        being_made = _CACHE / f".{made.name}-{os.getpid()}"
        shutil.rmtree(being_made, ignore_errors=True)
        _make(being_made, environment)
        for old in _CACHE.glob("upgrade-*"):
            shutil.rmtree(old, ignore_errors=True)
        being_made.rename(made)
    shutil.copytree(made, folder, symlinks=True)
    shutil.copytree(folder / "home", home, dirs_exist_ok=True)
    # Of this checkout, and not of the one that filled the cache.
    (folder / "checkout" / ".venv-server").symlink_to(ROOT / ".venv-server")
    # DVC knows its remote by an absolute path.
    local = folder / "checkout" / ".dvc" / "config.local"
    (remote,) = (line.partition("=")[2].strip() for line in local.read_text().splitlines() if "url" in line)
    local.write_text(local.read_text().replace(remote, str(home / "dvc-remote")))
    return Installation(folder / "checkout", home, environment)


def bring_up_to_date(installed: Installation) -> None:
    """Do what `git pull` does: the checkout's branch goes on to this commit, and to what is not committed here yet."""
    checkout = installed.checkout
    git(checkout, "fetch", "--quiet", str(ROOT), "HEAD")
    git(checkout, "merge", "--quiet", "--ff-only", "FETCH_HEAD")
    changed = git(ROOT, "diff", "--name-only", "--no-renames", "HEAD").split()
    for name in [*changed, *git(ROOT, "ls-files", "--others", "--exclude-standard").split()]:
        target = checkout / name
        target.unlink(missing_ok=True)
        if (ROOT / name).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)


def go_back(installed: Installation) -> None:
    """Put the checkout back to the old commit."""
    git(installed.checkout, "checkout", "--quiet", "--force", OLD)


def git(folder: Path, *arguments: str) -> str:
    """Return what `git ARGUMENTS` prints."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {arguments} in {folder}: {done.stderr}"
    return done.stdout


def _make(folder: Path, environment: Mapping[str, str]) -> None:
    folder.mkdir(parents=True)
    checkout = folder / "checkout"
    git(folder, "clone", "--quiet", "--no-checkout", "--no-tags", str(ROOT), str(checkout))
    git(checkout, "checkout", "--quiet", "-B", "main", OLD)
    base = write_tiny_base(folder / "tiny", max_tokens=128, positions=160)
    old = Installation(checkout, folder / "home", environment)
    # By a relative path, which stays true in a copy. The export needs one core for as long as the first training run does.
    command = [sys.executable, "-m", "export", "base", "--base-model", BASE_MODEL, "--out", str(folder / "base")]
    with subprocess.Popen(command, cwd=checkout, env=old.variables(), stdout=2) as exporting:
        _train(old, _write_beir(folder / "beir"), base)
        assert exporting.wait(timeout=600) == 0


def _train(old: Installation, beir: Path, base: Path) -> None:
    params = old.checkout / "params.yaml"
    values = yaml.safe_load(params.read_text())
    # Lists cannot be said on the command line.
    values["export"]["formats"] = values["package"]["serve"] = ["onnx_fp32"]
    params.write_text(yaml.safe_dump(values, sort_keys=False))
    small = [argument for value in (*_SMALL, f"base_model={base}") for argument in ("--set", value)]
    old.require("twinline", "train", "--source", f"beir:{beir}", "--name", "first", *small, "--register", timeout=900)
    # The same encoder with other index settings: another release, of which only the last stage is new.
    again = ("--source", f"beir:{beir}", "--name", "second", *small, "--set", "index.m=8")
    old.require("twinline", "train", *again, "--register", timeout=600)
    git(old.checkout, "checkout", "--quiet", "params.yaml")


def _write_beir(folder: Path) -> Path:
    """Write a data set in which each document has words of its own, and some are asked for by a query."""
    (folder / "qrels").mkdir(parents=True)
    documents, queries = [], []
    for number in range(_DOCUMENTS):
        body = " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 36))
        documents.append({"_id": f"d{number}", "title": f"{WORDS[number % 26]} {number}", "text": f"number {number} {body}"})
        queries.append({"_id": f"q{number}", "text": f"what is {WORDS[number % 26]} {number}"})
    _write_lines(folder / "corpus.jsonl", documents)
    _write_lines(folder / "queries.jsonl", queries)
    for split, numbers in (("train", range(_QUERIES)), ("test", range(_QUERIES, _DOCUMENTS))):
        rows = ["query-id\tcorpus-id\tscore", *(f"q{number}\td{number}\t1" for number in numbers)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return folder


def _write_lines(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _key() -> str:
    recipe = "".join(inspect.getsource(step) for step in (_make, _train, _write_beir, _write_lines))
    digest = hashlib.sha256(f"{OLD}{recipe}{_SMALL}{_DOCUMENTS}{_QUERIES}".encode())
    for name in _MADE_BY:
        digest.update(metadata.version(name).encode())
    return digest.hexdigest()[:12]
