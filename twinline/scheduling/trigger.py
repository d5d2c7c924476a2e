"""The trigger of a deferred task: it follows a detached command and wakes the task at its end.

The triggerer imports it by name, so that this folder is on its PYTHONPATH.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from twinline.scheduling import detached

# A progress bar must not add a line to the log at every move.
_PROGRESS_SECONDS = 5.0


class CommandEnd(BaseTrigger):
    """Fires once, when the command of a folder has ended.

    Args:
        folder: the detached command's folder.
        poll_seconds: the pause between two looks; new output goes into the task's log.
    """

    def __init__(self, folder: str, poll_seconds: float = 1.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so is all of the provider
        self.folder = folder
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the arguments from which another triggerer makes the same trigger."""
        return "twinline.scheduling.trigger.CommandEnd", {"folder": self.folder, "poll_seconds": self.poll_seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the command. No state is held: another triggerer can take over."""
        folder, offset = Path(self.folder), 0
        shown, shown_at = "", 0.0
        while True:
            # The state first: after the end, all output before it is there.
            state = await asyncio.to_thread(detached.look, folder)
            lines, progress, offset = await asyncio.to_thread(detached.read_output, folder, offset)
            for line in lines:
                self.log.info("%s", line)
            if progress != shown and time.monotonic() - shown_at >= _PROGRESS_SECONDS:
                self.log.info("%s", progress)
                shown, shown_at = progress, time.monotonic()
            if state.phase != "running":
                yield TriggerEvent({"phase": state.phase})  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(self.poll_seconds)

    async def on_kill(self) -> None:
        """End the command: the task was cleared or ended."""
        await asyncio.to_thread(detached.end, Path(self.folder))
