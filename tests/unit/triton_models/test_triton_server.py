"""The server's command line and environment, on a made-up wheel."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from triton_models.server import (
    ServerOptions,
    Wheel,
    check_libraries,
    end_orphans,
    exec_server,
    find_wheel,
    link_backends,
    server_command,
    server_environment,
    without_shell_words,
)
from twinline.contract.errors import SettingsError


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    root = tmp_path / "server" / "lib" / "python3.11" / "site-packages" / "pytriton" / "tritonserver"
    for name in (
        "bin/tritonserver",
        "backends/python/libtriton_python.so",
        "backends/python/triton_python_backend_utils.py",
        "python_backend_stubs/3.11/triton_python_backend_stub",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return find_wheel(tmp_path / "server")


def options(wheel: Wheel, tmp_path: Path) -> ServerOptions:
    return ServerOptions(wheel.environment, tmp_path / "models", "127.0.0.1", 20280, 20281, 20282, ["embed", "embed_r1"])


def test_an_environment_without_the_server_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="make setup"):
        find_wheel(tmp_path)


def test_a_python_without_a_stub_is_named_with_those_that_have_one(wheel: Wheel) -> None:
    wheel.stub.parent.rename(wheel.stub.parents[1] / "3.10")
    with pytest.raises(SettingsError, match=r"Python 3\.11, Triton's wheel serves 3\.10"):
        find_wheel(wheel.environment)


def test_a_missing_libpython_comes_with_the_line_that_installs_it(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ldd = tmp_path / "bin" / "ldd"
    ldd.parent.mkdir()
    ldd.write_text("#!/bin/sh\necho '\tlibpython3.11.so.1.0 => not found'\n")
    ldd.chmod(0o755)
    monkeypatch.setenv("PATH", str(ldd.parent), prepend=":")
    with pytest.raises(SettingsError, match=r"libpython3\.11\.so\.1\.0.*sudo apt-get install libpython3\.11"):
        check_libraries(wheel, {"PATH": str(ldd.parent)})


def test_nothing_of_the_callers_python_reaches_the_server(wheel: Wheel) -> None:
    inherited = {"PYTHONPATH": "/platform", "LD_PRELOAD": "/x.so", "VIRTUAL_ENV": "/platform/.venv", "HOME": "/home/ann"}
    environment = server_environment(wheel, inherited)
    assert not {"PYTHONPATH", "LD_PRELOAD", "VIRTUAL_ENV"} & set(environment)
    assert environment["HOME"] == "/home/ann"
    # the stub takes the first python3 that it finds
    assert environment["PATH"].split(":")[0] == str(wheel.environment / "bin")
    assert environment["DO_NOT_TRACK"] == "1"


def test_the_server_listens_on_the_given_address_only(wheel: Wheel, tmp_path: Path) -> None:
    command = server_command(wheel, options(wheel, tmp_path), tmp_path / "backends")
    addresses = [argument for argument in command if "-address=" in argument]
    assert len(addresses) == 3
    assert all(argument.endswith("=127.0.0.1") for argument in addresses)
    assert "--model-control-mode=explicit" in command
    assert [argument for argument in command if argument.startswith("--load-model")] == [
        "--load-model=embed",
        "--load-model=embed_r1",
    ]


def test_the_backend_folder_holds_the_stub_and_our_backends_and_can_be_made_again(wheel: Wheel, tmp_path: Path) -> None:
    for _ in range(2):
        folder = link_backends(wheel, tmp_path / "backends")
    # Triton refuses a library that a link leads out of the backend folder.
    assert not (folder / "python" / "libtriton_python.so").is_symlink()
    assert (folder / "python" / "triton_python_backend_stub").is_file()
    assert (folder / "onnxruntime" / "model.py").is_file()
    assert (folder / "openvino" / "model.py").is_file()


def test_what_a_killed_server_left_behind_is_ended_and_that_of_another_server_is_not(wheel: Wheel, tmp_path: Path) -> None:
    def stub(region: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "model.py", region])

    with stub("twinline_triton_20280_a-model") as orphan, stub("twinline_triton_20290_a-model") as other:
        try:
            end_orphans(options(wheel, tmp_path))
            assert orphan.wait(timeout=10) == -signal.SIGKILL
            assert other.poll() is None
        finally:
            orphan.kill()
            other.kill()


@pytest.mark.parametrize(
    "name", ["a b", "a (b)", "$(id)", "`id`", "a;b", "a&b", "it's", 'say "x"', "a|b", "*", "~", "a\\b", "-x", "a#b"]
)
def test_no_name_above_the_server_reaches_the_shell_that_starts_its_stubs(wheel: Wheel, tmp_path: Path, name: str) -> None:
    home = tmp_path / name / "triton"
    folder, repository, backends = without_shell_words(home / "models", home / "backends")
    command = server_command(wheel, replace(options(wheel, tmp_path), repository=repository), backends)
    assert (folder / repository, folder / backends) == (home / "models", home / "backends")
    assert "--model-repository=models" in command
    assert "--backend-directory=backends" in command


def test_the_server_starts_in_the_folder_that_its_paths_are_seen_from(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[tuple[str, list[str], str]] = []
    monkeypatch.setattr("triton_models.server.check_libraries", lambda *_: None)
    monkeypatch.setattr("os.execve", lambda program, command, _: became.append((program, command, str(Path.cwd()))))
    monkeypatch.chdir(tmp_path)
    triton = tmp_path / "my (odd) home" / "triton"
    exec_server(replace(options(wheel, tmp_path), repository=triton / "models"), triton / "backends")
    [(program, command, folder)] = became
    assert (program, folder) == (str(wheel.binary), str(triton))
    assert not [argument for argument in command[1:] if "odd" in argument]
    assert (triton / "backends" / "python" / "triton_python_backend_stub").is_file()
