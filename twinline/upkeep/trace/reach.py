"""The inputs of a trace: the online process, the log, the folders of this machine, the repository."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from streaming.decode import Message
from streaming.log_reader import message_of
from twinline.clients.kafka.connect import beginning_offsets, end_offsets
from twinline.clients.kafka.stretch import read_topic
from twinline.clients.online import OnlineStatus
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import StoredPoint
from twinline.contract.artefacts import ENCODER
from twinline.registry.revisions import NotHereError
from twinline.registry.versions import Registered, Registry

_PAGE: Final = 256


class Reads(Protocol):
    """The reads from the online process, which owns the store."""

    def status(self) -> OnlineStatus:
        """Return the served collections."""

    def point(self, name: str, point_id: UUID) -> StoredPoint | None:
        """Return one point."""

    def points(
        self,
        name: str,
        *,
        source: str | None = None,
        key: str | None = None,
        kind: str | None = None,
        limit: int = 256,
        offset: UUID | None = None,
    ) -> tuple[list[StoredPoint], UUID | None]:
        """Return a page of points and the offset of the next."""


@dataclass(frozen=True)
class Reach:
    """All inputs of a trace; a failed read raises NotHereError or TransientError."""

    settings: Settings
    repository: Path
    online: Reads
    read_message: Callable[[int, int], Message]

    def all_points(self, collection: str, source: str | None, key: str) -> list[StoredPoint]:
        """Return head and chunks of a document; without a source, those of every source's document with this key."""
        found: list[StoredPoint] = []
        offset: UUID | None = None
        while True:
            page, offset = self.online.points(collection, source=source, key=key, limit=_PAGE, offset=offset)
            found += page
            if offset is None:
                return found

    def release_folder(self, release: str) -> Path:
        """Return the folder of a fetched release."""
        folder = self.settings.releases / release
        if not folder.is_dir():
            raise NotHereError(f"release {release} is not in {self.settings.releases}: `twinline release fetch VERSION`")
        return folder

    def versions(self) -> list[Registered]:
        """Return the registry's versions, newest first."""
        if not (self.repository / ".git").exists():
            raise NotHereError(f"{self.repository} is no Git repository: run this in the checkout that trained it")
        return Registry(self.repository, ENCODER).versions()

    def registered(self, release: str) -> Registered | None:
        """Return the registry's version of a release."""
        registry = Registry(self.repository, ENCODER)
        return next((entry for entry in self.versions() if registry.release_of(entry) == release), None)


def read_message(settings: Settings, partition: int, offset: int) -> Message:
    """Return one message of the topic of documents.

    Raises:
        NotHereError: the log never had it, or it has expired.
        TransientError: no broker answers, or it falls silent.
    """
    topic = settings.topic
    begin, end = (which(settings, topic).get(partition, 0) for which in (beginning_offsets, end_offsets))
    if not begin <= offset < end:
        raise NotHereError(
            f"topic {topic}[{partition}] at {settings.kafka_address} holds the offsets {begin} to {end - 1}, not {offset}: "
            "it was expired after a snapshot (`python -m etl ingest --source kafka:`), or this is another broker"
        )
    found = [message_of(record) for record in read_topic(settings, topic, {partition: offset}, {partition: offset + 1})]
    if not found:
        raise NotHereError(f"topic {topic}[{partition}] has no message at offset {offset}, only a mark of a transaction")
    return found[0]
