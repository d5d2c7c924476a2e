"""The queries that we send to Git: the committer, the commit of a name, the references of experiments."""

import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from twinline.contract.errors import SettingsError

# DVC and GTO refuse to work without an identity in Git, as on a new machine.
_NOBODY: Final = ("Twinline", "twinline@localhost")


def git(repository: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
    """Return the output of `git ARGUMENTS`, run with further environment variables.

    Raises:
        SettingsError: Git refused.
    """
    environment = {**os.environ, **(variables or {})}
    done = subprocess.run(["git", *arguments], cwd=repository, env=environment, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SettingsError(f"`git {' '.join(arguments)}` in {repository}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def identity(repository: Path) -> tuple[str, str]:
    """Return the user's name and address in Git, or ours where Git has none."""
    name, email = (git(repository, "config", "--default", "", "--get", f"user.{part}").strip() for part in ("name", "email"))
    return (name, email) if name and email else _NOBODY


def tag_date(repository: Path, tag: str) -> datetime:
    """Return the date of an annotated tag."""
    return datetime.fromtimestamp(int(git(repository, "for-each-ref", "--format=%(taggerdate:unix)", f"refs/tags/{tag}")), UTC)


def date_tag(repository: Path, tag: str, moment: datetime, message: str, who: tuple[str, str]) -> None:
    """Give an annotated tag another date. Git makes the new tag before it moves the name, so the tag is there at every moment."""
    variables = {
        "GIT_COMMITTER_DATE": f"{int(moment.timestamp())} +0000",
        "GIT_COMMITTER_NAME": who[0],
        "GIT_COMMITTER_EMAIL": who[1],
    }
    git(repository, "tag", "-f", "-a", "--cleanup=verbatim", "-m", message, tag, f"{tag}^{{commit}}", variables=variables)


def experiment_references(repository: Path, name: str) -> list[str]:
    """Return the references of the experiments called `name`; one name may stand on several base commits."""
    # Git does not resolve an experiment's name: it is the last part of a reference that starts with the base commit.
    return git(repository, "for-each-ref", "--sort=committerdate", "--format=%(refname)", f"refs/exps/*/*/{name}").split()


def resolve_commit(repository: Path, name: str) -> str:
    """Return the commit of an experiment by its name, or of any revision in Git.

    Raises:
        SettingsError: nothing has that name.
    """
    references = experiment_references(repository, name)
    try:
        return git(repository, "rev-parse", "--verify", "--quiet", f"{references[-1] if references else name}^{{commit}}").strip()
    except SettingsError as exc:
        raise SettingsError(f"{repository} has no experiment or commit {name!r}: see `dvc exp list --all-commits`") from exc
