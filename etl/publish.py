"""Publish: documents onto the log, each delivery confirmed; of a source published before, only the changes.

1. open: make the topics and load the states of the last publication
2. send: changed documents and deletions, a bounded number of bytes in flight
3. confirm: check every future; set aside items that Kafka refuses, end the run where the broker is away
4. save: the confirmed states, also after an early end; sending a document again does no harm
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from etl.delivery import Sender
from etl.feeds import Entry, Feed
from etl.lineage import Lineage
from etl.published import History, State
from etl.rejects import RejectsFile
from etl.sources.items import ERASED, Reject
from twinline.clients.erasure_list import Erasures
from twinline.clients.kafka.connect import end_offsets, ensure_topics, make_producer
from twinline.clients.kafka.erasures import current_erasures
from twinline.clients.settings import Settings
from twinline.contract.documents.records import Deletion, Document
from twinline.contract.errors import DocumentError
from twinline.contract.principal import Principal

# After a good run nothing is in flight; after a failure an absent broker must not hold the process.
CLOSE_TIMEOUT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Mode:
    """How to publish.

    Args:
        everything: also documents that have not changed since the last publication.
        delete_missing: delete documents that have left the source.
    """

    everything: bool = False
    delete_missing: bool = False


@dataclass(slots=True)
class Report:
    """Counts of a feed's entries by outcome; `rejects_file` holds the rejects, if there are any."""

    sent: int = 0
    deleted: int = 0
    unchanged: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    rejects_file: str = ""
    snapshot: str = ""

    def summary(self, topic: str) -> str:
        """Return the counts as one line."""
        line = f"published {self.sent} documents to {topic}, {self.deleted} deletions, {self.unchanged} unchanged"
        if not self.rejected:
            return line
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.rejected.items())
        return f"{line}; set aside: {reasons}, in {self.rejects_file}"


def publish_documents(
    feed: Feed,
    settings: Settings,
    lineage: Lineage,
    principal: Principal,
    mode: Mode | None = None,
    progress: Callable[[Iterable[Entry]], Iterable[Entry]] = lambda entries: entries,
) -> Report:
    """Send a feed to the topic of documents and return the counts.

    Raises:
        NotAllowedError: a document is of a tenant or source that the caller may not publish to.
        TransientError: the broker does not answer; the states confirmed until then are saved.
    """
    ensure_topics(settings)
    folder = settings.snapshots / "published"
    history = History(folder, settings.kafka_address, settings.topic, end_offsets(settings, settings.topic))
    erasures = current_erasures(settings)
    report = Report(snapshot=feed.snapshot)
    with ExitStack() as at_exit:
        rejects = at_exit.enter_context(RejectsFile(folder / f"rejects-{_file_name(lineage.run_id)}.jsonl"))
        at_exit.callback(history.save)
        producer = make_producer(settings)
        at_exit.callback(producer.close, timeout=CLOSE_TIMEOUT_SECONDS)
        sender = Sender(producer, settings, history, rejects)
        for item, state in _changed(
            _not_erased(progress(feed.entries), erasures), feed, history, mode or Mode(), rejects, report
        ):
            principal.require("publish", tenant=_tenant(item), source=item.source)
            sender.send(item, state, lineage)
        sender.confirm_all()
    report.sent, report.deleted = sender.sent, sender.deleted
    report.rejected = rejects.by_reason()
    report.rejects_file = str(rejects.path) if report.rejected else ""
    return report


def _tenant(item: Document | Deletion) -> str | None:
    # A deletion does not say whose document it is, so that it reaches every tenant's.
    return item.tenant if isinstance(item, Document) else None


def _not_erased(entries: Iterable[Entry], erasures: Erasures) -> Iterator[Entry]:
    """Yield the entries; an erased document becomes a reject that neither names nor quotes it."""
    for entry in entries:
        if isinstance(entry, Document) and erasures.verdict(entry.source, entry.key) != "free":
            yield Reject(entry.source, ERASED, erasures.refusal(entry.source, entry.key))
        else:
            yield entry


def _changed(
    entries: Iterable[Entry], feed: Feed, history: History, mode: Mode, rejects: RejectsFile, report: Report
) -> Iterator[tuple[Document | Deletion, State | None]]:
    """Yield the items to send, each with its new state; set rejects aside and count unchanged documents."""
    present: set[str] = set()
    for entry in entries:
        if isinstance(entry, Reject):
            rejects.add(entry)
            # A file that cannot be read today is not missing from the source.
            present |= {entry.key, entry.place}
            continue
        if entry.source == feed.name:
            present.add(entry.key)
        try:
            state = State.of(entry) if isinstance(entry, Document) else None
        except DocumentError as exc:
            rejects.add(Reject(entry.source, exc.reason, str(exc), key=entry.key))
            continue
        if state is not None and not mode.everything and history.of(entry.source).states.get(entry.key) == state:
            report.unchanged += 1
        else:
            yield entry, state
    if mode.delete_missing and feed.name:
        for key, last in sorted(history.of(feed.name).states.items()):
            if key not in present:
                # A source with versions gives none to a missing document: the deletion takes the next one.
                yield Deletion(feed.name, key, None if last.version is None else last.version + 1), None


def _file_name(run_id: str) -> str:
    # Airflow's run ids hold colons and plus signs.
    return "".join(character if character.isalnum() or character in "-_." else "-" for character in run_id)
