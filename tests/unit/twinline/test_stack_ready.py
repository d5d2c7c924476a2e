"""A stack is ready when its parts are, and when what it serves is being indexed."""

from twinline.clients.online import CollectionStatus, OnlineStatus
from twinline.stack.status import PartStatus, StackStatus

PART = PartStatus("online", "online process", "ready", 1, (), 1.0, 0, None)


def status(*faults: str, notes: tuple[str, ...] = ()) -> StackStatus:
    collection = CollectionStatus("documents_r1", "r1", "s", "c", True, not faults, 3, 3, 0, [*faults], [*notes], 1.0)
    return StackStatus("/home", True, (PART,), OnlineStatus("documents_r1", [collection], {}), None)


def test_a_release_that_is_not_indexed_is_no_ready_stack() -> None:
    assert status().is_ready
    assert not status("release r1 is not being indexed: another consumer took this one's place").is_ready
    # Somebody else's open transaction is no fault here.
    assert status(notes=("an open transaction holds partition 1 up",)).is_ready
