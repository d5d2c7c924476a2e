"""The child: it calls the reader functions for one request after the other.

    python -m etl.reading FD MODULE...

FD is a connected socket to the parent; the modules have READERS or TABLES. A request names what to do:

    document    bytes follow; the answer is title and text
    table       the descriptor of an open file follows; the answers are portions of rows
    line        bytes of one line of JSON follow; the answer is its object

What a reader raises is an answer too. The parent ends a child that answers no more.
"""

import importlib
import json
import socket
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

from etl.reading.confine import confine
from etl.reading.frames import BadFrameError, framed, receive, receive_bytes, reject_form, send
from etl.sources.compression import open_unpacked, unpacked, unpacked_name
from etl.sources.items import Reject
from twinline.contract.documents.records import MAX_TEXT_BYTES, MAX_VERSION
from twinline.contract.errors import DocumentError

# A request holds no content.
_MAX_REQUEST_BYTES: Final = 1 << 20
# Rows travel in portions: few enough for a slow parent, many enough for a fast one.
_PORTION_ROWS: Final = 256
_PORTION_BYTES: Final = 1 << 20
# Beyond any document; a frame has room for it in any alphabet.
_MAX_ROW_CHARS: Final = 2 * MAX_TEXT_BYTES


class Service:
    """Answers requests on a socket until it closes."""

    def __init__(self, connection: socket.socket, modules: list[str]) -> None:
        self._connection = connection
        self._modules = modules

    def serve(self) -> None:
        """Answer one request after the other."""
        actions: Mapping[str, Callable[[dict[str, Any]], None]] = {
            "document": self._document,
            "table": self._table,
            "line": self._line,
        }
        while True:
            try:
                request = receive(self._connection, _MAX_REQUEST_BYTES)
            except BadFrameError:
                return  # the parent has gone
            try:
                actions[request["do"]](request)
            except DocumentError as exc:
                send(self._connection, {"refused": [exc.reason, str(exc)]})
            # SystemExit and KeyboardInterrupt as well: the reader of a file decides nothing but the file.
            except BaseException as exc:  # noqa: BLE001
                send(self._connection, {"raised": [type(exc).__name__, _said(exc)]})

    def _document(self, request: dict[str, Any]) -> None:
        data = unpacked(receive_bytes(self._connection, request["size"]), request["name"], request["limit"])
        title, text = self._reader("READERS", request["ending"])(data, unpacked_name(request["name"]))
        if len(title) + len(text) > request["budget"]:
            raise _over_budget(request)
        send(self._connection, {"document": [title, text]})

    def _table(self, request: dict[str, Any]) -> None:
        _, files, _, _ = socket.recv_fds(self._connection, 1, 1)
        with open(files[0], "rb") as stored:  # noqa: PTH123 (a descriptor)
            stored.seek(0)
            stream = open_unpacked(stored, request["name"])
            portion = _Portion(self._connection, request)
            failure: BaseException | None = None
            try:
                for row in self._reader("TABLES", request["ending"])(stream, unpacked_name(request["name"])):
                    portion.add(row)
            except BaseException as exc:  # noqa: BLE001 (raised again below)
                failure = exc.with_traceback(None)  # which holds whatever has filled the memory
            portion.flush()  # rows before the place where a file breaks off count
            if failure is not None:
                raise failure
        send(self._connection, {"end": True})

    def _line(self, request: dict[str, Any]) -> None:
        from etl.sources.lines import parse_line

        parsed = parse_line(receive_bytes(self._connection, request["size"]), request["name"], request["number"])
        send(self._connection, reject_form(parsed) if isinstance(parsed, Reject) else {"object": parsed[1]})

    def _reader(self, table: str, ending: str) -> Callable[..., Any]:
        """Return the reader of an ending; its module is imported now, so that Markdown does not wait for Parquet."""
        for name in self._modules:
            if reader := getattr(importlib.import_module(name), table, {}).get(ending):
                return cast(Callable[..., Any], reader)
        raise DocumentError("unsupported_format", f"no reader for {ending}")


class _Portion:
    """Rows on their way to the parent, a frame of them at a time, up to the budget."""

    def __init__(self, connection: socket.socket, request: dict[str, Any]) -> None:
        self._connection = connection
        self._request = request
        self._left = request["budget"]
        self._held: list[str] = []
        self._size = 0

    def add(self, row: tuple[int, Any] | Reject) -> None:
        form = _form(row)
        self._left -= len(form)
        if self._left < 0:
            raise _over_budget(self._request)
        self._held.append(form)
        self._size += len(form)
        if len(self._held) == _PORTION_ROWS or self._size > _PORTION_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._held:
            self._connection.sendall(framed('{"rows":[' + ",".join(self._held) + "]}"))
            self._held, self._size = [], 0


def _form(row: tuple[int, Any] | Reject) -> str:
    if isinstance(row, Reject):
        return json.dumps(reject_form(row), ensure_ascii=False)
    try:
        form = json.dumps(row, ensure_ascii=False, default=_plain)
        if len(form) <= _MAX_ROW_CHARS:
            return form
        reject = Reject("", "too_large", f"{len(form)} characters, the limit is {_MAX_ROW_CHARS}: split the row", row[0])
    except UnicodeDecodeError as exc:
        reject = Reject("", "invalid_utf8", f"the row holds bytes that are not UTF-8: {exc}", row[0])
    return json.dumps(reject_form(reject), ensure_ascii=False)


def _plain(value: Any) -> int | str:
    """Return a value that JSON does not know: bytes as UTF-8, a whole decimal as an integer, dates as they are written."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Decimal) and abs(value) <= MAX_VERSION and value == value.to_integral_value():
        return int(value)
    return str(value)


def _over_budget(request: dict[str, Any]) -> DocumentError:
    detail = f"{request['name']}: more than {request['budget']} characters come out of {request['size']} bytes"
    return DocumentError("output_too_large", f"{detail}: is it damaged, or made to fill memory?")


def _said(exc: BaseException) -> str:
    try:
        return str(exc)[:500]
    except Exception:  # noqa: BLE001 (an error whose text cannot be made is still an error of the file)
        return "its message cannot be shown"


def main() -> None:
    """Serve the parent at the other end of the socket."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    modules = sys.argv[2:]
    ours = Path(__file__).resolve().parents[2]
    missing = confine({ours / name.partition(".")[0] for name in ("etl", "twinline", *modules)})
    send(connection, {"ready": missing})
    Service(connection, modules).serve()


if __name__ == "__main__":
    main()
