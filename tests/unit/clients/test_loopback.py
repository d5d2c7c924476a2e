"""A proxy for the outside world never stands before this machine, in any library, process or spelling."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.checkout import CHECKOUT
from twinline.clients import loopback
from twinline.clients.triton.transport import channel_options

# Nothing listens there: a request that goes through it fails.
DEAD = "http://127.0.0.1:9"
PROXIES = {name: DEAD for kind in ("http", "https", "all", "grpc") for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY")}


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ({}, []),
        ({"no_proxy": ""}, []),
        ({"no_proxy": "example.com"}, ["example.com"]),
        ({"NO_PROXY": " example.com , .corp"}, ["example.com", ".corp"]),
        ({"no_proxy": "a", "NO_PROXY": "b"}, ["a", "b"]),
        ({"no_proxy": "127.0.0.1"}, ["127.0.0.1"]),
        ({"no_proxy": "*"}, ["*"]),
        ({"TWINLINE_HOST": "10.0.0.5"}, ["10.0.0.5"]),
    ],
)
def test_this_machine_is_named_beside_what_is_named_already(named: dict[str, str], kept: list[str]) -> None:
    environment = dict(named)
    for _ in range(2):  # twice is once
        loopback.apply(environment)
    assert environment["no_proxy"] == environment["NO_PROXY"]
    found = environment["no_proxy"].split(",")
    assert len(found) == len(set(found))
    assert {"127.0.0.1", "localhost", "::1", "0.0.0.0", *kept} == set(found)  # noqa: S104


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST.", "::1", "[::1]", "0.0.0.0", "::"])  # noqa: S104
def test_every_name_of_this_machine_is_known(host: str) -> None:
    assert loopback.is_this_machine(host)
    assert ("grpc.enable_http_proxy", 0) in channel_options(f"{host}:8001")


@pytest.mark.parametrize(
    "host", ["10.0.0.5", "gpu.example", "localhost.example", "128.0.0.1", "", "fe80::1", "127.0.0.1.example"]
)
def test_another_machine_may_be_behind_a_proxy(host: str) -> None:
    assert not loopback.is_this_machine(host)
    assert ("grpc.enable_http_proxy", 0) not in channel_options(f"{host}:8001")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


_CHILD = "import httpx, sys; print(httpx.get(sys.argv[1]).text)"
# With the defaults of each library, as Airflow, DVC and the Qdrant client use them.
_ASK = {
    "httpx": "import httpx; print(httpx.get(url).text)",
    "httpx by name": "import httpx; print(httpx.get(url.replace('127.0.0.1', 'localhost')).text)",
    "urllib": "import urllib.request; print(urllib.request.urlopen(url).read().decode())",
    "requests": "import requests; print(requests.get(url).text)",
    "a child": f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_CHILD!r}, url])",
}


@pytest.mark.parametrize("library", _ASK)
def test_a_process_of_ours_and_its_children_reach_loopback_behind_a_proxy(server: str, library: str) -> None:
    program = f"import sys; from twinline.clients.run import run; url = sys.argv[1]; run('x', lambda: exec({_ASK[library]!r}))"
    environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"} | PROXIES
    done = subprocess.run(
        [sys.executable, "-c", program, server],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_search_behind_a_proxy_reaches_its_service(server: str) -> None:
    environment = {**os.environ, **PROXIES}
    done = subprocess.run(
        [sys.executable, "-m", "twinline", "search", "x", "--url", server],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # It was asked, and is no search service.
    assert (done.returncode, "answers 501" in done.stderr) == (2, True), json.dumps([done.stdout, done.stderr])
