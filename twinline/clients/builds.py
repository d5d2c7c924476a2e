"""Collection builds under home, written by the builder: the progress of each, in a file of its own, and the last one's rates."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_FOLDER = "builds"
_LAST = "last-build.json"


@dataclass(frozen=True, slots=True)
class Build:
    """A running build. `remaining_seconds` is an estimate, None until there is data for one."""

    release: str
    phase: str
    done: int
    total: int
    per_second: float
    remaining_seconds: float | None
    pid: int
    process_started: float
    updated_at: float

    def describe(self) -> str:
        """Return one line for a person."""
        share = f"{self.done / self.total:.0%}, " if self.total else ""
        return (
            f"building {self.release}: {self.phase}, {self.done:,} of {self.total:,} messages ({share}{self.per_second:.1f} a "
            f"second), {duration(self.remaining_seconds)}"
        )


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """The last build from its beginning to its end in one go: what an estimate of the next one rests on.

    Args:
        chunks: all that were written; `embedded`: those without a vector at hand.
        estimated_seconds: as told before it began; None where a rate was unknown.
    """

    release: str
    format: str
    base_model: str
    messages: int
    chunks: int
    embedded: int
    seconds: float
    estimated_seconds: float | None = None

    @property
    def ratio(self) -> float | None:
        """Return the seconds that it took, by those that were estimated; None without an estimate."""
        return self.seconds / self.estimated_seconds if self.estimated_seconds else None


def spoken(seconds: float) -> str:
    """Return an estimated time in everyday words."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5_400 else f"about {seconds / 3600:.1f} h"


def duration(seconds: float | None) -> str:
    """Return an estimated time left in everyday words."""
    return "time left not known yet" if seconds is None else f"{spoken(seconds)} left"


def write_record(home: Path, record: BuildRecord) -> None:
    """Keep the rates of a build that has ended."""
    beside = home / f".{_LAST}.new"
    beside.write_text(json.dumps(asdict(record)))
    beside.replace(home / _LAST)


def read_record(home: Path) -> BuildRecord | None:
    """Return the rates of the last build; None where this version kept none: an estimate then has no rate, and says so."""
    try:
        return BuildRecord(**json.loads((home / _LAST).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_build(home: Path, build: Build) -> None:
    """Write the progress of a build."""
    path = _path(home, build.release)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(asdict(build)))
    beside.replace(path)


def end_build(home: Path, release: str) -> None:
    """Remove the file of a build that has ended."""
    _path(home, release).unlink(missing_ok=True)


def running_builds(home: Path) -> list[Build]:
    """Return the builds whose process is alive; the file of a killed builder does not count."""
    found = [Build(**json.loads(path.read_text())) for path in sorted((home / _FOLDER).glob("*.json"))]
    return [build for build in found if _is_running(build)]


def this_process() -> tuple[int, float]:
    """Return this process's id and start time: ids are used again, the pair is not."""
    process = psutil.Process()
    return process.pid, process.create_time()


def now() -> float:
    """Return the current time as the files store it."""
    return round(time.time(), 3)


def _is_running(build: Build) -> bool:
    try:
        return abs(psutil.Process(build.pid).create_time() - build.process_started) < 1
    except psutil.NoSuchProcess:
        return False


def _path(home: Path, release: str) -> Path:
    return home / _FOLDER / f"{release}.json"
