"""Publish: documents onto the log, each delivery confirmed; of a source published before, only the changes.

1. open: make the topics and load the states of the last publication; refuse a name that belongs to another place
2. send: changed documents and deletions, a bounded number of bytes in flight
3. delete, where asked: what has left the source, with evidence that its place was read whole
4. confirm: check every future; set aside items that Kafka refuses, end the run where the broker is away
5. save: the confirmed states, also after an early end; sending a document again does no harm
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from etl.delivery import Sender
from etl.difference import FORMER_NAME, OTHER_PLACE, Difference, Sent, check_claims
from etl.feeds import Entry, Feed
from etl.lineage import Lineage
from etl.params import IngestParams
from etl.published import History
from etl.rejects import RejectsFile, refuse_if_broken
from etl.sources.items import ERASED, Reject
from twinline.clients.erasure_list import Erasures
from twinline.clients.kafka.connect import end_offsets, ensure_topics, make_producer
from twinline.clients.kafka.erasures import current_erasures
from twinline.clients.settings import Settings
from twinline.contract.documents.records import Document
from twinline.contract.errors import ContractError
from twinline.contract.principal import Principal

# After a good run nothing is in flight; after a failure an absent broker must not hold the process.
CLOSE_TIMEOUT_SECONDS = 5
# More deletions by absence than both need a person's word, by their number.
DELETE_SHARE: Final = 0.25
DELETE_COUNT: Final = 10


@dataclass(frozen=True, slots=True)
class Mode:
    """How to publish.

    Args:
        everything: also documents that have not changed since the last publication.
        delete_missing: delete documents that have left the source.
        yes_delete: the number of such deletions that a person has agreed to.
        moved: documents lie in another place than when they were published last.
        dry_run: send nothing, and remember nothing.
        max_reject_share: the setting `ingest.max_reject_share`.
    """

    everything: bool = False
    delete_missing: bool = False
    yes_delete: int = 0
    moved: bool = False
    dry_run: bool = False
    max_reject_share: float = IngestParams().max_reject_share


@dataclass(slots=True)
class Report:
    """Counts of a feed's entries by outcome; `rejects_file` holds the rejects, if there are any.

    Args:
        replaced: documents of a stream that stood in it before.
        held: deletions by absence that were held back, by reason.
        refused_deletions: deletions by absence that were too many of the `known` documents of the source.
        facts: sentences for a person: the first of each kind of trouble.
        fault: why the command must fail, although the rest was published; empty: all is well.
    """

    sent: int = 0
    deleted: int = 0
    unchanged: int = 0
    replaced: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    rejects_file: str = ""
    held: dict[str, int] = field(default_factory=dict)
    refused_deletions: int = 0
    known: int = 0
    facts: list[str] = field(default_factory=list)
    snapshot: str = ""
    sources: list[str] = field(default_factory=list)
    is_dry: bool = False
    fault: str = ""

    def summary(self, topic: str) -> str:
        """Return the counts as one line, and a line for each fact."""
        verb = "would publish" if self.is_dry else "published"
        line = f"{verb} {self.sent} documents to {topic}, {self.deleted} deletions, {self.unchanged} unchanged"
        if self.sources:
            more = f" and {len(self.sources) - 5} more" if len(self.sources) > 5 else ""
            line += f"; source {', '.join(self.sources[:5])}{more}"
        if self.replaced:
            line += f"; {self.replaced} came again later in the stream"
        if self.held:
            line += f"; deletions held back: {_listed(self.held)}"
        if self.rejected:
            line += f"; set aside: {_listed(self.rejected)}, in {self.rejects_file}"
        return "\n".join([line, *self.facts])


def publish_documents(
    feed: Feed,
    settings: Settings,
    lineage: Lineage,
    principal: Principal,
    mode: Mode | None = None,
    progress: Callable[[Iterable[Entry]], Iterable[Entry]] = lambda entries: entries,
    tell: Callable[[str], None] = lambda line: None,
) -> Report:
    """Send a feed to the topic of documents and return the counts.

    Args:
        tell: takes a line for each item that a dry run would send.

    Raises:
        SettingsError: the feed's name belongs to another place; nothing was sent.
        NotAllowedError: a document is of a tenant or source that the caller may not publish to.
        TransientError: the broker does not answer; the states confirmed until then are saved.
    """
    mode = mode or Mode()
    if not mode.dry_run:
        ensure_topics(settings)
    folder = settings.snapshots / "published"
    history = History(folder, settings.kafka_address, settings.topic, end_offsets(settings, settings.topic))
    if not mode.moved:
        check_claims(feed, history)
    erasures = current_erasures(settings)
    with ExitStack() as at_exit:
        rejects = at_exit.enter_context(RejectsFile(folder / f"rejects-{_file_name(lineage.run_id)}.jsonl"))
        difference = Difference(feed, history, everything=mode.everything, moved=mode.moved, set_aside=rejects.add)
        report = Report(snapshot=feed.snapshot, known=difference.known_before, is_dry=mode.dry_run)
        items = _allowed(_all_items(difference, _not_erased(progress(feed.entries), erasures), mode, report), principal)
        if mode.dry_run:
            _tell(items, tell, report)
        else:
            at_exit.callback(history.save)
            producer = make_producer(settings)
            at_exit.callback(producer.close, timeout=CLOSE_TIMEOUT_SECONDS)
            sender = Sender(producer, settings, history, rejects)
            for item, state in items:
                sender.send(item, state, lineage)
            sender.confirm_all()
            report.sent, report.deleted = sender.sent, sender.deleted
    _conclude(report, difference, rejects, feed, mode)
    return report


def _all_items(difference: Difference, entries: Iterable[Entry], mode: Mode, report: Report) -> Iterator[Sent]:
    """Yield what has changed, and then the deletions by absence, if there are not too many of them."""
    yield from difference.items(entries)
    if not mode.delete_missing:
        return
    gone, held = difference.absent()
    report.held = dict(sorted(Counter(reason for _, reason, _ in held).items()))
    for reason in report.held:
        key, fact = next((key, fact) for key, found, fact in held if found == reason)
        report.facts.append(f"{reason}: {key} was not deleted, {fact}")
    if len(gone) > max(DELETE_COUNT, DELETE_SHARE * report.known, mode.yes_delete):
        report.refused_deletions = len(gone)
        return
    yield from ((deletion, None) for deletion in gone)


def _allowed(items: Iterable[Sent], principal: Principal) -> Iterator[Sent]:
    for item, state in items:
        # A deletion does not say whose document it is, so that it reaches every tenant's.
        principal.require("publish", tenant=item.tenant if isinstance(item, Document) else None, source=item.source)
        yield item, state


def _tell(items: Iterable[Sent], tell: Callable[[str], None], report: Report) -> None:
    for item, state in items:
        if isinstance(item, Document):
            report.sent += 1
            tell(f"send [{item.source}, {item.key}]" + (f" from {state.address}" if state and state.address else ""))
        else:
            report.deleted += 1
            tell(f"delete [{item.source}, {item.key}]")


def _conclude(report: Report, difference: Difference, rejects: RejectsFile, feed: Feed, mode: Mode) -> None:
    """Complete the report: rejects, facts, and the fault for which the command must fail."""
    report.unchanged, report.replaced, report.sources = difference.unchanged, difference.replaced, difference.sources()
    report.rejected = rejects.by_reason()
    report.rejects_file = str(rejects.path) if report.rejected else ""
    report.facts = [*feed.notes, *rejects.facts(), *report.facts]
    if twice := difference.known_twice():
        report.facts.append(
            f"{twice} of these documents are also published as source {FORMER_NAME!r}, as older versions named all files, and a "
            f"search finds them twice: go on with --name {FORMER_NAME}, or delete those with --name {FORMER_NAME} --delete KEY"
        )
    if difference.unknown:
        report.facts.append(
            f"{len(difference.unknown)} deleted documents were not published from here, {difference.unknown[0]!r} the first: if "
            "they have versions, the consumer sets such a deletion aside (mixed_versions). Give it one above the last: "
            'say --version N, or send the field "version"'
        )
    faults = []
    if report.refused_deletions:
        rest = "would be published" if report.is_dry else "was published"
        faults.append(
            f"{report.refused_deletions} of the {report.known} documents of {feed.name} have left the source, more than "
            f"{DELETE_COUNT} and more than {DELETE_SHARE:.0%}: no such document is deleted, the rest {rest}. Look at the source; "
            f"if it is right, say --yes-delete {report.refused_deletions}"
        )
    if OTHER_PLACE in report.rejected:
        faults.append(f"{report.rejected[OTHER_PLACE]} documents have the name of others: {rejects.firsts[OTHER_PLACE].detail}")
    if rejects.first_broken:
        taken = report.sent + report.unchanged + difference.deletions
        try:
            refuse_if_broken(feed.uri or feed.name, taken, rejects, rejects.path, mode.max_reject_share)
        except ContractError as exc:
            faults.append(str(exc))
    report.fault = "; ".join(faults)


def _not_erased(entries: Iterable[Entry], erasures: Erasures) -> Iterator[Entry]:
    """Yield the entries; an erased document becomes a reject that neither names nor quotes it."""
    for entry in entries:
        if isinstance(entry, Document) and erasures.verdict(entry.source, entry.key) != "free":
            yield Reject(entry.source, ERASED, erasures.refusal(entry.source, entry.key))
        else:
            yield entry


def _file_name(run_id: str) -> str:
    # Airflow's run ids hold colons and plus signs.
    return "".join(character if character.isalnum() or character in "-_." else "-" for character in run_id)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
