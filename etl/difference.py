"""The difference between a feed and the last publication: what must be sent, and what is set aside on the way.

A document is set aside when another one has its name: in this run, or, from another place, in an earlier one. So is a state that
the consumer would refuse, since its versions are of another kind.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from etl.absence import Absence, beneath, plain_address
from etl.feeds import Entry, Feed
from etl.published import History, State
from etl.rejects import Where, duplicate
from etl.sources.items import Reject, excerpt
from twinline.contract.documents.records import Deletion, Document
from twinline.contract.errors import DocumentError, SettingsError

OTHER_PLACE: Final = "other_place"
# The source of all files that were published without a name, before folders gave their own.
FORMER_NAME: Final = "files"
Sent = tuple[Document | Deletion, State | None]


class Difference:
    """Compares a feed with its history, entry by entry.

    Args:
        everything: whether unchanged documents are sent too.
        moved: whether a person says that documents lie elsewhere now.
        set_aside: takes each reject, those of the feed too.
    """

    def __init__(
        self, feed: Feed, history: History, *, everything: bool, moved: bool, set_aside: Callable[[Reject], None]
    ) -> None:
        self.unchanged = 0
        self.replaced = 0
        self.deletions = 0
        self.unknown: list[str] = []
        self.known_before = len(history.of(feed.name).states) if feed.name else 0
        self._feed, self._history, self._everything, self._moved = feed, history, everything, moved
        self._absence = Absence(feed.roots, feed.uri, moved=moved, is_python=feed.kind == "pydocs")
        self._write = set_aside
        # Where a name was met in this run, and the state that it was sent with.
        self._met: dict[tuple[str, str], tuple[Where, State | None]] = {}
        self._kept: set[str] = set()

    def items(self, entries: Iterable[Entry]) -> Iterator[Sent]:
        """Yield each item to send with its new state."""
        for entry in entries:
            if isinstance(entry, Reject):
                self._set_aside(entry)
                continue
            try:
                item, state = self._deletion(entry) if isinstance(entry, Deletion) else self._document(entry)
            except DocumentError as exc:
                where = _where(entry)
                raw = entry.text if isinstance(entry, Document) and isinstance(entry.text, str) else ""
                self._set_aside(Reject(where.place, exc.reason, str(exc), where.line, excerpt(entry.key), excerpt(raw)))
                continue
            if item is not None:
                yield item, state

    def absent(self) -> tuple[list[Deletion], list[tuple[str, str, str]]]:
        """Return deletions of what has left the feed's source, and key, reason and fact of those without evidence."""
        gone, held = [], []
        for key, last in sorted(self._history.of(self._feed.name).states.items()):
            if (self._feed.name, key) in self._met or key in self._kept:
                continue
            if doubt := self._absence.doubt(last):
                held.append((key, *doubt))
            else:
                gone.append(Deletion(self._feed.name, key, _next_version(last)))
        return gone, held

    def known_twice(self) -> int:
        """Return how many documents of folders are known under the name that every folder had before, too."""
        if self._feed.name or not self._feed.claims or FORMER_NAME in self._feed.claims:
            return 0
        former = self._history.of(FORMER_NAME).states
        met = ((former.get(key), state) for (_, key), (_, state) in self._met.items())
        return sum(known is not None and state is not None and known.address in ("", state.address) for known, state in met)

    def sources(self) -> list[str]:
        """Return the names of the sources that were met."""
        return sorted({source for source, _ in self._met})

    def _set_aside(self, reject: Reject) -> None:
        self._absence.note(reject)
        self._kept |= {reject.key, reject.place}
        self._write(reject)

    def _document(self, document: Document) -> tuple[Document | None, State | None]:
        name, where = (document.source, document.key), _where(document)
        if (met := self._met.get(name)) is not None and not self._feed.is_stream:
            self._set_aside(duplicate(*name, met[0], where, document.text))
            return None, None
        state = State.of(document, self._address(document))
        known = self._known(*name)
        if known is not None:
            self._refuse_other_place(document, known, state)
            self._refuse_other_kind(document.place, document.version, known)
        self.replaced += met is not None and met[1] is not None
        self._met[name] = where, state
        if self._everything or known != state:
            return document, state
        self.unchanged += 1
        if met is None:
            self._history.learn(*name, state)
        return None, None

    def _deletion(self, deletion: Deletion) -> tuple[Deletion, None]:
        name, version = (deletion.source, deletion.key), deletion.version
        known, place = self._known(*name), f"deletion of [{deletion.source}, {deletion.key}]"
        if known is None and version is None and name not in self._met:
            self.unknown.append(deletion.key)
        if known is not None and version is None:
            # The consumer keeps one kind of version a key: a deletion without one would be a dead letter.
            deletion = replace(deletion, version=_next_version(known)).validate()
        elif known is not None:
            self._refuse_other_kind(place, version, known)
            # A program's older deletions may arrive late; a person wants this one to delete.
            if self._feed.is_order and version is not None and version <= (known.version or 0):
                raise DocumentError(
                    "old_version",
                    f"{place}: version {version} is not above {known.version}, under which the document was published, and would "
                    "delete nothing: say a higher one, or none",
                )
        self._met[name] = Where(""), None
        self.deletions += 1
        return deletion, None

    def _known(self, source: str, key: str) -> State | None:
        # A state of this run may be in flight, and not in the history yet.
        met = self._met.get((source, key))
        return met[1] if met else self._history.of(source).states.get(key)

    def _address(self, document: Document) -> str:
        if document.origin is None:
            return ""
        if self._feed.kind:
            return f"{self._feed.kind}:/{document.origin.place}"
        return plain_address(document.origin.uri) or document.origin.place

    def _refuse_other_place(self, document: Document, known: State, state: State) -> None:
        if self._moved or "" in (known.address, state.address) or known.address == state.address:
            return
        # What moved inside the folder that is read here as a whole is no other document.
        if beneath(known.address, self._feed.roots):
            return
        raise DocumentError(
            OTHER_PLACE,
            f"{document.place} was published from {known.address}, and now comes from {state.address}: publish this one under "
            "another name (--name, or NAME=KIND:LOCATION), or say --moved if it is the same document in a new place",
        )

    def _refuse_other_kind(self, place: str, version: int | None, known: State) -> None:
        if (version is None) == (known.version is None) or self._everything:
            return
        was = "without versions" if known.version is None else f"as version {known.version}"
        now = "has none" if version is None else f"has {version}"
        raise DocumentError(
            "mixed_versions",
            f"{place}: it was published {was}, and this one {now}: a document keeps one kind of version for good, and the "
            "consumer would set this one aside. Send versions always or never, take another key, or insist with --all",
        )


def check_claims(feed: Feed, history: History) -> None:
    """Refuse a source whose name belongs to another place: every document that is known of it came from elsewhere.

    Raises:
        SettingsError: names both places.
    """
    for source, root in feed.claims.items():
        known = {state.address for state in history.of(source).states.values()}
        # An unknown address may be this one.
        if known and "" not in known and not any(beneath(address, (root,)) for address in known):
            raise SettingsError(
                f"source {source!r} was published from {min(known)}, and {root} is another place: nothing was sent. Choose "
                "another name (--name, or NAME=KIND:LOCATION), or say --moved if it is the same source in a new place"
            )


def _where(item: Document | Deletion) -> Where:
    return Where.of(item.origin if isinstance(item, Document) else None, item.source)


def _next_version(last: State) -> int | None:
    """Return the version of a deletion: a source with versions gives none to a document that is gone."""
    return None if last.version is None else last.version + 1
