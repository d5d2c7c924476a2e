"""One comparison of a release's collection with the log.

1. wait until the consumer has passed the log's current end; 2. fold the log up to there; 3. read every point; 4. leave out
documents that changed meanwhile; 5. compare the rest.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from streaming.decode import Event, Message, decode
from twinline.clients.kafka.connect import end_offsets
from twinline.clients.kafka.erasures import current_erasures
from twinline.clients.kafka.stretch import read_topic
from twinline.clients.settings import Settings
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Deletion, Document, decode_message
from twinline.contract.errors import DocumentError
from twinline.release.verify.index import wait_until_caught_up
from twinline.upkeep.reconcile.compare import Finding, Kind, compare_document, stray
from twinline.upkeep.reconcile.expected import Folded, fold
from twinline.upkeep.reconcile.ledger import Ledger
from twinline.upkeep.reconcile.target import Target

PATIENCE_SECONDS: Final = 60.0


@dataclass(slots=True)
class Comparison:
    """The scope and the findings of a comparison.

    Args:
        documents: how many the log has, deletions included; `points`: how many are stored.
        set_aside: documents whose newest state is in the dead letters: explained, and not missing.
        erased: messages that no index may have.
        moved: documents that changed meanwhile, and are not judged.
        counts: findings by kind; `examples` are the first of them.
    """

    release: str
    documents: int = 0
    points: int = 0
    set_aside: int = 0
    erased: int = 0
    moved: int = 0
    snapshot: str = ""
    counts: Counter[Kind] = field(default_factory=Counter)
    examples: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Say whether log and index agree."""
        return not self.counts

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        names = ("release", "documents", "points", "set_aside", "erased", "moved", "snapshot", "clean")
        said: dict[str, JSON] = {name: getattr(self, name) for name in names}
        counts: dict[str, JSON] = {str(kind): count for kind, count in self.counts.items()}
        return {**said, "counts": counts, "examples": [finding.to_json() for finding in self.examples]}


class Reconciliation:
    """Log and index side by side, in a temporary file. Use it as a context."""

    def __init__(self, settings: Settings, target: Target, snapshot: str = "", examples: int = 20) -> None:
        self._settings = settings
        self._target = target
        self._snapshot = snapshot
        self._examples = examples
        self.ledger = Ledger(settings.home / "tmp" / f"reconcile-{uuid4().hex}.sqlite")

    def __enter__(self) -> "Reconciliation":
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.__exit__()

    def compare(self, patience_seconds: float = PATIENCE_SECONDS) -> Comparison:
        """Fill both sides and compare them.

        Raises:
            TransientError: the consumer is behind and stands still, or a dependency is away.
            SettingsError: no snapshot covers the expired part of the log.
        """
        settings, target = self._settings, self._target
        ends = end_offsets(settings, settings.topic)
        wait_until_caught_up(ends, target.committed, patience_seconds)
        folded = fold(settings, self.ledger, target.release, ends, current_erasures(settings), self._snapshot)
        for page in target.facts():
            self.ledger.add_points(page)
        self._note_moved(folded)
        done = Comparison(
            target.release,
            documents=self.ledger.count("wanted"),
            points=self.ledger.count("points"),
            set_aside=self.ledger.aside_count(),
            erased=folded.erased,
            moved=self.ledger.count("moved"),
            snapshot=folded.snapshot,
        )
        for finding in self.findings():
            done.counts[finding.kind] += 1
            if len(done.examples) < self._examples:
                done.examples.append(finding)
        return done

    def findings(self) -> Iterator[Finding]:
        """Yield all faults, document by document."""
        for doc, message in self.ledger.documents():
            yield from self.findings_of(doc, decode(message))
        for doc in self.ledger.documents_only_aside():
            passed = self._passed_later(doc)
            yield from self.findings_of(doc, decode(passed)) if passed else map(stray, self.ledger.points_of(doc))
        yield from map(stray, self.ledger.points_of_unknown())

    def findings_of(self, doc: str, event: Event) -> list[Finding]:
        """Return all faults of one document."""
        points = self.ledger.points_of(doc)
        if passed := self._passed_later(doc):
            event = decode(passed)
        try:
            chunks = [] if isinstance(event.item, Deletion) else self._target.preprocessor.chunks(event.item)
        except DocumentError as exc:
            detail = f"it cannot be cut ({exc}), and is not in the dead letters of this release"
            return [Finding("missing", event.item.source, event.item.key, detail)]
        return compare_document(event, chunks, points, self._target.info, self._target.words)

    def _passed_later(self, doc: str) -> Message | None:
        """Return the message of a document's head, where it was set aside once and applied by a later attempt."""
        head = next((point for point in self.ledger.points_of(doc) if point.kind == "head"), None)
        stored = head.stored_version if head else None
        return self.ledger.aside_with(doc, stored) if stored else None

    def _note_moved(self, folded: Folded) -> None:
        for record in read_topic(self._settings, self._settings.topic, folded.ends):
            try:
                item: Document | Deletion = decode_message(record.key, None)
            except DocumentError:
                continue  # of no document, so no document changed
            self.ledger.note_moved(item.source, item.key)
