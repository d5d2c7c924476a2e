"""The parent's side of reading: requests to a child process, which is replaced after a failure.

Every way to fail ends as a DocumentError, for one reject; the next request finds a new child:

    reader_failed        the reader raised, or its answer is none
    reader_crashed       the child died, by a signal or by leaving
    out_of_memory        the reader wanted more memory than its input may take
    too_slow             it computed for longer than the limit, or waited for four times as long
    output_too_large     its title and text are larger than the budget of its input
"""

import atexit
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from etl.reading.child import Child, CrashedError, Limits, SlowError
from etl.reading.frames import BadFrameError, reject_of
from etl.sources.compression import unpacked_name
from etl.sources.items import Reject
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import MAX_TEXT_BYTES
from twinline.contract.errors import DocumentError

MODULES: Final = ("etl.sources.formats", "etl.sources.tables")

# A compressed document may cost what it unpacks to; text shrinks to a tenth, or a little less.
_USUAL_TIMES: Final = 20


class Reader:
    """Reads files in a child process, which starts with the first request; close it at the end.

    Args:
        modules: modules with READERS and TABLES.
        limits: the same limits for every request, instead of those by size.
    """

    def __init__(self, modules: Sequence[str] = MODULES, limits: Limits | None = None) -> None:
        self._modules = modules
        self._limits = limits
        self._child: Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        self._drop()

    def document(self, data: bytes, name: str, ending: str, limit: int = MAX_TEXT_BYTES) -> tuple[str, str]:
        """Return title and text of a file's bytes.

        Args:
            limit: bytes of a compressed file once it is unpacked.

        Raises:
            DocumentError: the file cannot be read.
        """
        size = len(data) if unpacked_name(name) == name else min(limit, _USUAL_TIMES * len(data))
        limits = self._limits or Limits.of_document(size)
        asked = {"do": "document", "ending": ending, "name": name, "budget": limits.output_chars, "limit": limit}
        answer = self._ask(asked, data, limits, name)
        match answer.get("document"):
            case [str(title), str(text)] if len(title) + len(text) <= limits.output_chars:
                return title, text
        raise self._broken(name, "its answer has no title and text")

    def line(self, data: bytes, name: str, number: int) -> tuple[int, Mapping[str, JSON]] | Reject:
        """Return number and object of a line of JSON, or its reject."""
        try:
            answer = self._ask({"do": "line", "name": name, "number": number}, data, Limits.of_document(len(data)), name)
            match answer:
                case {"object": dict(found)}:
                    return number, found
                case {"reject": form}:
                    return reject_of(form, name)
            raise self._broken(name, "its answer has no object")
        except BadFrameError as exc:
            return Reject(name, "reader_failed", f"{name}: {exc}", number)
        except DocumentError as exc:
            return Reject(name, exc.reason, str(exc), number)

    def rows(self, stream: BinaryIO, size: int, name: str, ending: str) -> Iterator[tuple[int, Any] | Reject]:
        """Yield (line number, row) or a reject for every row of a table; what ends it early is its last reject.

        Args:
            stream: a local file, at its beginning.
            size: of the file, in bytes.
        """
        limits = self._limits or Limits.of_table(size)
        asked = {"do": "table", "ending": ending, "name": name, "size": size, "budget": limits.output_chars}
        finished = False
        try:
            child = self._ready()
            child.permit(limits)
            child.send(asked)
            child.send_descriptor(stream.fileno())
            while "end" not in (answer := self._answer(child, limits, name)):
                for row in _rows(answer):
                    yield reject_of(row["reject"], name) if isinstance(row, dict) else row
            finished = True
        except DocumentError as exc:
            finished = True
            yield Reject(name, exc.reason, str(exc))
        except CrashedError as exc:
            yield Reject(name, "reader_crashed", f"{name}: {exc}")
        except BadFrameError as exc:
            yield Reject(name, "reader_failed", f"{name}: {exc}")
        finally:
            if not finished:
                self._drop()  # it is still sending rows

    def _ask(self, asked: dict[str, Any], data: bytes, limits: Limits, name: str) -> dict[str, Any]:
        while True:
            child = self._ready()
            try:
                child.permit(limits)
                child.send({**asked, "size": len(data)}, data)
                return self._answer(child, limits, name)
            except CrashedError as exc:
                self._drop()
                # The harm may be of a file before: the end of a child at its first file is that file's.
                if child.files == 1:
                    raise DocumentError("reader_crashed", f"{name}: {exc}") from exc

    def _answer(self, child: Child, limits: Limits, name: str) -> dict[str, Any]:
        """Return the child's next answer; a child that cannot be trusted to go on is ended."""
        try:
            answer = child.receive(limits)
        except SlowError as exc:
            self._drop()
            raise DocumentError("too_slow", f"{name}: {exc}") from exc
        except BadFrameError as exc:
            raise self._broken(name, str(exc)) from exc
        match answer:
            case {"refused": [str(reason), str(detail)]}:
                raise DocumentError(reason[:100], detail)
            case {"raised": ["MemoryError", str()]}:
                self._drop()
                size = limits.memory_bytes >> 20
                raise DocumentError("out_of_memory", f"{name}: MemoryError: it takes more than {size} MiB to read it")
            case {"raised": [str(kind), str(detail)]}:
                raise DocumentError("reader_failed", f"{name}: {kind}: {detail}")
            case dict():
                return answer
        raise self._broken(name, "its answer is no object")

    def _broken(self, name: str, how: str) -> DocumentError:
        self._drop()
        return DocumentError("reader_failed", f"{name}: {how}")

    def _ready(self) -> Child:
        if self._child is not None and self._child.is_spent():
            self._drop()
        if self._child is None:
            self._child = Child(self._modules)
        return self._child

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


_idle: Final[list[Reader]] = []


@contextmanager
def lent_reader() -> Iterator[Reader]:
    """Lend a reader of this process, whose child is kept for the next source: a start costs as much as many small files."""
    reader = _idle.pop() if _idle else Reader()
    try:
        yield reader
    finally:
        _idle.append(reader)


@atexit.register
def _end_idle() -> None:
    for reader in _idle:
        reader.close()


def _rows(answer: dict[str, Any]) -> Iterator[Any]:
    rows = answer.get("rows")
    if not isinstance(rows, list):
        raise BadFrameError("its answer has no rows")
    for row in rows:
        match row:
            case [int(), dict()]:
                yield tuple(row)
            case {"reject": _}:
                yield row
            case _:
                raise BadFrameError("a row that is none")
