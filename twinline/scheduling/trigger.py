"""The trigger that a deferred task leaves behind: it follows a detached command and wakes the task when that has ended.

The triggerer imports it by name, so that this folder is on its PYTHONPATH.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from twinline.scheduling import detached

# A bar that moves all the time is not worth a line of the log each time.
_PROGRESS_SECONDS = 5.0


class CommandEnd(BaseTrigger):
    """Fires once, when the command of a folder runs no more.

    Args:
        folder: of the detached command.
        poll_seconds: how often it is looked at; what it prints meanwhile goes into the task's log.
    """

    def __init__(self, folder: str, poll_seconds: float = 1.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so is all of the provider
        self.folder = folder
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer makes the same trigger from."""
        return "twinline.scheduling.trigger.CommandEnd", {"folder": self.folder, "poll_seconds": self.poll_seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the command. Nothing is held meanwhile: a triggerer that dies is replaced by another, which looks again."""
        folder, offset = Path(self.folder), 0
        shown, shown_at = "", 0.0
        while True:
            # The state first: what is printed before the end is there when the end is.
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
        """End the command: somebody has cleared or ended the task."""
        await asyncio.to_thread(detached.end, Path(self.folder))
