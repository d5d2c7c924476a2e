"""The items of a source: documents, the queries and judgements of a data set, and rejects."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, TypeVar

from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Deletion, Document, Origin
from twinline.contract.errors import DocumentError, TwinlineError

MAX_RAW_CHARS = 2_000

# The reason of an erased document: it stays out, and its reject quotes nothing of it.
ERASED = "erased"
# A file without a reader, and a pipe, was never a document: it is a reject, but no sign of a broken source.
NOT_A_DOCUMENT = frozenset({"unsupported_format", "not_a_file", ERASED})


@dataclass(frozen=True, slots=True)
class Reject:
    """Content that could not become a document, with its place and the reason.

    Args:
        place: the file, or the topic and partition, that holds it.
        reason: a short slug by which rejects are counted, such as `no_text`.
        detail: the facts that a person needs for a repair.
        line: line, row or offset inside the place, counted as an editor counts; None for the whole place.
        key: the document's key, where it could be read.
        raw: the beginning of the content.
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
    """A person's grade of a document for a query; above 0 means relevant."""

    query_id: str
    source: str
    key: str
    grade: int
    split: str


@dataclass(frozen=True, slots=True)
class Logged:
    """A document or deletion with its position in a log; the position is its version where it has no explicit one."""

    item: Document | Deletion
    topic: str
    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Made:
    """A document with the mark of its raw content: while the mark stays, the document need not be made again."""

    document: Document
    mark: bytes


@dataclass(frozen=True, slots=True)
class Same:
    """An unchanged document, by its row in the last snapshot; `line` is its place now."""

    row: int
    line: int | None = None


Item: TypeAlias = Document | Logged | Made | Same | Query | Judgement | Reject
T = TypeVar("T")


class Source(Protocol):
    """The origin of documents.

    `name` becomes the documents' `source`; `uri` is its address.
    """

    name: str
    uri: str

    def items(self) -> Iterator[Item]:
        """Yield every item in a fixed order; documents are valid, and broken content is a Reject, never left out."""
        ...

    def provenance(self) -> Mapping[str, JSON]:
        """Return the facts of the reading for the snapshot's record, once `items` has run to its end."""
        ...


def guarded(place: str, items: Iterator[T]) -> Iterator[T | Reject]:
    """Yield the items of one file; whatever ends its reading is one reject, and the next file is read.

    Libraries that read other people's bytes raise errors of any kind. A defect of ours becomes a reject as well: its detail
    names the type.
    """
    try:
        yield from items
    except DocumentError as exc:
        yield Reject(place, exc.reason, str(exc))
    except TwinlineError:
        raise  # of the whole run: the state is damaged, the process that reads files does not start
    except Exception as exc:  # noqa: BLE001
        yield Reject(place, "unreadable", f"{place}: {type(exc).__name__}: {excerpt(str(exc))}")


def excerpt(raw: bytes | str) -> str:
    """Return the beginning of broken content, in a form that every table can hold."""
    if isinstance(raw, bytes):
        return raw[:MAX_RAW_CHARS].decode("utf-8", errors="backslashreplace")
    return raw[:MAX_RAW_CHARS].encode("utf-8", errors="backslashreplace").decode()


def checked(document: Document, place: str, line: int | None = None) -> Document | Reject:
    """Return the document with its place, or a reject with place and reason if the contract refuses it."""
    try:
        return replace(document.validate(), origin=Origin(place, line))
    except DocumentError as exc:
        key = document.key if isinstance(document.key, str) else ""
        return Reject(place, exc.reason, str(exc), line, excerpt(key), excerpt(str(document.text)))
