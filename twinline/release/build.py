"""Build a release's collection in a process of its own, and hand it to the online process."""

import subprocess
import sys
from pathlib import Path
from typing import Protocol

import typer

from twinline.clients.online import OnlineStatus
from twinline.clients.run import INTERRUPTED
from twinline.clients.settings import in_project
from twinline.contract.errors import TransientError
from twinline.contract.release.manifest import collection_name


class Online(Protocol):
    """The calls to the online process."""

    def status(self) -> OnlineStatus:
        """Return the served collections."""

    def serve(self, name: str) -> None:
        """Open a collection and start its consumer."""


def build(release: str, snapshot: str, online: Online, project: Path, *, ask: bool = False) -> bool:
    """Make sure that the release's collection is built and served; return whether it had to be built.

    The builder is another process: building the vector index holds the interpreter for seconds to minutes, in which no search
    would be answered. It stops where the log ended at its start, and the online process continues there.

    Args:
        snapshot: a snapshot of the topic to start from; empty: all of the log.
        project: the project's folder, in which the builder runs.
        ask: the builder waits for a person's yes after its estimate of time and size.

    Raises:
        typer.Exit: the person said no, or the builder was told to stop; its progress is kept.
        TransientError: the builder did not finish; its progress is kept, and a repeat resumes from it.
    """
    name = collection_name(release)
    if online.status().collection(name) is not None:
        # Served already, perhaps with a consumer that had given up: this restarts it.
        online.serve(name)
        return False
    command = [sys.executable, "-m", "streaming", "build", "--release", release]
    if snapshot:
        command += ["--snapshot", snapshot]
    if ask:
        command.append("--ask")
    # Standard output is ours: its last line is the result of this command.
    done = subprocess.run(command, cwd=project, env=in_project(project), stdout=sys.stderr, check=False)
    if done.returncode == INTERRUPTED:
        raise typer.Exit(INTERRUPTED)
    if done.returncode != 0:
        raise TransientError(
            f"building {name} ended with {done.returncode}, its message stands above; build it again, it goes on from there"
        )
    online.serve(name)
    return True
