"""A document that changes while it is looked at is no fault of the collection; one that stays and disagrees is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from clients.store import Head, StoredPoint
from contract.records import Document, Version
from release import verify
from release.live_sample import live_sample_checks
from release.log_sample import LogState
from tests.unit.release.factories import FakeEmbedder, make_release
from tests.unit.release.test_verify import OneChunk, Stored, chunk_point

LOGGED = [Document("src", key, f"text of {key}", title="t") for key in ("a", "b")]
UPDATED = Document("src", "b", "another text of b", title="t")


def head(document: Document, number: int) -> Head:
    return Head(document.source, document.key, Version("log", number, number), False, 1)


class Changing(Stored):
    """A collection in which b was updated after the heads were read."""

    def __init__(self, stored: Document, version_of_b: int) -> None:
        heads = [head(LOGGED[0], 1), head(LOGGED[1], version_of_b)]
        points = [chunk_point(LOGGED[0]), chunk_point(stored), *(StoredPoint(one.id, one.to_payload()) for one in heads)]
        super().__init__({point.id: point for point in points}, [LOGGED[0], stored])
        self.looks = 0

    def point(self, name: str, point_id: UUID) -> StoredPoint | None:
        self.looks += 1
        return super().point(name, point_id)


@pytest.mark.parametrize(
    ("collection", "passes", "looks"),
    [
        (Changing(LOGGED[1], 1), True, 2),
        # updated meanwhile: looked at, left out, and the rest looked at again
        (Changing(UPDATED, 2), True, 3),
        # of the version that the log had, with another text
        (Changing(UPDATED, 1), False, 2),
    ],
)
def test_only_what_stayed_as_the_log_had_it_counts(tmp_path: Path, collection: Changing, passes: bool, looks: int) -> None:
    preprocessor: Any = OneChunk()
    candidate = verify.Candidate("documents_r1", make_release(tmp_path / "release"), preprocessor, FakeEmbedder())
    versions = {(document.source, document.key): Version("log", 1, 1) for document in LOGGED}
    state = LogState(versions=versions, documents={(document.source, document.key): document for document in LOGGED})
    heads: Mapping[tuple[str, str], Head] = {(document.source, document.key): head(document, 1) for document in LOGGED}
    checks = live_sample_checks(candidate, collection, state, heads)
    assert all(check.passed for check in checks) is passes
    assert collection.looks == looks
