"""Publish: documents onto the log, each delivery confirmed, and of a source published before only what changed.

1. open: the topics are there, and we know what was published before
2. send: documents that changed and deletions, a bounded number of bytes under way at a time
3. confirm: every future is looked at; what Kafka refuses is set aside, a broker that is away ends the run
4. remember: what was confirmed, also when the run ended early; sending it again would do no harm
"""

import json
import subprocess
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from clients.kafka import end_offsets, ensure_topics, kafka_errors, make_producer
from clients.settings import CHECKOUT, Settings
from contract.errors import DocumentError
from contract.records import Deletion, Document, encode_key, encode_value, version_header
from etl.feeds import Entry, Feed
from etl.published import Published, State, load_published
from etl.sources.items import Reject

MAX_BYTES_UNDER_WAY = 16 * 1024 * 1024
CONFIRM_TIMEOUT_SECONDS = 150  # the producer itself gives a message up after 120


@dataclass(frozen=True, slots=True)
class Mode:
    """How to publish.

    Args:
        everything: also what has not changed since it was last published.
        delete_missing: delete what this source held before and no longer holds.
    """

    everything: bool = False
    delete_missing: bool = False


@dataclass(slots=True)
class Report:
    """What became of a feed's entries; `rejects_file` holds the rejects, if there are any."""

    sent: int = 0
    deleted: int = 0
    unchanged: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    rejects_file: str = ""
    snapshot: str = ""

    def summary(self, topic: str) -> str:
        """Return one line that says all of it."""
        line = f"published {self.sent} documents to {topic}, {self.deleted} deletions, {self.unchanged} unchanged"
        if not self.rejected:
            return line
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.rejected.items())
        return f"{line}; set aside: {reasons}, in {self.rejects_file}"


@dataclass(frozen=True, slots=True)
class Lineage:
    """What every message's headers say of where it comes from."""

    run_id: str
    git_revision: str
    producer: str

    def headers(self, content_sha256: str | None = None) -> list[tuple[str, bytes]]:
        """Return the headers of one message; what is not known is left out."""
        values = {"source_sha256": content_sha256, **asdict(self)}
        return [(name, value.encode()) for name, value in values.items() if value]


def find_lineage(environment: Mapping[str, str]) -> Lineage:
    """Return the lineage of this process: Airflow's run or the time, the checkout's revision, the package's version."""
    run_id = environment.get("AIRFLOW_CTX_DAG_RUN_ID") or datetime.now(UTC).strftime("manual__%Y-%m-%dT%H:%M:%S.%fZ")
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    revision = asked.stdout.strip() if asked.returncode == 0 else ""
    return Lineage(run_id, revision, f"twinline {metadata.version('twinline')}")


def publish_documents(
    feed: Feed,
    settings: Settings,
    lineage: Lineage,
    mode: Mode | None = None,
    progress: Callable[[Iterable[Entry]], Iterable[Entry]] = lambda entries: entries,
) -> Report:
    """Send a feed to the topic of documents and return what became of it.

    Raises:
        TransientError: the broker is not there or went away; what was confirmed until then is remembered.
    """
    ensure_topics(settings)
    ends = end_offsets(settings, settings.topic)
    history = _History(settings, ends)
    rejects: list[Reject] = []
    report = Report(snapshot=feed.snapshot)
    with ExitStack() as at_exit:
        at_exit.callback(history.save)
        producer = at_exit.enter_context(closing(make_producer(settings)))
        sender = _Sender(producer, settings, history, rejects, report)
        for item, state in _changed(progress(feed.entries), feed, history, mode or Mode(), rejects, report):
            sender.send(item, state, lineage)
        sender.confirm_all()
    report.rejected = dict(sorted(Counter(reject.reason for reject in rejects).items()))
    if rejects:
        report.rejects_file = str(_write_rejects(rejects, settings.snapshots / "published", lineage.run_id))
    return report


def _changed(
    entries: Iterable[Entry], feed: Feed, history: "_History", mode: Mode, rejects: list[Reject], report: Report
) -> Iterator[tuple[Document | Deletion, State | None]]:
    """Yield what is to be sent and the state it leads to; set rejects aside and count what has not changed."""
    present: set[str] = set()
    for entry in entries:
        if isinstance(entry, Reject):
            rejects.append(entry)
            # A file that cannot be read today has not vanished.
            present |= {entry.key, entry.place}
            continue
        if entry.source == feed.name:
            present.add(entry.key)
        try:
            state = State.of(entry) if isinstance(entry, Document) else None
        except DocumentError as exc:
            rejects.append(Reject(entry.source, exc.reason, str(exc), key=entry.key))
            continue
        if state is not None and not mode.everything and history.of(entry.source).states.get(entry.key) == state:
            report.unchanged += 1
        else:
            yield entry, state
    if mode.delete_missing and feed.name:
        for key, last in sorted(history.of(feed.name).states.items()):
            if key not in present:
                # A source that numbers its versions has none for what is gone: the next one after the last.
                yield Deletion(feed.name, key, None if last.version is None else last.version + 1), None


class _History:
    """What was published, for every source that is met."""

    def __init__(self, settings: Settings, ends: Mapping[int, int]) -> None:
        self._settings = settings
        self._ends = ends
        self._sources: dict[str, Published] = {}

    def of(self, source: str) -> Published:
        if source not in self._sources:
            folder, settings = self._settings.snapshots / "published", self._settings
            self._sources[source] = load_published(folder, settings.kafka_address, settings.topic, source, self._ends)
        return self._sources[source]

    def confirm(self, item: Document | Deletion, state: State | None) -> None:
        states = self.of(item.source).states
        if state is None:
            states.pop(item.key, None)
        else:
            states[item.key] = state

    def save(self) -> None:
        # The ends from before the run: the log can only have grown since.
        for published in self._sources.values():
            published.save(self._ends)


class _Sender:
    """Keeps a bounded number of bytes under way and looks at every future, in order."""

    def __init__(self, producer: Any, settings: Settings, history: _History, rejects: list[Reject], report: Report) -> None:
        self._producer = producer
        self._settings = settings
        self._history = history
        self._rejects = rejects
        self._report = report
        self._under_way: deque[tuple[Document | Deletion, State | None, int, Any]] = deque()
        self._bytes = 0

    def send(self, item: Document | Deletion, state: State | None, lineage: Lineage) -> None:
        key = encode_key(item.source, item.key)
        value = encode_value(item) if isinstance(item, Document) else None
        headers = lineage.headers(state.content_hash if state else None)
        if isinstance(item, Deletion):
            headers += version_header(item)
        try:
            with kafka_errors(self._settings):
                future = self._producer.send(self._settings.topic, key=key, value=value, headers=headers)
        except DocumentError as exc:
            self._set_aside(item, exc)
            return
        size = len(key) + len(value or b"")
        self._under_way.append((item, state, size, future))
        self._bytes += size
        while self._bytes > MAX_BYTES_UNDER_WAY or (self._under_way and self._under_way[0][3].is_done):
            self._confirm_one()

    def confirm_all(self) -> None:
        while self._under_way:
            self._confirm_one()

    def _confirm_one(self) -> None:
        item, state, size, future = self._under_way.popleft()
        self._bytes -= size
        try:
            with kafka_errors(self._settings):
                future.get(timeout=CONFIRM_TIMEOUT_SECONDS)
        except DocumentError as exc:
            self._set_aside(item, exc)
            return
        self._history.confirm(item, state)
        if isinstance(item, Document):
            self._report.sent += 1
        else:
            self._report.deleted += 1

    def _set_aside(self, item: Document | Deletion, error: DocumentError) -> None:
        self._rejects.append(Reject(item.source, error.reason, str(error), key=item.key))


def _write_rejects(rejects: list[Reject], folder: Path, run_id: str) -> Path:
    """Keep the rejects of a run as JSON Lines, and return the file."""
    safe = "".join(character if character.isalnum() or character in "-_." else "-" for character in run_id)
    path = folder / f"rejects-{safe}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(asdict(reject), ensure_ascii=False) + "\n" for reject in rejects)
    return path
