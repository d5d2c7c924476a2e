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

from tests.checkout import CHECKOUT
from tests.fixtures_triton import release_that_serves
from tests.integration.conftest import Stack
from twinline.clients.online import AdminClient
from twinline.clients.triton.control import TritonControl
from twinline.contract.release.manifest import Manifest, collection_name, release_id

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
        """Run `python -m twinline.release ARGUMENTS`."""
        command = [sys.executable, "-m", "twinline.release", *arguments]
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
    for step in ("fetch", "publish", "build", "verify", "promote", "switch"):
        done = platform.release(step, first)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["before"] == ""
    assert result(platform.release("repair")) == {"active": first, "repaired": []}


def test_a_verification_leaves_its_numbers_and_says_what_it_could_not_measure(platform: Platform) -> None:
    first = platform.releases[0]
    checks = {check["name"]: check for check in result(platform.release("verify", first))["checks"]}
    assert checks["whole"]["numbers"] == {"log": len(DOCUMENTS), "collection": len(DOCUMENTS), "missing": 0}
    assert checks["index"]["numbers"]["recall"] == 1.0
    # a release without a commit has no held-out queries
    assert checks["live quality"]["numbers"] == {"measured": False}
    shown = result(platform.release("show", "active", "--json"))
    assert shown["verification"]["passed"] is True
    assert {check["name"] for check in shown["verification"]["checks"]} == set(checks)


def test_there_is_nothing_before_the_first_release_to_go_back_to(platform: Platform) -> None:
    done = platform.release("rollback")
    assert done.returncode == 3
    assert "no release was active before" in json.loads(done.stdout.splitlines()[-1])["refused"]
    assert platform.active() == collection_name(platform.releases[0])


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

    back = platform.release("rollback")
    assert result(back) == {"release": first, "before": second}
    answer = platform.search("when is the tide high?")
    assert (answer["release"], answer["hits"][0]["key"]) == (first, "tides")
    assert _stable_release(platform) == first


def test_every_promotion_is_in_the_journal_with_who_did_it(platform: Platform) -> None:
    first, second = platform.releases
    shown = result(platform.release("show", second, "--json"))
    (promotion,) = shown["promotions"]
    assert (promotion["kind"], promotion["before"], promotion["release"]) == ("promote", first, second)
    assert "@" in promotion["by"]
    assert [entry["kind"] for entry in result(platform.release("show", first, "--json"))["promotions"]] == ["promote", "rollback"]


def test_two_releases_of_one_space_differ_in_what_is_served_and_keep_their_vectors(platform: Platform) -> None:
    first, second = platform.releases
    found = result(platform.release("diff", first, second, "--json"))
    assert found["same_space"] is True
    assert "nothing is embedded again; its collection is served" in found["meaning"]
    (row,) = found["sections"]["formats"]
    assert (row["what"], row["b"]) == ("serving.format", "onnx_fp32")
    # and for a person
    shown = platform.release("diff", first, second)
    assert "serving.format" in shown.stdout
    listed = {row["release"]: row for row in result(platform.release("list", "--json"))["releases"]}
    assert (listed[first]["state"], listed[first]["verified"]) == ("active", "passed")
    assert first in platform.release("list").stdout
    assert "last verification" in platform.release("show", first).stdout


def test_what_follows_the_switch_is_repaired_and_recorded(platform: Platform) -> None:
    first, second = platform.releases
    # as after a crash between the two: the alias says one release, `embed` still answers as the other
    with platform.admin() as admin:
        admin.activate(collection_name(second))
    assert _stable_release(platform) == first
    done = result(platform.release("repair"))
    assert done["active"] == second
    assert [line.split(":")[0] for line in done["repaired"]] == ["journal", "embed"]
    assert _stable_release(platform) == second
    assert result(platform.release("show", second, "--json"))["promotions"][-1]["kind"] == "repair"


def test_a_promotion_without_a_verification_beside_the_active_release_verifies_first(platform: Platform) -> None:
    first, second = platform.releases
    record = platform.stack.settings.release_state / first / "verification.json"
    record.unlink()
    done = platform.release("promote", first)
    assert result(done) == {"release": first, "before": second}
    assert "was not verified beside the release that is active now: verifying" in done.stderr
    assert json.loads(record.read_text())["against"] == second
    assert platform.search("bread")["release"] == first


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
    identity = manifest.space, manifest.fingerprints.contract, serving, manifest.files
    name = release_id(*identity, manifest.index, manifest.fusion)
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
    # it is the way back
    kept = platform.release("retire", other)
    assert (kept.returncode, "no way back" in kept.stderr) == (3, True)
    assert result(platform.release("retire", "--older-than-last", "1"))["retired"] == []
    assert result(platform.release("retire", "--older-than-last", "0"))["retired"] == [other]
    assert result(platform.release("retire", other))["retired"] is False
    gone = platform.release("rollback")
    assert gone.returncode == 3
    assert "it was retired" in gone.stderr
    refused = platform.release("retire", active)
    assert refused.returncode == 2
    assert "active" in refused.stderr
    assert platform.search("bread")["release"] == active
    with platform.admin() as admin:
        assert [listed.release for listed in admin.status().collections] == [active]
    assert not (platform.stack.settings.model_repository / f"encoder_{other}").exists()
    # and it comes back
    assert platform.release("deploy", other).returncode == 0


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the JSON object that a command that went well ends with."""
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value


def _stable_release(platform: Platform) -> str:
    """Return the release that the stable model `embed` stands for, by what its configuration names."""
    config = (platform.stack.settings.model_repository / "embed" / "config.pbtxt").read_text()
    found = [release for release in platform.releases if f"encoder_{release}" in config]
    control = TritonControl(platform.stack.settings.triton_grpc_address)
    assert control.ready("embed")
    control.close()
    assert len(found) == 1
    return found[0]
