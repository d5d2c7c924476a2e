"""Every DAG is a table of contents: documented, bounded, one run at a time, one command a task."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import CHECKOUT
from twinline.clients.run import FAILED as EXIT_FAILED
from twinline.commands.reconcile import EXIT_UNMEASURED as UNCOMPARED
from twinline.commands.skew import EXIT_UNMEASURED
from twinline.demo.chain import CHAIN
from twinline.demo.show import DOES

# The parts of the DAGs.
MODULES = {"command_trigger"}
DAGS = sorted(path.stem for path in (CHECKOUT / "dags").glob("*.py") if path.stem not in MODULES)

# Airflow reads its settings and makes folders when it is imported: in a process of its own, with a home of its own.
_READ = """
import json, sys
from airflow.dag_processing.dagbag import BundleDagBag
heavy = sorted({"torch", "daft", "transformers", "dvc", "kafka", "qdrant_client"} & set(sys.modules))
bag = BundleDagBag(sys.argv[1], bundle_path=sys.argv[1])
heavy = sorted({"torch", "daft", "transformers", "dvc", "kafka", "qdrant_client"} & set(sys.modules) - set(heavy))
dags = {
    dag.dag_id: {
        "file": dag.fileloc, "doc": dag.doc_md, "catchup": dag.catchup, "runs": dag.max_active_runs, "tags": sorted(dag.tags),
        "paused_by_default": dag.is_paused_upon_creation,
        "schedule": type(dag.timetable).__name__,
        "tasks": [
            {"id": task.task_id, "operator": type(task).__name__, "command": [str(part) for part in task.command],
             "retries": task.retries, "takes_long": task.takes_long, "skip_reason": task.skip_reason,
             "final": sorted(task.final_exit_codes), "delay": task.retry_delay.total_seconds(),
             "limit": task.execution_timeout and task.execution_timeout.total_seconds(),
             "after": sorted(task.upstream_task_ids), "updates": [asset.name for asset in task.outlets]}
            for task in dag.topological_sort()
        ],
    }
    for dag in bag.dags.values()
}
print(json.dumps({"errors": bag.import_errors, "dags": dags, "heavy": heavy}))
"""


@cache
def read_dags(home: Path) -> dict[str, Any]:
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(CHECKOUT / "dags")], env=environment, capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return read_dags(tmp_path_factory.mktemp("airflow"))


def test_every_file_parses_and_brings_no_heavy_import(bag: dict[str, Any]) -> None:
    assert bag["errors"] == {}
    assert bag["heavy"] == []
    assert sorted(bag["dags"]) == DAGS


@pytest.mark.parametrize("name", DAGS)
def test_a_dag_is_named_as_its_file_documented_and_runs_once_at_a_time(bag: dict[str, Any], name: str) -> None:
    dag = bag["dags"][name]
    assert Path(dag["file"]).stem == name
    assert dag["doc"].startswith(f"# {name}\n")
    assert dag["catchup"] is False
    assert dag["runs"] == 1
    assert "twinline" in dag["tags"]
    # each task has its row in the documentation
    assert [task["id"] for task in dag["tasks"] if f"| `{task['id']}` |" not in dag["doc"]] == []


@pytest.mark.parametrize("name", DAGS)
def test_every_task_is_one_command_with_retries_and_a_limit(bag: dict[str, Any], name: str) -> None:
    for task in bag["dags"][name]["tasks"]:
        place = f"{name}.{task['id']}"
        assert task["operator"] == "CommandTask", place
        assert task["command"][:2] == ["python", "-m"], place
        assert f"`{' '.join(task['command'][:4])}`" in bag["dags"][name]["doc"], place
        assert task["limit"], place
        # a verdict that was read once reads the same again
        assert task["retries"] == (0 if task["id"] == "gate" else 2), place
        assert task["delay"] >= timedelta(seconds=10).total_seconds(), place


def test_tasks_stand_in_a_row_as_the_demo_shows_them(bag: dict[str, Any]) -> None:
    for dag_id, tasks in CHAIN:
        found = bag["dags"][dag_id]["tasks"]
        assert tuple(task["id"] for task in found) == tasks
        # each after the one before it, and what it takes from others came earlier
        assert all(before["id"] in task["after"] for before, task in pairwise(found))
    assert list(DOES) == [f"{dag_id}.{task}" for dag_id, tasks in CHAIN for task in tasks]


def test_what_takes_long_holds_no_worker(bag: dict[str, Any]) -> None:
    found = {name: [task["id"] for task in dag["tasks"] if task["takes_long"]] for name, dag in bag["dags"].items()}
    assert {name: tasks for name, tasks in found.items() if tasks} == {
        "release_encoder": ["build", "verify"],
        "train_encoder": ["train"],
    }


def test_training_begins_with_the_question_whether_enough_changed_and_a_back_fill_does_not_get_that_far(
    bag: dict[str, Any],
) -> None:
    first = bag["dags"]["train_encoder"]["tasks"][0]
    assert first["command"][:5] == ["python", "-m", "twinline", "changed", "--snapshot"]
    assert "past_reason(triggering_asset_events)" in first["skip_reason"]
    # by hand there is no event, and it always trains
    assert first["command"][-1] == "{{ params.min_changed_share if triggering_asset_events else 0 }}"


def test_going_back_is_done_by_hand_and_retiring_by_the_clock(bag: dict[str, Any]) -> None:
    [back] = bag["dags"]["rollback_release"]["tasks"]
    assert back["command"] == ["python", "-m", "twinline.release", "rollback", "--to", "{{ params.release }}"]
    assert bag["dags"]["rollback_release"]["schedule"] == "NullTimetable"
    retiring = bag["dags"]["retire_releases"]
    assert retiring["schedule"] == "OnTheClock"
    assert [task["command"][3] for task in retiring["tasks"]] == ["repair", "retire"]
    assert retiring["tasks"][1]["command"][-1] == "{{ params.keep }}"


def test_one_dag_starts_the_next_by_an_asset(bag: dict[str, Any]) -> None:
    dags = bag["dags"]
    assert dags["ingest_documents"]["tasks"][-1]["updates"] == ["corpus"]
    assert dags["train_encoder"]["schedule"] == "AssetTriggeredTimetable"
    assert dags["train_encoder"]["tasks"][-1]["updates"] == ["encoder"]
    assert dags["release_encoder"]["schedule"] == "AssetTriggeredTimetable"
    # only the last task of a DAG: what was not registered must not be released
    assert [task["updates"] for dag in dags.values() for task in dag["tasks"][:-1] if task["updates"]] == []


def test_skew_is_watched_every_six_hours_and_raises_the_alarm_at_once(bag: dict[str, Any]) -> None:
    dag = bag["dags"]["watch_skew"]
    assert dag["schedule"] == "OnTheClock"
    [task] = dag["tasks"]
    assert task["command"] == ["python", "-m", "twinline", "skew", "--json"]
    # skew found is not tried again; what is away is
    assert task["final"] == [EXIT_FAILED]
    assert EXIT_UNMEASURED not in task["final"]
    alarms = {"watch_skew", "reconcile_index"}
    assert all(task["final"] == [2, 3] for name, other in bag["dags"].items() if name not in alarms for task in other["tasks"])


def test_index_and_log_are_compared_every_day_and_a_difference_is_an_alarm_at_once(bag: dict[str, Any]) -> None:
    dag = bag["dags"]["reconcile_index"]
    assert dag["schedule"] == "OnTheClock"
    [task] = dag["tasks"]
    assert task["command"][:4] == ["python", "-m", "twinline", "reconcile"]
    assert task["final"] == [EXIT_FAILED]
    assert UNCOMPARED not in task["final"]


def test_dead_letters_are_replayed_by_hand_only(bag: dict[str, Any]) -> None:
    assert bag["dags"]["replay_dead_letters"]["schedule"] == "NullTimetable"
