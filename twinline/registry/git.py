"""The few things that we ask of Git: who commits, what a name stands for, where experiments are."""

import subprocess
from pathlib import Path
from typing import Final

from twinline.contract.errors import SettingsError

# DVC and GTO refuse to work for a user whom Git cannot name, as on a machine that was set up a minute ago.
_NOBODY: Final = ("Twinline", "twinline@localhost")


def git(repository: Path, *arguments: str) -> str:
    """Return what `git ARGUMENTS` prints.

    Raises:
        SettingsError: Git refused.
    """
    done = subprocess.run(["git", *arguments], cwd=repository, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SettingsError(f"`git {' '.join(arguments)}` in {repository}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def identity(repository: Path) -> tuple[str, str]:
    """Return the user's name and address in Git, or ours where Git has none."""
    name, email = (git(repository, "config", "--default", "", "--get", f"user.{part}").strip() for part in ("name", "email"))
    return (name, email) if name and email else _NOBODY


def experiment_references(repository: Path, name: str) -> list[str]:
    """Return the references of the experiments called `name`; one name may stand on several base commits."""
    # Git alone does not find an experiment: its name is the last part of a reference that starts with its base commit.
    return git(repository, "for-each-ref", "--sort=committerdate", "--format=%(refname)", f"refs/exps/*/*/{name}").split()


def resolve_commit(repository: Path, name: str) -> str:
    """Return the commit of an experiment by its name, or of anything else that Git can name.

    Raises:
        SettingsError: nothing has that name.
    """
    references = experiment_references(repository, name)
    try:
        return git(repository, "rev-parse", "--verify", "--quiet", f"{references[-1] if references else name}^{{commit}}").strip()
    except SettingsError as exc:
        raise SettingsError(f"{repository} has no experiment or commit {name!r}: see `dvc exp list --all-commits`") from exc
