"""Wait until published messages are searchable: the active release's consumer has committed past them, or set them aside."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Protocol

from tqdm import tqdm

from twinline.clients.kafka.connect import beginning_offsets, committed_offsets, end_offsets, ensure_topics
from twinline.clients.online import AdminClient, OnlineStatus
from twinline.clients.run import VerdictError
from twinline.clients.settings import Settings
from twinline.contract.errors import SettingsError, TransientError
from twinline.contract.release.manifest import collection_name, consumer_group
from twinline.upkeep.dead_letters.entries import message_id, read_letters

_POLL_SECONDS: Final = 1.0
# A consumer that restarts, or pauses after an outage, has this long before its fault counts.
_PATIENCE_SECONDS: Final = 60.0


class SetAsideError(VerdictError):
    """Messages that were published were set aside by the consumer, and cannot be found."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where both logs ended before the publication: the documents' by partition, and that of the dead letters."""

    documents: Mapping[int, int]
    letters: Mapping[int, int]

    @classmethod
    def now(cls, settings: Settings) -> "Place":
        """Return where they end now; the topics are made if need be.

        Raises:
            SettingsError: no release is active, so nothing that is published becomes searchable.
        """
        with closing(AdminClient(settings.admin_url)) as admin:
            _active(admin.status())
        ensure_topics(settings)
        return cls(end_offsets(settings, settings.topic), end_offsets(settings, settings.dead_letter_topic))


class Bar(Protocol):
    """Shows progress; tqdm's is one."""

    def update(self, n: float | None = 1) -> object:
        """Add to what is done."""


def wait_until_searchable(settings: Settings, before: Place) -> int:
    """Wait, with a bar and an estimate, until the active release has indexed the log up to its end now.

    Args:
        before: the logs' ends before the publication.

    Returns:
        The messages that came after `before`, of whichever producer.

    Raises:
        SettingsError: no release is active, so nothing becomes searchable.
        SetAsideError: messages after `before` were set aside; all the others are searchable.
        TransientError: the consumer does not run, or has a fault that lasts.
    """
    ends = end_offsets(settings, settings.topic)
    starts = beginning_offsets(settings, settings.topic)
    with closing(AdminClient(settings.admin_url)) as admin:

        def behind() -> int:
            group = consumer_group(_active(admin.status()))
            committed = committed_offsets(settings, group, settings.topic)
            return sum(max(0, end - committed.get(number, starts[number])) for number, end in ends.items())

        left = behind()
        with tqdm(total=left, desc="searchable", unit=" messages", smoothing=0.1, disable=None) as bar:
            _follow(behind, admin.status, left, bar)
        release = _active(admin.status())
    reasons = set_aside(settings, before, ends, release)
    if reasons:
        said = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        raise SetAsideError(
            f"{reasons.total()} messages were set aside and cannot be found ({said}); the others are searchable: "
            "twinline dead-letters list"
        )
    return sum(end - before.documents.get(number, 0) for number, end in ends.items())


def set_aside(settings: Settings, before: Place, ends: Mapping[int, int], release: str) -> Counter[str]:
    """Return how many messages between two places a release has set aside, by reason."""
    found: dict[str, str] = {}
    for _, letter in read_letters(settings, before.letters):
        message = letter.message
        first, end = before.documents.get(message.partition, 0), ends.get(message.partition, 0)
        if letter.release == release and first <= message.offset < end:
            found[message_id(letter)] = letter.reason
    return Counter(found.values())


def _follow(
    behind: Callable[[], int],
    status: Callable[[], OnlineStatus],
    left: int,
    bar: Bar,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Poll until nothing is left; a fault counts once nothing has moved for a while."""
    moved_at = clock()
    while left:
        sleep(_POLL_SECONDS)
        now = behind()
        # A release that became active meanwhile may be further behind.
        bar.update(left - now)
        if now != left:
            moved_at = clock()
        left = now
        if left and clock() - moved_at > _PATIENCE_SECONDS and (fault := _fault(status())):
            raise TransientError(f"{left} messages are not searchable yet, and nothing moves: {fault}")


def _fault(status: OnlineStatus) -> str:
    """Return why the active release is not being indexed; empty where it only takes long."""
    collection = status.collection(status.active or "")
    if collection is None:
        return f"{status.active} is not served: {status.refused.get(status.active or '', 'twinline status')}"
    if collection.faults:
        return "; ".join(collection.faults)
    return "" if collection.consumer_running else f"the consumer of {collection.release} has ended: see its log (twinline status)"


def _active(status: OnlineStatus) -> str:
    if not status.active:
        raise SettingsError(
            "no release is active, so nothing becomes searchable: twinline release bootstrap, or publish without --wait"
        )
    return status.active.removeprefix(collection_name(""))
