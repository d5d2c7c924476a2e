"""Every answer of a switch against the collection of its own release: a hit from elsewhere makes a mixed answer."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final, Protocol, Self
from uuid import UUID

from proofs.switch.load import Asked, HitSeen
from twinline.clients.store.protocol import Head, StoredPoint, stored_version
from twinline.contract.documents.ids import head_id
from twinline.contract.release.manifest import Manifest, collection_name

_AT_ONCE: Final = 60
_NAMED: Final = 5


class ReadsPoints(Protocol):
    """A reader of served collections."""

    def read_points(self, name: str, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
        """Return the existing points, by their id."""


@dataclass
class Verdict:
    """The numbers of checked answers, checked hits and mixed answers."""

    answers: int = 0
    hits: int = 0
    mixed: int = 0
    reasons: list[str] = field(default_factory=list)

    def blame(self, answer: Asked, reason: str) -> None:
        """Count a mixed answer."""
        self.mixed += 1
        if len(self.reasons) < _NAMED:
            self.reasons.append(f"answer of {answer.release} in phase {answer.phase}: {reason}")


def check_answers(answers: Sequence[Asked], releases: Mapping[str, Manifest], points: ReadsPoints, verdict: Verdict) -> None:
    """Judge answers by their own fields, and each hit by its release's current collection.

    For a chunk that is gone or of a later version, the document's head must show that it was superseded.
    """
    by_release: dict[str, list[Asked]] = {}
    for answer in answers:
        verdict.answers += 1
        reason = _contradiction(answer, releases)
        if reason:
            verdict.blame(answer, reason)
        else:
            by_release.setdefault(answer.release, []).append(answer)
    for release, own in by_release.items():
        hits = {hit for answer in own for hit in answer.hits}
        ids = {UUID(hit.point) for hit in hits} | {head_id(hit.source, hit.key) for hit in hits}
        stored = points.read_points(collection_name(release), sorted(ids))
        foreign = {hit: reason for hit in hits if (reason := _foreign(hit, stored, releases[release]))}
        verdict.hits += sum(len(answer.hits) for answer in own)
        for answer in own:
            reason = next((foreign[hit] for hit in answer.hits if hit in foreign), "")
            if reason:
                verdict.blame(answer, reason)


def _contradiction(answer: Asked, releases: Mapping[str, Manifest]) -> str:
    manifest = releases.get(answer.release)
    if manifest is None:
        return f"there is no such release here, there are {sorted(releases)}"
    if (answer.space, answer.collection) != (manifest.space, collection_name(manifest.release)):
        return f"space {answer.space[:12]} and collection {answer.collection} are another release's"
    wanted = (manifest.release, manifest.space, manifest.fingerprints.contract)
    for hit in answer.hits:
        if (hit.release, hit.space, hit.contract) != wanted:
            return f"hit {hit.point} says it is of release {hit.release}, space {hit.space[:12]}"
    return ""


def _foreign(hit: HitSeen, stored: Mapping[UUID, StoredPoint], manifest: Manifest) -> str:
    """Return why a hit cannot have come from its release's collection; empty if it can."""
    place = f"{hit.source}/{hit.key} chunk {hit.chunk_index}, version {hit.version.number}"
    point = stored.get(UUID(hit.point))
    if point is not None and (point.payload["release"], point.payload["space"]) != (manifest.release, manifest.space):
        return f"{place}: the stored point is of release {point.payload['release']}"
    if point is not None and stored_version(point.payload) == hit.version:
        return ""
    found = stored.get(head_id(hit.source, hit.key))
    if found is None:
        return f"{place}: the collection has never seen this document"
    head = Head.from_payload(found.payload)
    return "" if hit.version < head.version else f"{place}: not in the collection, whose head is of version {head.version.number}"


class AnswerChecker:
    """Judges answers beside the searches while a block runs; at its end all answers are judged.

    After an exception in the block, the check does not wait for running searches.
    """

    def __init__(self, answers: "SimpleQueue[Asked]", releases: Mapping[str, Manifest], points: ReadsPoints) -> None:
        self.verdict = Verdict()
        self._answers = answers
        self._releases = releases
        self._points = points
        self._ended = threading.Event()
        self._given_up = threading.Event()
        self._broken: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:
            self._given_up.set()
        self._ended.set()
        self._thread.join()
        # The block's own error matters, not the checker's error after it.
        if self._broken and error is None:
            raise self._broken[0]

    def _run(self) -> None:
        try:
            while not self._given_up.is_set():
                ended = self._ended.is_set()
                batch = self._next()
                if batch:
                    check_answers(batch, self._releases, self._points, self.verdict)
                elif ended:
                    return
        except BaseException as error:
            self._broken.append(error)
            raise

    def _next(self) -> list[Asked]:
        batch: list[Asked] = []
        try:
            while len(batch) < _AT_ONCE:
                batch.append(self._answers.get(timeout=0.5))
        except Empty:
            pass
        return batch
