"""What a source yields: documents, the queries and judgements a data set brings, and what had to be set aside."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Deletion, Document, Origin
from twinline.contract.errors import DocumentError

if TYPE_CHECKING:
    from etl.source_state import Remembered

MAX_RAW_CHARS = 2_000

# The reason of a document that was erased: it stays out, and its reject quotes nothing of it.
ERASED = "erased"
# A file of a kind that no reader knows was never a document: kept as a reject, but no sign that the source is broken.
NOT_A_DOCUMENT = frozenset({"unsupported_format", ERASED})


@dataclass(frozen=True, slots=True)
class Reject:
    """One thing that could not become a document, where it stands and why.

    Args:
        place: the file, or the topic and partition, that holds it.
        reason: a short slug that rejects are counted by, such as `no_text`.
        detail: what a person needs in order to repair it.
        line: line, row or offset inside the place, counted as an editor counts; None where the whole place is meant.
        key: the document's key, where it could be read.
        raw: the beginning of what was found there.
    """

    place: str
    reason: str
    detail: str
    line: int | None = None
    key: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A query of a data set, in one of its splits."""

    query_id: str
    text: str
    split: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """A document that a person judged for a query; a grade above 0 means relevant."""

    query_id: str
    source: str
    key: str
    grade: int
    split: str


@dataclass(frozen=True, slots=True)
class Logged:
    """A document or deletion with its position in a log, which is its version where it brings none."""

    item: Document | Deletion
    topic: str
    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Made:
    """A document with the mark of what it was made of: when the same mark comes again, it need not be made again."""

    document: Document
    mark: bytes


@dataclass(frozen=True, slots=True)
class Same:
    """A document that is remembered, by its row in the last snapshot; `line` is where it stands now."""

    row: int
    line: int | None = None


Item: TypeAlias = Document | Logged | Made | Same | Query | Judgement | Reject


class Source(Protocol):
    """Where documents come from.

    `name` becomes the documents' `source`; `uri` says where they were read.
    """

    name: str
    uri: str

    def items(self) -> Iterator[Item]:
        """Yield everything found, in a fixed order; documents are valid, what is broken is a Reject, never left out."""
        ...

    def provenance(self) -> Mapping[str, JSON]:
        """Return what a snapshot records about what was read: known only after `items` has run to its end."""
        ...


@runtime_checkable
class Selective(Protocol):
    """A source that can leave out what it gave before."""

    def items_since(self, remembered: "Remembered") -> Iterator[Item]:
        """Yield what `items` yields, documents that are remembered as `Same`, new ones that may be remembered as `Made`."""
        ...


def excerpt(raw: bytes | str) -> str:
    """Return the beginning of something broken, in a form that every table can hold."""
    if isinstance(raw, bytes):
        return raw[:MAX_RAW_CHARS].decode("utf-8", errors="backslashreplace")
    return raw[:MAX_RAW_CHARS].encode("utf-8", errors="backslashreplace").decode()


def checked(document: Document, place: str, line: int | None = None) -> Document | Reject:
    """Return the document with its place, if the contract takes it, and otherwise the reject that says why and where."""
    try:
        return replace(document.validate(), origin=Origin(place, line))
    except DocumentError as exc:
        key = document.key if isinstance(document.key, str) else ""
        return Reject(place, exc.reason, str(exc), line, excerpt(key), excerpt(str(document.text)))
