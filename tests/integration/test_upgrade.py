"""An upgrade: what commit 4b22519 made and left running is served, traced, compared, rolled back and deployed by this code."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from kafka import KafkaProducer

from tests.integration.conftest import Stack
from tests.integration.old_home import BASE_MODEL, Installation, bring_up_to_date, go_back, old_installation, require_history
from triton_models.names import embed_model
from twinline.clients.online import AdminClient
from twinline.clients.triton.control import TritonControl
from twinline.contract.documents.records import encode_key
from twinline.contract.release.manifest import collection_name

# Two training runs and two exports, where none are kept from an earlier session.
pytestmark = pytest.mark.timeout(1500)

QUESTION: Final = "what is broker 2"
FERRY: Final = "The ferry Amaranth carries crates of quinces from pier nine to Saltholm every morning."
SECRET: Final = "This one is about a person, and goes."
_PATIENCE_SECONDS: Final = 120
# What a trace may say of an old release; DIFFERS and NOT HERE are faults.
_GOOD: Final = {"VERIFIED", "RECORDED"}

# A worker of the old code starts a task's command, defers the task, and is gone.
_DEFER: Final = """
import json, sys
sys.path.insert(0, "dags")
from datetime import timedelta
from types import SimpleNamespace
import command_task
from airflow.sdk.exceptions import TaskDeferred
command_task._PATIENCE_SECONDS = 0.5
task = command_task.CommandTask(
    task_id="build", command=["python", "-c", *sys.argv[1:]], takes_long=True, execution_timeout=timedelta(hours=2)
)
try:
    task.execute({"dag": SimpleNamespace(dag_id="release_encoder"), "run_id": "manual__2026-05-01T00:00:00+00:00", "task": task})
except TaskDeferred as deferred:
    print(json.dumps({"trigger": deferred.trigger.serialize(), "method": deferred.method_name}))
"""
# The triggerer and the worker of the new code: the trigger is imported by the name that Airflow's database has.
_RESUME: Final = """
import asyncio, json, os, sys
from datetime import timedelta
from types import SimpleNamespace
from airflow._shared.module_loading import import_string
from twinline.scheduling import command_task, detached
deferred = json.loads(sys.argv[1])
classpath, arguments = deferred["trigger"]
async def first_event(trigger):
    async for event in trigger.run():
        return event.payload
event = asyncio.run(first_event(import_string(classpath)(**arguments)))
task = command_task.CommandTask(task_id="build", command=["python"], takes_long=True, execution_timeout=timedelta(hours=2))
context = {"dag": SimpleNamespace(dag_id="release_encoder"), "run_id": "manual__2026-05-01T00:00:00+00:00", "task": task}
result = task.resume_execution(deferred["method"], {"event": event}, context)
left = detached.look(command_task.command_folder(context, os.environ)).phase
print(json.dumps({"event": event, "result": result, "left": left}))
"""
# It ends when a file appears.
_WAITS: Final = """
import json, pathlib, sys, time
give_up = time.monotonic() + 1500
while not pathlib.Path(sys.argv[1]).exists() and time.monotonic() < give_up:
    time.sleep(0.1)
print(json.dumps({"release": "r1", "as": sys.argv[2]}))
"""


@dataclass(frozen=True)
class Before:
    """What the old code made and said.

    Args:
        base: the untuned base model's release, deployed first.
        first: release of v1.0.0, active at the end.
        second: release of v2.0.0, which was registered and never fetched.
        answers: what each release answered to the question.
        letters: the dead letters as they were listed.
        models: a hash of every published file of the model repository.
        trained_on: the snapshot of the versions, whose documents were published.
        snapshot: of the log, in the snapshot store.
        deferred: what Airflow's database has of a deferred task.
    """

    base: str
    first: str
    second: str
    answers: Mapping[str, list[dict[str, Any]]]
    letters: list[dict[str, Any]]
    models: Mapping[str, str]
    trained_on: str
    snapshot: str
    deferred: Mapping[str, Any]


@dataclass(frozen=True)
class Upgraded:
    """The upgraded installation, whose stack runs, and what was there before."""

    installed: Installation
    stack: Stack
    before: Before
    go: Path
    exported: Path

    def release(self, *arguments: str) -> dict[str, Any]:
        """Run `twinline release ARGUMENTS`, which must succeed."""
        return self.installed.require("twinline", "release", *arguments)

    def active(self) -> str:
        """Return the release that answers."""
        with closing(AdminClient(self.stack.settings.admin_url)) as admin:
            return (admin.status().active or "").removeprefix(collection_name(""))


@pytest.fixture(scope="module")
def upgraded(
    make_stack: Callable[[str], Stack], short_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Upgraded]:
    require_history()
    stack = make_stack("upgrade")
    environment = {key: value for key, value in stack.environment.items() if not key.startswith("KAFKA_")}
    old, go, exported = short_folder / "old", stack.home / "go", tmp_path_factory.mktemp("base") / "release"
    installed = old_installation(old, stack.home, environment)
    with ExitStack() as ending:
        ending.callback(installed.run, "twinline", "down")
        # The deferred task's command waits for it.
        ending.callback(go.touch)
        before = _use(installed, stack, old / "base", _write_notes(short_folder / "notes"), go)
        bring_up_to_date(installed)
        command = [sys.executable, "-m", "export", "base", "--base-model", BASE_MODEL, "--no-words", "--out", str(exported)]
        exporting = subprocess.Popen(command, cwd=installed.checkout, env=installed.variables(), stdout=2)
        ending.enter_context(exporting)
        ending.callback(exporting.kill)
        installed.require("twinline", "up", "--no-scheduler")
        _wait_until_served(stack, before.base, before.first)
        assert exporting.wait(timeout=600) == 0
        yield Upgraded(installed, stack, before, go, exported)


def _use(old: Installation, stack: Stack, base: Path, notes: Path, go: Path) -> Before:
    """Do with the old code what a team did: two releases, documents, an erasure, a mistake; then stop it."""
    deferred = _python(old, _DEFER, _WAITS, str(go), "asked for before the upgrade")
    old.require("twinline", "up", "--no-scheduler")
    old.require("twinline", "publish", "--source", f"notes=files:{notes}")
    stored = next(path.parent.name for path in (old.home / "snapshots").glob("s*/snapshot.json"))
    old.require("etl", "publish", "--snapshot", stored)
    _send(stack, encode_key("notes", "odd"), b"no json")
    untuned = old.require("twinline", "release", "deploy", str(base))["release"]
    old.require("twinline", "erase", "--source", "notes", "--document", "person.md", "--reason", "asked to", "--yes", "--json")
    answers = {untuned: _answer(old)}
    first = old.require("twinline", "release", "deploy", "v1.0.0")["release"]
    answers[first] = _answer(old)
    snapshot = old.require("etl", "ingest", "--source", "kafka:", "--store")["snapshot"]
    letters = old.require("twinline", "dead-letters", "list", "--json")["entries"]
    listed = old.require("twinline", "release", "list", "--json")["releases"]
    second = next(row["release"] for row in listed if row["version"] == "v2.0.0")
    old.require("twinline", "down")
    models = _hashes(stack.settings.model_repository)
    return Before(untuned, first, second, answers, letters, models, stored, snapshot, deferred)


def test_a_packaged_base_release_is_the_same_but_for_when_and_by_which_commit(upgraded: Upgraded, short_folder: Path) -> None:
    before, after = (
        json.loads((folder / "manifest.json").read_text()) for folder in (_old_base(short_folder), upgraded.exported)
    )
    assert after["release"] == before["release"] == upgraded.before.base
    assert after["lineage"].keys() == before["lineage"].keys()
    differing = {name for name, value in before["lineage"].items() if after["lineage"][name] != value}
    assert differing == {"git_revision", "created_at"}
    assert {**after, "lineage": None} == {**before, "lineage": None}
    named = {name: digest for name, digest in _hashes(upgraded.exported).items() if name != "manifest.json"}
    assert named == {name: digest for name, digest in _hashes(_old_base(short_folder)).items() if name != "manifest.json"}


def test_both_collections_are_served_and_the_active_one_answers_as_before(upgraded: Upgraded) -> None:
    before = upgraded.before
    assert upgraded.active() == before.first
    assert _answer(upgraded.installed) == before.answers[before.first]
    assert len(before.answers[before.first]) == 5
    with closing(AdminClient(upgraded.stack.settings.admin_url)) as admin:
        status = admin.status()
        # the inactive one answers as it did when it was the active one
        found = admin.search(collection_name(before.base), QUESTION, 5)["hits"]
    assert status.refused == {}
    assert {entry.release: entry.faults for entry in status.collections} == {before.base: [], before.first: []}
    assert [{**_part_of(hit), "release": before.base} for hit in found] == before.answers[before.base]


def test_models_are_loaded_as_the_old_code_published_them(upgraded: Upgraded) -> None:
    repository = upgraded.stack.settings.model_repository
    assert _hashes(repository) == upgraded.before.models
    for release in (upgraded.before.base, upgraded.before.first):
        # the code that they were published with lies beside them
        assert (repository / f"tokenizer_{release}" / "1" / "contract" / "tokens.py").is_file()
        with closing(TritonControl(upgraded.stack.settings.triton_grpc_address)) as control:
            assert control.ready(embed_model(release))


def test_what_is_known_of_the_old_releases_is_shown(upgraded: Upgraded) -> None:
    before = upgraded.before
    rows = {row["release"]: row for row in upgraded.release("list", "--json")["releases"]}
    assert {release: (row["version"], row["state"]) for release, row in rows.items()} == {
        before.base: ("", "served, rollback goes here"),
        before.first: ("v1.0.0", "active"),
        before.second: ("v2.0.0", ""),
    }
    assert rows[before.first]["verified"] == "passed"
    shown = upgraded.release("show", "v1.0.0", "--json")
    assert shown["stages"] == ["prod"]
    assert shown["params"]["train"]["max_steps"] == 2
    assert shown["verdict"]["accepted"] is True
    assert shown["data"]["counts"]["documents"] == 60
    assert [(entry["kind"], entry["before"]) for entry in shown["promotions"]] == [("promote", before.base)]
    checks = {check["name"]: check for check in shown["verification"]["checks"]}
    assert checks["live quality"]["numbers"]["measured"] is True
    difference = upgraded.release("diff", "v1.0.0", "v2.0.0", "--json")
    assert difference["same_space"] is True
    assert [(row["what"], row["b"]) for row in difference["sections"]["parameters"]] == [("index.m", 8)]
    assert upgraded.release("show", before.base, "--json")["served"]["active"] is False


def test_the_gate_and_the_share_of_changes_read_an_old_experiment(upgraded: Upgraded) -> None:
    checks = upgraded.release("gate", "first")["checks"]
    assert all(check["passed"] for check in checks)
    changed = upgraded.installed.require("twinline", "changed", "--snapshot", upgraded.before.snapshot)
    assert changed["share"] > 0


def test_a_hit_and_a_document_are_traced_to_their_bytes_and_to_the_old_experiment(upgraded: Upgraded) -> None:
    searched = upgraded.installed.run("twinline", "search", QUESTION, "--limit", "1", "--json")
    traced = upgraded.installed.run("twinline", "trace", "-", "--json", stdin=searched.stdout)
    steps = json.loads(traced.stdout)["steps"]
    assert [step for step in steps if step["status"] not in _GOOD and step["section"] != "source"] == []
    assert traced.returncode == 0
    status = {f"{step['section']}: {step['what']}": step["status"] for step in steps}
    for name in ("parameters", "data/snapshot in dvc.lock", "data/pairs in dvc.lock", "models/release in dvc.lock", "snapshot"):
        assert status[f"training: {name}"] == "VERIFIED"
    for name in ("message: content SHA-256", "chunk: content hash", "contract: contract", "release: space"):
        assert status[name] == "VERIFIED"

    note = upgraded.installed.run("twinline", "trace", "notes/ferry.md", "--json")
    steps = json.loads(note.stdout)["steps"]
    assert [step for step in steps if step["status"] not in _GOOD] == []
    followed = upgraded.installed.run("twinline", "trace", "--document", "d3", "--json")
    assert followed.returncode == 0, followed.stdout
    said = json.dumps(json.loads(followed.stdout)["steps"])
    assert "training pairs" in said or "held out" in said


def test_log_and_collections_agree_and_no_hop_of_the_old_releases_is_off(upgraded: Upgraded) -> None:
    compared = upgraded.installed.require("twinline", "reconcile", "--json")
    found = {entry["after"]["release"]: entry["after"]["clean"] for entry in compared["collections"]}
    assert found == {upgraded.before.base: True, upgraded.before.first: True}
    report = upgraded.installed.require("twinline", "skew", "--sample", "10", "--json")
    assert (report["release"], report["ok"]) == (upgraded.before.first, True)


def test_dead_letters_are_listed_and_what_was_erased_stays_out(upgraded: Upgraded) -> None:
    listed = upgraded.installed.require("twinline", "dead-letters", "list", "--json")["entries"]
    assert listed == upgraded.before.letters
    assert [(entry["reason"], entry["key"]) for entry in listed] == [("invalid_json", "odd")]
    assert len(upgraded.installed.require("twinline", "erase", "--list", "--json")["erased"]) == 1
    lines = json.dumps({"source": "notes", "key": "person.md", "text": SECRET})
    refused = upgraded.installed.run("twinline", "publish", "-", stdin=lines)
    assert (refused.returncode, "because they were erased" in refused.stderr) == (1, True)
    # a producer that asks nobody
    _send(upgraded.stack, encode_key("notes", "person.md"), json.dumps({"text": SECRET}).encode())
    upgraded.installed.require("twinline", "publish", "-", stdin=json.dumps({"source": "notes", "key": "later", "text": "tide"}))
    with closing(AdminClient(upgraded.stack.settings.admin_url)) as admin:
        for release in (upgraded.before.base, upgraded.before.first):
            name = collection_name(release)
            _until(lambda name=name: admin.head(name, "notes", "later") is not None)
            head = admin.head(name, "notes", "person.md")
            assert head is not None
            assert head.deleted
    assert [hit for hit in _answer(upgraded.installed, SECRET) if hit["key"] == "person.md"] == []


def test_documents_that_did_not_change_are_not_published_again(upgraded: Upgraded) -> None:
    report = upgraded.installed.require("etl", "publish", "--snapshot", upgraded.before.trained_on)
    assert (report["sent"], report["unchanged"]) == (0, 60)


def test_the_way_back_and_forth_is_open(upgraded: Upgraded) -> None:
    before = upgraded.before
    assert upgraded.release("rollback") == {"release": before.base, "before": before.first}
    assert _answer(upgraded.installed)[0]["release"] == before.base
    assert upgraded.release("promote", before.first)["before"] == before.base
    assert upgraded.active() == before.first


def test_a_version_that_was_registered_before_is_deployed_and_an_old_release_retired(upgraded: Upgraded) -> None:
    before = upgraded.before
    # The files come from the remote, as on a machine that has never held them.
    _remove(upgraded.installed.checkout / ".dvc" / "cache")
    assert upgraded.release("fetch", "v2.0.0")["release"] == before.second
    assert upgraded.release("deploy", "v2.0.0")["release"] == before.second
    answer = _answer(upgraded.installed)
    assert {hit["release"] for hit in answer} == {before.second}
    assert upgraded.release("list", "--json")["releases"][0]["stages"] == ["prod"]
    assert upgraded.release("retire", before.base)["retired"] is True
    with closing(AdminClient(upgraded.stack.settings.admin_url)) as admin:
        assert {entry.release for entry in admin.status().collections} == {before.first, before.second}
    assert not list(upgraded.stack.settings.model_repository.glob(f"*_{before.base}"))


def test_a_task_that_was_deferred_before_resumes_under_the_former_name_of_its_trigger(upgraded: Upgraded) -> None:
    deferred = upgraded.before.deferred
    assert deferred["trigger"][0] == "command_trigger.CommandEnd"
    upgraded.go.touch()
    resumed = _python(upgraded.installed, _RESUME, json.dumps(deferred), path=("dags", "."))
    assert resumed == {
        "event": {"phase": "ended"},
        "result": {"release": "r1", "as": "asked for before the upgrade"},
        "left": "absent",
    }


def test_a_lock_file_with_the_former_names_of_stages_is_read(upgraded: Upgraded) -> None:
    checkout = upgraded.installed.checkout
    experiment = subprocess.run(["git", "show", "encoder@v1.0.0:dvc.lock"], cwd=checkout, capture_output=True, check=True)
    (checkout / "dvc.lock").write_bytes(experiment.stdout)
    try:
        # Every stage is to be run again, none is an error.
        stale = upgraded.installed.run("dvc", "status", "--json")
    finally:
        (checkout / "dvc.lock").unlink()
    assert stale.returncode == 0, stale.stderr
    assert {"ingest", "prepare", "encoder-pairs", "encoder-train", "encoder-package"} <= json.loads(stale.stdout).keys()


# The last one: after it the old code runs again.
def test_the_old_code_goes_on_with_what_the_new_code_made(upgraded: Upgraded) -> None:
    before, found = upgraded.before, _answer(upgraded.installed)
    upgraded.installed.require("twinline", "down")
    go_back(upgraded.installed)
    upgraded.installed.require("twinline", "up", "--no-scheduler")
    _wait_until_served(upgraded.stack, before.first, before.second)
    assert _answer(upgraded.installed) == found
    assert upgraded.release("rollback")["release"] == before.first


def _write_notes(folder: Path) -> Path:
    folder.mkdir()
    (folder / "ferry.md").write_text(f"# Ferry\n\n{FERRY}\n")
    (folder / "person.md").write_text(f"# Person\n\n{SECRET}\n")
    return folder


def _old_base(short_folder: Path) -> Path:
    return short_folder / "old" / "base"


def _answer(installed: Installation, question: str = QUESTION) -> list[dict[str, Any]]:
    done = installed.run("twinline", "search", question, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return [_part_of(hit) | {"release": answer["release"]} for hit in answer["hits"]]


def _part_of(hit: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must not change of a hit."""
    return {name: hit[name] for name in ("source", "key", "title", "point", "score", "chunk")}


def _send(stack: Stack, key: bytes, value: bytes) -> None:
    """Put a message on the log as a producer that knows nothing of us does."""
    with closing(KafkaProducer(bootstrap_servers=stack.settings.kafka_address)) as producer:
        producer.send(stack.settings.topic, key=key, value=value).get(timeout=30)


def _python(installed: Installation, program: str, *arguments: str, path: tuple[str, ...] = (".",)) -> dict[str, Any]:
    """Run a program in the checkout, as a part of Airflow would, and return the JSON object that it prints last."""
    found = ":".join(str(installed.checkout / folder) for folder in path)
    environment = installed.variables() | {"PYTHONPATH": found, "AIRFLOW_HOME": str(installed.home / "airflow")}
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    done = subprocess.run(
        command, cwd=installed.checkout, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    value: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return value


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _wait_until_served(stack: Stack, *releases: str) -> None:
    with closing(AdminClient(stack.settings.admin_url)) as admin:
        _until(lambda: {entry.release for entry in admin.status().collections if entry.consumer_running} == {*releases})


def _until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.2)


def _remove(folder: Path) -> None:
    """Remove a folder that holds files which DVC has made read-only."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)
