"""The time and size of a build before it begins, from measured rates; what was never measured is said to be unknown.

    messages    of the snapshot and the log
    chunks      x chunks a message: of the active collection, else of the last build
    time        / chunks a second: of the last build of this format and base model, else texts a second of the manifest
    size        x bytes a chunk: of the active collection, if its vectors and index are the same

Estimates are upper limits: a message that a later one replaces, and a vector that is reused, cost less.
"""

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from streaming.building.build import Built
from twinline.clients.builds import BuildRecord, read_record, spoken, write_record
from twinline.clients.online import AdminClient, CollectionStatus
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import Store
from twinline.contract.canonical import JSON
from twinline.contract.errors import TransientError
from twinline.contract.release.manifest import Manifest

# A smaller build or collection tells more of its fixed costs than of a chunk's.
FEWEST_CHUNKS: Final = 500
_BLOCK_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class Rate:
    """A measured number and its origin; `value` None: unknown, and `origin` says why."""

    value: float | None
    origin: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """A build's expected size and time; None: unknown.

    Args:
        origins: of each rate that was used, or why there was none.
    """

    messages: int
    chunks: int | None
    seconds: float | None
    bytes: int | None
    origins: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the estimate for a person."""
        chunks = "an unknown number of chunks" if self.chunks is None else f"{self.chunks:,} chunks"
        time = "unknown time" if self.seconds is None else spoken(self.seconds)
        size = "unknown size" if self.bytes is None else _size(self.bytes)
        return [
            f"to build: {self.messages:,} messages, at most {chunks}, {time}, {size}",
            *(f"  {each}" for each in self.origins),
        ]

    def compared(self, seconds: float, size: int | None) -> str:
        """Return what a build took beside its estimate, with the ratio of the two."""
        time = f"took {seconds:.0f} s, {_beside(seconds, self.seconds, lambda value: f'{value:.0f} s')}"
        if size is None:
            return time
        return f"{time}; takes {_size(size)}, {_beside(size, self.bytes, _size)}"

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        return asdict(self)


def estimate(messages: int, chunks_a_message: Rate, chunks_a_second: Rate, bytes_a_chunk: Rate) -> Estimate:
    """Return the estimate of a build from its number of messages and the rates."""
    per_message, per_second, per_chunk = chunks_a_message.value, chunks_a_second.value, bytes_a_chunk.value
    chunks = 0 if messages == 0 else None if per_message is None else round(messages * per_message)
    return Estimate(
        messages,
        chunks,
        None if chunks is None or (not per_second and chunks) else chunks / per_second if per_second else 0.0,
        None if chunks is None or (per_chunk is None and chunks) else round(chunks * (per_chunk or 0)),
        tuple(
            f"{name}: {'unknown, ' if rate.value is None else f'{rate.value:,.2f}, '}{rate.origin}"
            for name, rate in (
                ("chunks a message", chunks_a_message),
                ("chunks a second", chunks_a_second),
                ("bytes a chunk", bytes_a_chunk),
            )
        ),
    )


def estimate_build(settings: Settings, release: Release, store: Store, messages: int) -> Estimate:
    """Return the estimate of a release's build on this installation."""
    active, last = _active(settings), read_record(settings.home)
    manifest = Manifest.load(settings.releases / release.info.release)
    return estimate(
        messages, chunks_a_message(active, last), chunks_a_second(manifest, last), bytes_a_chunk(settings, release, store, active)
    )


def chunks_a_message(active: CollectionStatus | None, last: BuildRecord | None) -> Rate:
    """Return how many chunks a message becomes."""
    if active and active.documents and active.chunks is not None:
        return Rate(
            active.chunks / active.documents, f"{active.chunks:,} chunks of {active.documents:,} documents in {active.name}"
        )
    if last and last.messages:
        return Rate(last.chunks / last.messages, f"the last build, {last.release}")
    return Rate(None, "no collection with documents is active, and no build is on record here")


def chunks_a_second(manifest: Manifest, last: BuildRecord | None) -> Rate:
    """Return how many chunks are embedded and written in a second."""
    serving = manifest.serving_format()
    if last and (last.format, last.base_model) == (serving.name, manifest.base_model) and last.seconds > 0:
        return Rate(last.embedded / last.seconds, f"the last build with {serving.name}, {last.release}")
    if serving.quality and serving.quality.texts_per_second > 0:
        said = f"the encoder alone as {serving.name} on the machine that exported it"
        return Rate(serving.quality.texts_per_second, said)
    return Rate(None, f"no build with {serving.name} of {manifest.base_model} is on record here, and its release has no rate")


def bytes_a_chunk(settings: Settings, release: Release, store: Store, active: CollectionStatus | None) -> Rate:
    """Return how much disk a chunk takes, with its share of the index and of the heads."""
    if settings.store != "edge":
        return Rate(None, "a Qdrant server does not say what a collection takes")
    if active is None or not active.chunks or active.name not in store.names():
        return Rate(None, "no collection with documents is active")
    if active.chunks < FEWEST_CHUNKS:
        return Rate(None, f"{active.name} has only {active.chunks:,} chunks")
    known = store.info(active.name)
    if (known.vectors, known.index) != (release.info.vectors, release.info.index):
        return Rate(None, f"{active.name} has other vectors or another index")
    return Rate((collection_bytes(settings, active.name) or 0) / active.chunks, f"{active.name} on this disk")


def collection_bytes(settings: Settings, name: str) -> int | None:
    """Return the disk that a collection takes; None where only its server knows."""
    if settings.store != "edge":
        return None
    return folder_bytes(settings.store_folder / name)


def folder_bytes(folder: Path) -> int:
    """Return the disk that the files below a folder take: the engine's files are larger than what is written in them."""
    return sum(_file_bytes(Path(place) / name) for place, _, names in os.walk(folder) for name in names)


def record_build(
    settings: Settings, release: Release, built: Built, messages: int, seconds: float, estimated_seconds: float | None
) -> None:
    """Keep a build that ran from its beginning to its end, beside its own estimate: its rates are for the next one's.

    One that embedded little, or less than it reused, has no rate, and leaves the record of an earlier one.
    """
    chunks = built.chunks_embedded + built.chunks_reused
    if built.chunks_embedded < max(FEWEST_CHUNKS, chunks / 2):
        return
    manifest = Manifest.load(settings.releases / release.info.release)
    write_record(
        settings.home,
        BuildRecord(
            manifest.release,
            manifest.serving.format,
            manifest.base_model,
            messages,
            chunks,
            built.chunks_embedded,
            round(seconds, 3),
            None if estimated_seconds is None else round(estimated_seconds, 3),
        ),
    )


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_blocks * _BLOCK_BYTES
    except FileNotFoundError:
        # The engine of the online process has merged it away since it was listed.
        return 0


def _active(settings: Settings) -> CollectionStatus | None:
    with closing(AdminClient(settings.admin_url)) as admin:
        try:
            status = admin.status()
        except TransientError:
            # Unknown rates are said as unknown; a build needs no online process.
            return None
    return status.collection(status.active) if status.active else None


def _beside(value: float, expected: float | None, said: Callable[[float], str]) -> str:
    if expected is None:
        return "not estimated"
    return f"estimated {said(expected)}" + (f", ratio {value / expected:.2f}" if expected else "")


def _size(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
