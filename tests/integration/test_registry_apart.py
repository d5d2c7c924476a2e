"""A clone has the tags of a registry, and not its files: every command says so in a line, and a schedule goes on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import CHECKOUT
from twinline.contract.artefacts import ENCODER
from twinline.registry.fetch import fetch
from twinline.registry.git import git
from twinline.registry.revisions import GitRevision, NotHereError
from twinline.registry.versions import Registry
from twinline.upkeep.training.changed import decide, production_snapshot
from twinline.upkeep.training.experiment import champion_or_none

LOCK = """\
schema: '2.0'
stages:
  encoder-package:
    cmd: python -m export package
    outs:
    - path: models/release
      hash: md5
      md5: 0123456789abcdef0123456789abcdef.dir
      size: 10
      nfiles: 2
"""
TAGS = ("encoder@v1.0.0", "encoder#prod#1")


def plant_foreign_tags(clone: Path, message: str = "release r0123456789ab\n\ngate: ok") -> None:
    """Make a commit of an experiment whose files are nowhere, with the tags of version and stage that a registry sets."""
    settings = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    base = git(clone, "rev-parse", "HEAD").strip()
    (clone / "dvc.lock").write_text(LOCK)
    git(clone, "add", "--force", "dvc.lock")
    git(clone, *settings, "commit", "--quiet", "--message", "an experiment of elsewhere")
    for tag in TAGS:
        git(clone, *settings, "tag", "--annotate", tag, "--message", message)
    git(clone, "reset", "--quiet", "--hard", base)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("apart") / "clone"
    git(CHECKOUT, "clone", "--quiet", "--no-tags", str(CHECKOUT), str(folder))
    plant_foreign_tags(folder)
    return folder


def run(clone: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TWINLINE_HOME": str(home), "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(
        # -P: the code of this checkout, on the files of the clone
        [sys.executable, "-P", "-m", "twinline", *arguments],
        cwd=clone, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("what", ["deploy prod", "deploy v1.0.0", "fetch prod", "show prod"])
def test_a_release_that_is_elsewhere_is_one_line_that_says_how_to_get_it(clone: Path, tmp_path: Path, what: str) -> None:
    done = run(clone, tmp_path, "release", *what.split())
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "neither DVC's cache nor its remote has models/release/manifest.json" in done.stderr
    assert "this clone names no remote: `dvc remote add --local --default NAME URL`" in done.stderr


def test_a_remote_that_is_gone_is_named_with_its_address(clone: Path, tmp_path: Path) -> None:
    copy = tmp_path / "clone"
    shutil.copytree(clone, copy)
    (copy / ".dvc" / "config.local").write_text(
        f"[core]\n    remote = office\n['remote \"office\"']\n    url = {tmp_path / 'gone'}\n"
    )
    revision = Registry(copy, ENCODER).revision("prod")
    for look in (revision.read_text, revision.read_bytes, revision.names, revision.json, revision.held, revision.open):
        with pytest.raises(NotHereError, match=f"remote `office`: {tmp_path / 'gone'}"):
            look("models/release/manifest.json")
    with pytest.raises(NotHereError, match="remote `office`"):
        revision.download("models/release", tmp_path / "release")


def test_what_a_commit_never_had_is_not_taken_for_a_file_that_is_elsewhere(clone: Path, tmp_path: Path) -> None:
    revision = Registry(clone, ENCODER).revision("prod")
    for path in ("models/evaluation/verdict.json", "models/nothing.json", "nothing"):
        with pytest.raises(Exception, match="ran to its end") as refusal:
            revision.read_text(path)
        assert not isinstance(refusal.value, NotHereError)
    assert revision.names("models/nothing") == []
    # what Git has is here
    assert "stages:" in revision.read_text("dvc.yaml")
    assert revision.names("dags")


def test_the_list_of_versions_shows_what_the_tags_say(clone: Path, tmp_path: Path) -> None:
    done = run(clone, tmp_path, "release", "list")
    assert done.returncode == 0, done.stderr
    assert "r0123456789ab" in done.stdout


def test_a_schedule_is_told_that_nothing_was_compared_and_goes_on(clone: Path, tmp_path: Path) -> None:
    done = run(clone, tmp_path, "changed", "--snapshot", "s1")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert "skipped" not in said
    assert "the encoder in production is not here, so nothing is compared: neither DVC's cache" in said["why"]
    assert "Traceback" not in done.stderr
    assert isinstance(production_snapshot(clone), NotHereError)
    assert "skipped" not in decide(tmp_path, production_snapshot(clone), "s1", 0.05)


def test_a_training_goes_on_without_a_champion_that_is_elsewhere_and_says_so(clone: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert champion_or_none(Registry(clone, ENCODER), tmp_path, said.append) == ""
    [line] = said
    assert line.startswith("GOING ON WITHOUT A CHAMPION")
    assert "dvc remote add" in line


def test_a_release_that_was_fetched_before_needs_no_remote(clone: Path, tmp_path: Path) -> None:
    from tests.unit.release.factories import make_release

    made = make_release(tmp_path / "made")
    releases = tmp_path / "releases"
    releases.mkdir()
    (tmp_path / "made").rename(releases / made.release)
    copy = tmp_path / "clone"
    git(CHECKOUT, "clone", "--quiet", "--no-tags", str(CHECKOUT), str(copy))
    plant_foreign_tags(copy, f"release {made.release}\n\ngate: ok")
    registry = Registry(copy, ENCODER)
    assert fetch("prod", releases, registry).release == made.release
    assert fetch("v1.0.0", releases, registry).release == made.release


def test_tags_that_say_no_release_are_none_of_those_that_are_looked_for(clone: Path, tmp_path: Path) -> None:
    copy = tmp_path / "clone"
    git(CHECKOUT, "clone", "--quiet", "--no-tags", str(CHECKOUT), str(copy))
    plant_foreign_tags(copy, "set by hand")
    registry = Registry(copy, ENCODER)
    [entry] = registry.versions()
    assert registry.release_of(entry) == ""
    assert registry.version_of("r0123456789ab") is None
    done = run(copy, tmp_path, "release", "list")
    assert done.returncode == 0, done.stderr


def test_a_file_of_a_known_folder_that_is_missing_in_the_cache_is_not_here(clone: Path, tmp_path: Path) -> None:
    # The listing of the folder came, its files did not.
    listing = json.dumps([{"md5": "1" * 32, "relpath": "manifest.json"}])
    cache = tmp_path / "clone" / ".dvc" / "cache" / "files" / "md5" / "01"
    shutil.copytree(clone, tmp_path / "clone")
    cache.mkdir(parents=True)
    (cache / "23456789abcdef0123456789abcdef.dir").write_text(listing)
    revision = GitRevision(tmp_path / "clone", Registry(tmp_path / "clone", ENCODER).registered("prod").revision)  # type: ignore[union-attr]
    assert revision.names("models/release") == ["manifest.json"]
    with pytest.raises(NotHereError, match=r"manifest\.json"):
        revision.read_text("models/release/manifest.json")
    with pytest.raises(Exception, match="ran to its end"):
        revision.read_text("models/release/contract.json")
    with pytest.raises(NotHereError, match="models/release"):
        revision.download("models/release", tmp_path / "release")
