"""A document that changes while it is looked at is no fault of the collection; one that stays and disagrees is."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.unit.release.factories import FakeEmbedder, make_release
from tests.unit.release.test_verify import OneChunk, Stored, chunk_point
from twinline.clients.store.protocol import Head, StoredPoint
from twinline.contract.documents.records import Document, Version
from twinline.contract.release.checks import Check
from twinline.release.verify import index as verify
from twinline.release.verify.live_sample import live_sample_checks
from twinline.release.verify.log_sample import LogState

LOGGED = [Document("src", key, f"text of {key}", title="t") for key in "abcdef"]


def updated(document: Document) -> Document:
    return Document(document.source, document.key, f"another {document.text}", title="t")


def head(document: Document, number: int) -> Head:
    return Head(document.source, document.key, Version("log", number, number), False, 1)


class Changing(Stored):
    """A collection in which documents change each time that one is searched for; the consumer writes heads first."""

    def __init__(self, changes: list[list[StoredPoint]]) -> None:
        heads = [head(document, 1) for document in LOGGED]
        points = [*map(chunk_point, LOGGED), *(StoredPoint(one.id, one.to_payload()) for one in heads)]
        super().__init__({point.id: point for point in points}, LOGGED)
        self._changes = changes

    def point(self, name: str, point_id: UUID) -> StoredPoint | None:
        if self._changes:
            self._points |= {point.id: point for point in self._changes.pop(0)}
        return super().point(name, point_id)


def checks_of(folder: Path, collection: Changing) -> dict[str, Check]:
    preprocessor: Any = OneChunk()
    candidate = verify.Candidate("documents_r1", make_release(folder / "release"), preprocessor, FakeEmbedder())
    versions = {(document.source, document.key): Version("log", 1, 1) for document in LOGGED}
    state = LogState(versions=versions, documents={(document.source, document.key): document for document in LOGGED})
    heads = {(document.source, document.key): head(document, 1) for document in LOGGED}
    return {check.name: check for check in live_sample_checks(candidate, collection, state, heads)}


def stored_head(document: Document, number: int) -> StoredPoint:
    one = head(document, number)
    return StoredPoint(one.id, one.to_payload())


@pytest.mark.parametrize("how_many", [0, 1, 5])
def test_however_many_were_updated_meanwhile_the_rest_is_judged(tmp_path: Path, how_many: int) -> None:
    change = [point for one in LOGGED[1 : 1 + how_many] for point in (stored_head(one, 2), chunk_point(updated(one)))]
    # All at the first look, so that each later one sees a document that is not the log's any more.
    found = checks_of(tmp_path, Changing([change]))
    assert all(check.passed for check in found.values()), found
    assert found["equal text"].numbers == {"documents": 6 - how_many, "different": 0, "left_out": how_many}


def test_one_that_is_updated_with_each_look_is_left_out(tmp_path: Path) -> None:
    # The next document changes each time that one is read; what an update leaves between head and chunk is seen too.
    changes = [part for one in LOGGED[1:4] for part in ([stored_head(one, 2)], [chunk_point(updated(one))])]
    found = checks_of(tmp_path, Changing(changes))
    assert all(check.passed for check in found.values()), found


def test_what_kept_its_version_and_disagrees_is_a_fault(tmp_path: Path) -> None:
    found = checks_of(tmp_path, Changing([[chunk_point(updated(LOGGED[2])), stored_head(LOGGED[3], 2)]]))
    assert not found["equal text"].passed
    assert "'c'" in found["equal text"].detail


def test_where_everything_changed_nothing_was_verified(tmp_path: Path) -> None:
    change = [point for one in LOGGED for point in (stored_head(one, 2), chunk_point(updated(one)))]
    found = checks_of(tmp_path, Changing([change]))
    assert not found["equal vectors"].passed
    assert "6 more changed" in found["equal text"].detail
