"""Releases on real parts: a broker, Triton, the online process and its store."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients.admin import AdminClient
from clients.settings import CHECKOUT
from clients.triton import TritonControl
from contract.manifest import Manifest, collection_name, release_id
from tests.fixtures_triton import release_that_serves
from tests.integration.conftest import Stack

DOCUMENTS = {
    "quinces": "The ferry Amaranth carries crates of quinces from pier nine to Saltholm every morning.",
    "glacier": "Measurements show that the glacier above the valley has lost a third of its length in forty years.",
    "sourdough": "A sourdough starter needs flour, water, warmth and patience before it raises a loaf of bread.",
    "telescope": "The mirror of the telescope is ground to a parabola so that distant light meets in one point.",
}


class Platform:
    """A stack without a scheduler, and two releases for it that differ in the format that is served."""

    def __init__(self, stack: Stack, first: Path, second: Path) -> None:
        self.stack, self.folders = stack, (first, second)
        self.releases = tuple(Manifest.load(folder).release for folder in self.folders)

    def release(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m release ARGUMENTS`."""
        command = [sys.executable, "-m", "release", *arguments]
        return subprocess.run(
            command, cwd=CHECKOUT, env=self.stack.environment, capture_output=True, text=True, timeout=280, check=False
        )

    def search(self, query: str) -> dict[str, Any]:
        """Ask the search API."""
        done = self.stack.run("search", query, "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def publish(self, key: str, text: str) -> None:
        """Publish one document."""
        lines = json.dumps({"source": "test", "key": key, "title": key, "text": text}) + "\n"
        command = [sys.executable, "-m", "twinline", "publish", "-"]
        subprocess.run(command, cwd=CHECKOUT, env=self.stack.environment, input=lines, text=True, check=True, timeout=60)

    def wait_until_indexed(self, documents: int) -> None:
        """Wait until the active release holds so many documents."""
        for _ in range(150):
            if len(self.search("anything at all")["hits"]) == documents:
                return
            time.sleep(0.2)
        pytest.fail(f"{documents} documents are not indexed half a minute after they were published")

    @contextmanager
    def admin(self) -> Iterator[AdminClient]:
        """Speak to the online process."""
        with closing(AdminClient(self.stack.settings.admin_url)) as client:
            yield client

    def active(self) -> str | None:
        """Return the active collection."""
        with self.admin() as admin:
            return admin.status().active


@pytest.fixture(scope="module")
def platform(
    make_stack: Callable[[str], Stack], base_release: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    stack = make_stack("release")
    up = stack.run("up", "--no-scheduler")
    assert up.returncode == 0, up.stderr
    second = release_that_serves(base_release, "onnx_fp32", tmp_path_factory.mktemp("second") / "release")
    started = Platform(stack, base_release, second)
    # In the order of a new installation: the release first, documents later.
    empty = started.release("deploy", str(base_release))
    assert empty.returncode == 0, empty.stderr
    for key, text in DOCUMENTS.items():
        started.publish(key, text)
    started.wait_until_indexed(len(DOCUMENTS))
    yield started
    stack.run("down")


def test_a_release_is_deployed_and_answers(platform: Platform) -> None:
    done = platform.release("deploy", str(platform.folders[0]))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"release": platform.releases[0]}
    answer = platform.search("what does the ship transport to the island?")
    assert answer["release"] == platform.releases[0]
    assert answer["hits"][0]["key"] == "quinces"


def test_a_step_done_again_changes_nothing(platform: Platform) -> None:
    first = platform.releases[0]
    for step in ("fetch", "publish", "build", "verify", "switch"):
        done = platform.release(step, first)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["before"] == ""


def test_another_release_takes_over_both_stay_fresh_and_the_way_back_is_open(platform: Platform) -> None:
    first, second = platform.releases
    done = platform.release("deploy", str(platform.folders[1]))
    assert done.returncode == 0, done.stderr
    assert platform.search("bread")["release"] == second
    assert _stable_release(platform) == second

    platform.publish("tides", "High water at the harbour mouth comes twelve minutes after the moon is overhead.")
    for release in (second, first):
        # verification waits until the release's consumer has passed the end of the log
        assert platform.release("verify", release).returncode == 0
        with platform.admin() as admin:
            head = admin.head(collection_name(release), "test", "tides")
        assert head is not None, f"{release} was not told of a new document"
        assert not head.deleted

    back = platform.release("switch", first)
    assert json.loads(back.stdout)["before"] == second
    answer = platform.search("when is the tide high?")
    assert (answer["release"], answer["hits"][0]["key"]) == (first, "tides")
    assert _stable_release(platform) == first


def test_what_follows_the_switch_is_repaired_by_switching_again(platform: Platform) -> None:
    first, second = platform.releases
    # as after a crash between the two: the alias says one release, `embed` still answers as the other
    with platform.admin() as admin:
        admin.activate(collection_name(second))
    assert _stable_release(platform) == first
    assert platform.release("switch", second).returncode == 0
    assert _stable_release(platform) == second


def test_a_release_that_was_not_built_cannot_become_active(platform: Platform) -> None:
    active = platform.active()
    done = platform.release("switch", "r000000000000")
    assert done.returncode == 2
    assert "fetch it first" in done.stderr
    assert platform.active() == active


def test_a_damaged_release_goes_no_further_than_the_fetch(platform: Platform, tmp_path: Path) -> None:
    # a third release: one that is here already would be taken from here
    damaged = release_that_serves(platform.folders[0], "onnx_fp32", tmp_path / "damaged")
    manifest = Manifest.load(damaged)
    serving = replace(manifest.serving, max_batch_size=manifest.serving.max_batch_size // 2)
    name = release_id(manifest.space, manifest.fingerprints.contract, serving, manifest.files)
    replace(manifest, release=name, serving=serving).save(damaged)
    weights = damaged / "encoder" / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    done = platform.release("deploy", str(damaged))
    assert done.returncode == 1
    assert "encoder/model.safetensors" in done.stderr
    assert not (platform.stack.settings.releases / name).exists()


def test_a_release_that_is_retired_is_gone_and_the_active_one_is_not(platform: Platform) -> None:
    active = str(platform.active()).removeprefix(collection_name(""))
    other = next(release for release in platform.releases if release != active)
    assert json.loads(platform.release("retire", other).stdout)["retired"] is True
    assert json.loads(platform.release("retire", other).stdout)["retired"] is False
    refused = platform.release("retire", active)
    assert refused.returncode == 2
    assert "active" in refused.stderr
    assert platform.search("bread")["release"] == active
    with platform.admin() as admin:
        assert [listed.release for listed in admin.status().collections] == [active]
    assert not (platform.stack.settings.model_repository / f"encoder_{other}").exists()
    # and it comes back
    assert platform.release("deploy", other).returncode == 0


def _stable_release(platform: Platform) -> str:
    """Return the release that the stable model `embed` stands for, by what its configuration names."""
    config = (platform.stack.settings.model_repository / "embed" / "config.pbtxt").read_text()
    found = [release for release in platform.releases if f"encoder_{release}" in config]
    control = TritonControl(platform.stack.settings.triton_grpc_address)
    assert control.ready("embed")
    control.close()
    assert len(found) == 1
    return found[0]
