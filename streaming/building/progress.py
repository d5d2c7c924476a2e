"""The progress of a build and its estimated end: a bar on a terminal, lines in a log, and a file for `twinline status`."""

import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, TextIO

from tqdm import tqdm

from twinline.clients.builds import Build, end_build, now, this_process, write_build

_LINE_SECONDS: Final = 10.0
_FILE_SECONDS: Final = 1.0
# The estimate uses the recent rate: texts get longer, and searches come and go.
_WINDOW_SECONDS: Final = 60.0


class BuildProgress:
    """Shows progress within a `with` block; called with the number of messages that were handled."""

    def __init__(
        self,
        home: Path,
        release: str,
        total: int,
        stream: TextIO = sys.stderr,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._release = release
        self._total = total
        self._stream = stream
        self._clock = clock
        self._phase = "starting"
        self._done = 0
        self._process = this_process()
        self._window: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._line_due = clock() + _LINE_SECONDS
        self._file_due = 0.0
        # A bar redraws its line, and a log would keep every state of it.
        self._bar = tqdm(total=total, unit=" messages", desc=f"indexing {release}", file=stream, disable=not stream.isatty())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        end_build(self._home, self._release)

    def enter(self, phase: str, already_done: int = 0) -> None:
        """Begin a phase; an earlier attempt had done `already_done` messages of it."""
        self._phase = phase
        self._done += already_done
        self._bar.update(already_done)
        # Earlier attempts say nothing about the rate of this one.
        self._window = deque([(self._clock(), self._done)])
        self._show(self._clock(), by_force=True)

    def __call__(self, handled: int) -> None:
        """Count messages."""
        self._done += handled
        self._bar.update(handled)
        at = self._clock()
        self._window.append((at, self._done))
        while len(self._window) > 2 and at - self._window[0][0] > _WINDOW_SECONDS:
            self._window.popleft()
        self._show(at)

    def state(self) -> Build:
        """Return the state of the build."""
        (first_at, first_done), (last_at, last_done) = self._window[0], self._window[-1]
        rate = (last_done - first_done) / (last_at - first_at) if last_at > first_at else 0.0
        left = max(0, self._total - self._done)
        remaining = left / rate if rate else (None if left else 0.0)
        return Build(self._release, self._phase, self._done, self._total, rate, remaining, *self._process, now())

    def _show(self, at: float, *, by_force: bool = False) -> None:
        if by_force or at >= self._file_due:
            self._file_due = at + _FILE_SECONDS
            write_build(self._home, self.state())
        if self._bar.disable and at >= self._line_due:
            self._line_due = at + _LINE_SECONDS
            print(self.state().describe(), file=self._stream, flush=True)
