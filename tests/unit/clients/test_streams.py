"""No encoding of an argument or of the output ends a command with a traceback."""

import json
import os
import subprocess
import sys

import pytest

from tests.checkout import CHECKOUT

TEXT = "caf\u00e9 \u2026 \U0001f600 \udce9 \u05d0 \u0301 \u4e2d"


def ran(program: str, *arguments: bytes | str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=CHECKOUT, env=environment, capture_output=True, timeout=60, check=False
    )


_PRINT = f"""
import json, sys
from twinline.clients.run import run
def work():
    print(json.dumps({{"text": {TEXT!a}}}, ensure_ascii=False))
    print({TEXT!a}, file=sys.stderr)
run("x", work)
"""


@pytest.mark.parametrize(
    "encoding", ["ascii", "latin-1", "cp1252", "cp437", "koi8-r", "iso8859-15", "shift-jis", "utf-8", "utf-16", "big5"]
)
def test_what_a_stream_cannot_hold_is_escaped_and_json_stays_whole(encoding: str) -> None:
    done = ran(_PRINT, PYTHONIOENCODING=encoding)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    assert json.loads(done.stdout.decode(encoding)) == {"text": TEXT}
    assert done.stderr


def test_a_choice_of_the_user_is_left_alone() -> None:
    assert ran(_PRINT, PYTHONIOENCODING="ascii:replace").stdout.startswith(b'{"text": "caf? ?')


@pytest.mark.parametrize("variables", [{"LC_ALL": "POSIX"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {}])
def test_a_locale_without_an_encoding_is_no_error(variables: dict[str, str]) -> None:
    done = ran(_PRINT, **variables)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr


_SHOW = """
import sys
from twinline.clients.run import run
from twinline.commands.search import _show
from rich.console import Console
answer = {"hits": [{"score": 0.5, "title": TITLE, "key": "k", "source": "s", "highlights": [[200, 204]], "point": "p",
          "version": {"kind": "explicit", "number": 1},
          "chunk": {"index": 0, "start": 0, "end": 9, "text": TITLE * 200},
          "lineage": {"kafka": {"partition": 0, "offset": 1}, "training": {}, "release": "r1"}}],
          "timings": {"total_ms": 1, "embed_ms": 1, "search_ms": 1}, "release": "r1"}
run("twinline", lambda: _show(answer, Console(highlight=False)))
""".replace("TITLE", ascii(TEXT))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_hits_are_shown_in_any_encoding(encoding: str) -> None:
    done = ran(_SHOW, PYTHONIOENCODING=encoding)
    assert (done.returncode, b"1 documents in" in done.stdout) == (0, True), done.stderr


@pytest.mark.integration
# Each as a shell hands it over: bytes that are no UTF-8.
@pytest.mark.parametrize(
    "argument",
    [b"caf\xe9", b"\xff", b"\xc3", b"\xed\xa0\x80", b"a\x80b", b"\xfe\xff", b"ok \xf5", b"\xc0\xaf", b"\xe2\x82", b"\x81"],
)
@pytest.mark.parametrize("option", ["query", "--tenant"])
def test_an_argument_that_is_no_text_is_one_line(argument: bytes, option: str) -> None:
    arguments: list[bytes | str] = [argument] if option == "query" else ["x", option, argument]
    # Nothing answers there: the question is well-formed JSON, so that only the service judges it.
    done = ran("from twinline.__main__ import main; main()", "search", *arguments, "--url", "http://127.0.0.1:9")
    assert done.returncode in (1, 2)
    assert len(done.stderr.decode().splitlines()) == 1, done.stderr
    assert b"Traceback" not in done.stderr


def test_an_argument_that_is_no_text_is_told_where_a_library_cannot_take_it() -> None:
    program = "import sys; from twinline.clients.run import run; run('x', lambda: sys.argv[1].encode())"
    done = ran(program, b"caf\xe9")
    assert done.returncode == 2
    assert done.stderr == b"x: argument 'caf\\udce9' is not text in this locale's encoding: write it in UTF-8\n"
