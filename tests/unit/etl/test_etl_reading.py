"""The process that reads files: whatever a reader does is one reject, and the next file is read."""

import gzip
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from etl.reading.child import Limits
from etl.reading.reader import MODULES, Reader
from etl.sources.items import Reject
from twinline.contract.errors import ContractError, DocumentError

PLANTED = ("tests.unit.etl.planted_readers",)
TIGHT = Limits(seconds=0.5, memory_bytes=256 << 20, output_chars=2 << 20)


@pytest.fixture
def reader() -> Iterator[Reader]:
    with Reader(PLANTED, TIGHT) as opened:
        yield opened


def refusal(reader: Reader, ending: str, data: bytes = b"") -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        reader.document(data, f"b{ending}", ending)
    return caught.value


@pytest.mark.integration
@pytest.mark.parametrize(
    ("ending", "reason", "detail"),
    [
        (".value", "reader_failed", "ValueError: day is out of range for month"),
        (".overflow", "reader_failed", "OverflowError: date value out of range"),
        (".unicode", "reader_failed", "UnicodeError: undefined encoding"),
        (".attribute", "reader_failed", "AttributeError: 'NumberObject'"),
        (".key", "reader_failed", "KeyError: 'xref'"),
        (".type", "reader_failed", "TypeError: unhashable type"),
        (".assertion", "reader_failed", "AssertionError"),
        (".stop", "reader_failed", "StopIteration"),
        (".eof", "reader_failed", "EOFError: half a file"),
        (".os", "reader_failed", "OSError: [Errno 5] Input/output error"),
        (".library", "reader_failed", "OfALibraryError: of its own tree"),
        (".unshowable", "reader_failed", "UnshowableError: its message cannot be shown"),
        (".surrogates", "reader_failed", "ValueError: half"),
        (".memory", "out_of_memory", "MemoryError"),
        (".exit", "reader_failed", "SystemExit: 0"),
        (".interrupt", "reader_failed", "KeyboardInterrupt"),
        (".generator", "reader_failed", "GeneratorExit"),
        (".base", "reader_failed", "NotEvenAnExceptionError: no exception"),
        (".recurse", "reader_failed", "RecursionError: maximum recursion depth"),
        (".crash", "reader_crashed", f"ended with -{signal.SIGSEGV:d}"),
        (".leave", "reader_crashed", "ended with 3"),
        (".abort", "reader_crashed", f"ended with -{signal.SIGABRT:d}"),
        (".sleep", "too_slow", "the limit is 0.5 s of computing"),
        (".compute", "too_slow", "s of computing"),
        (".allocate", "out_of_memory", "more than 256 MiB"),
        (".much", "output_too_large", "more than 2097152 characters come out of 0 bytes"),
        (".title", "output_too_large", "more than 2097152 characters"),
        (".number", "reader_failed", "TypeError"),
        (".none", "reader_failed", "TypeError"),
        (".connect", "reader_failed", "PermissionError: [Errno 1]"),
        (".unix", "reader_failed", "PermissionError: [Errno 1]"),
        (".run", "reader_failed", "PermissionError: [Errno 1]"),
        (".exec", "reader_failed", "PermissionError: [Errno 1]"),
        (".fork", "reader_failed", "PermissionError: [Errno 1]"),
        (".kill", "reader_failed", "PermissionError: [Errno 1]"),
        (".lift", "reader_failed", "Error"),
        (".garbage", "reader_failed", "a frame that is no JSON"),
        (".endless", "reader_failed", "a frame of 4294967295 bytes"),
        (".halved", "too_slow", "half an answer"),
        (".answers-list", "reader_failed", "its answer is no object"),
        (".closes", "reader_failed", "the stream has ended"),
        (".missing", "unsupported_format", "no reader for .missing"),
    ],
)
def test_whatever_a_reader_does_is_one_refusal_with_its_type_and_the_next_file_is_read(
    reader: Reader, ending: str, reason: str, detail: str
) -> None:
    assert reader.document(b"before", "a.fine", ".fine") == ("fine", "before")

    refused = refusal(reader, ending)

    assert refused.reason == reason
    assert str(refused).startswith(f"b{ending}: ") or reason == "unsupported_format"
    assert detail in str(refused)
    assert reader.document(b"after", "z.fine", ".fine") == ("fine", "after")


@pytest.mark.parametrize(
    ("ending", "title", "text"),
    [
        (".print", "printed", "text"),  # what a library prints is no answer
        (".input", "input", "read ''"),
        (".thread", "thread", "said by a thread"),  # pyarrow reads with threads
        (".half", "half \ud800", "text"),  # the contract refuses it, with its own reason
        (".descriptors", "descriptors", "0 1 2 3"),
    ],
)
def test_what_harms_nothing_is_read(reader: Reader, ending: str, title: str, text: str) -> None:
    assert reader.document(b"", f"a{ending}", ending) == (title, text) or ending == ".descriptors"
    if ending == ".descriptors":
        assert len(reader.document(b"", f"a{ending}", ending)[1].split()) == 4, "input, output, errors and the connection"


def test_a_reader_that_swallows_its_memory_error_still_takes_no_more_than_its_share(reader: Reader) -> None:
    assert reader.document(b"", "a.swallow", ".swallow")[0] == "swallowed"
    assert int(reader.document(b"", "a.swallow", ".swallow")[1].split()[0]) <= 16


@pytest.mark.parametrize("ending", [".write", ".remove", ".chmod", ".steal", ".list"])
def test_no_other_file_is_read_written_removed_or_changed(reader: Reader, tmp_path: Path, ending: str) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    path.chmod(0o600)

    refused = refusal(reader, ending, str(tmp_path if ending == ".list" else path).encode())

    assert "PermissionError" in str(refused)
    assert path.read_text() == "secret"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_memory_of_the_parent_is_not_readable(reader: Reader) -> None:
    assert "PermissionError" in str(refusal(reader, ".steal", f"/proc/{os.getpid()}/environ".encode()))


def test_a_child_knows_no_address_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINLINE_KAFKA_PASSWORD", "secret")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    with Reader(PLANTED, TIGHT) as reader:
        names = reader.document(b"", "a.environment", ".environment")[1].split()
    assert set(names) <= {
        *("LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "TZ"),
        *("OPENBLAS_NUM_THREADS", "ARROW_DEFAULT_MEMORY_POOL", "ARROW_IO_THREADS"),
        *("PYTHONPATH", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE", "PWD"),
    }


def test_a_crash_that_a_file_before_caused_costs_that_file_no_neighbour(reader: Reader) -> None:
    assert reader.document(b"", "a.later", ".later") == ("later", "text")
    time.sleep(0.5)
    assert [reader.document(b"after", "z.fine", ".fine") for _ in range(3)] == [("fine", "after")] * 3


def test_a_large_file_leaves_room_for_its_neighbours(reader: Reader) -> None:
    for _ in range(3):
        reader.document(b"", "a.swallow", ".swallow")
        assert reader.document(b"x" * 100_000, "b.fine", ".fine")[1] == "x" * 100_000


def read_rows(reader: Reader, ending: str, path: Path, content: bytes = b"") -> list[Any]:
    path.write_bytes(content)
    with path.open("rb") as stream:
        return list(reader.rows(stream, len(content), f"t{ending}", ending))


TWO = [(1, {"id": "1", "text": "one"}), (2, {"id": "2", "text": "two"})]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("ending", "reason", "detail"),
    [
        (".value", "reader_failed", "ValueError: in the middle"),
        (".exit", "reader_failed", "SystemExit: 1"),
        (".memory", "out_of_memory", "MemoryError"),
        (".allocate", "out_of_memory", "more than 256 MiB"),
        (".crash", "reader_crashed", "ended with -11"),
        (".sleep", "too_slow", "no answer after"),
        (".garbage", "reader_failed", "no JSON"),
        (".rows", "reader_failed", "a row that is none"),
        (".write", "reader_failed", "Bad file descriptor"),
    ],
)
def test_a_table_that_breaks_off_has_its_rows_and_one_reject(
    reader: Reader, tmp_path: Path, ending: str, reason: str, detail: str
) -> None:
    *rows, last = read_rows(reader, ending, tmp_path / "t", b"content")

    # Rows that the child still held when it died are gone with it.
    assert rows == ([] if reason in {"reader_crashed", "too_slow"} or ending == ".garbage" else TWO)
    assert isinstance(last, Reject)
    assert (last.place, last.reason) == (f"t{ending}", reason)
    assert detail in last.detail
    assert (tmp_path / "t").read_bytes() == b"content"
    assert read_rows(reader, ".two", tmp_path / "t") == TWO


def test_rows_have_a_budget_and_wait_for_the_one_that_takes_them(reader: Reader, tmp_path: Path) -> None:
    *rows, last = read_rows(reader, ".ever", tmp_path / "t", b"12345")
    assert [number for number, _ in rows] == list(range(1, len(rows) + 1))
    assert 1_900 < len(rows) < 2_100, "two MiB of rows of a thousand characters"
    assert (last.reason, "come out of 5 bytes" in last.detail) == ("output_too_large", True)


def test_values_that_json_does_not_know_are_text_and_a_row_that_cannot_travel_is_its_own_reject(tmp_path: Path) -> None:
    with Reader(PLANTED) as reader:
        found = read_rows(reader, ".types", tmp_path / "t")
    values = ["café", 3, "3.5", "2024-02-28", float("inf"), [1, 2], {"a": "b"}, None, True, 2**60]
    assert found[0] == (1, {str(number): value for number, value in enumerate(values)})
    assert [(row.line, row.reason) for row in found[1:3]] == [(2, "invalid_utf8"), (3, "too_large")]
    assert found[3:] == [(4, {"id": "4"})]


def test_a_compressed_document_may_cost_what_it_unpacks_to() -> None:
    text = b"The same line of a long log, again and again.\n" * 60_000
    packed = gzip.compress(text)
    assert len(packed) * 20 < len(text)
    with Reader() as reader:
        assert reader.document(packed, "a.txt.gz", ".txt") == ("a", text.decode())


def test_a_table_that_is_left_in_the_middle_does_not_disturb_the_next(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "t").touch()
    with (tmp_path / "t").open("rb") as stream:
        rows = reader.rows(stream, 0, "t.ever", ".ever")
        assert next(rows)[0] == 1  # type: ignore[index]
        rows.close()  # type: ignore[attr-defined]
    assert reader.document(b"after", "z.fine", ".fine") == ("fine", "after")


def test_a_compressed_table_and_document_are_unpacked_by_the_child(reader: Reader, tmp_path: Path) -> None:
    packed = gzip.compress(b"one\ntwo\n")
    (tmp_path / "t").write_bytes(packed)
    with (tmp_path / "t").open("rb") as stream:
        rows = list(reader.rows(stream, len(packed), "t.content.gz", ".content"))
    assert rows == [(1, {"id": "1", "text": "one\n"}), (2, {"id": "2", "text": "two\n"})]
    assert reader.document(packed, "a.fine.gz", ".fine") == ("fine", "one\ntwo\n")
    with pytest.raises(DocumentError, match="more than 1000 bytes unpacked"):
        reader.document(gzip.compress(b"x" * 10_000_000), "a.fine.gz", ".fine", 1_000)


def test_the_child_ends_with_its_reader_and_in_the_middle_of_a_file_when_the_parent_is_killed(reader: Reader) -> None:
    before = {child.pid for child in psutil.Process().children()}
    with Reader(PLANTED, TIGHT) as inner:
        inner.document(b"", "a.fine", ".fine")
        [pid] = {child.pid for child in psutil.Process().children()} - before
    assert not psutil.pid_exists(pid)
    program = (
        "import os, signal, psutil\n"
        "import threading, time\n"
        "from etl.reading.reader import Reader\n"
        f"reader = Reader({PLANTED!r}); reader.document(b'x', 'a.fine', '.fine')\n"
        "print(psutil.Process().children()[0].pid, flush=True)\n"
        "threading.Thread(target=lambda: (time.sleep(0.5), os.kill(os.getpid(), signal.SIGKILL))).start()\n"
        "reader.document(b'x', 'a.compute', '.compute')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    child = int(done.stdout)
    for _ in range(100):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_child_that_does_not_start_is_an_error_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ContractError, match="the process that reads files does not start"):
        Reader().document(b"x", "a.txt", ".txt")


def test_limits_grow_with_the_file_and_end_somewhere() -> None:
    small, large = Limits.of_document(100), Limits.of_document(64 << 20)
    assert small == Limits(60 + 1_000 / (1 << 20), (512 << 20) + 6_400, 1 << 20)
    assert (large.seconds, large.memory_bytes, large.output_chars) == (700, (512 + 4096) << 20, 32 << 20)
    assert Limits.of_table(10).output_chars == 64 << 20
    assert Limits.of_table(1 << 30).output_chars == 200 << 30


def test_the_parent_keeps_its_own_limits(reader: Reader) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    reader.document(b"", "a.fine", ".fine")
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_all_of_our_own_readers_are_found_by_the_child() -> None:
    from etl.sources.formats import READERS

    with Reader() as reader:
        for ending in READERS:
            reason = ""
            try:
                reader.document(b"<p>words</p>", f"a{ending}", ending)
            except DocumentError as exc:
                reason = exc.reason
            assert reason not in {"unsupported_format", "reader_failed"}
    assert MODULES == ("etl.sources.formats", "etl.sources.tables")
