"""A back-fill starts the runs that it names: it moves no DAG's next run, and none is made up for."""

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from tests.checkout import CHECKOUT
from twinline.clients.settings import Settings
from twinline.stack import airflow

# As Airflow does it: the DAG is stored and made again, and the next run is asked for after the newest automated one.
_ASK = """
import json, sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.types import DagRunType

bag = BundleDagBag(sys.argv[1], bundle_path=sys.argv[1])
now = datetime.now(UTC)

def run(run_type, days):
    at = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)
    from airflow.timetables.base import DataInterval
    return SimpleNamespace(run_type=run_type, run_after=at, logical_date=at, data_interval_start=at, data_interval_end=at,
                           partition_date=None, partition_key=None)

def next_run(dag, reference):
    info = dag.timetable.run_info_from_dag_run(dag_run=reference) if reference else None
    found = dag.next_dagrun_info(last_automated_run_info=info)
    return (found.run_after - now).total_seconds() if found else None

cases = {
    "none": None,
    **{f"back-fill {days}": run(DagRunType.BACKFILL_JOB, days) for days in (0, 1, 2, 7, 30, 365, 3650)},
    "back-fill by its word": run("backfill", 1),
    **{f"scheduled {days}": run(DagRunType.SCHEDULED, days) for days in (0, 1, 30)},
}
found = {}
for dag in bag.dags.values():
    stored = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    if stored.timetable.periodic:
        found[dag.dag_id] = {"timetable": type(stored.timetable).__name__,
                             "next": {name: next_run(stored, case) for name, case in cases.items()}}
print(json.dumps({"errors": bag.import_errors, "found": found}))
"""


@cache
def asked(home: str) -> dict[str, Any]:
    settings = airflow.environment(Settings(project=CHECKOUT), CHECKOUT / ".venv" / "bin")
    environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__PLUGINS_FOLDER": settings["AIRFLOW__CORE__PLUGINS_FOLDER"]}
    environment["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ASK, str(CHECKOUT / "dags")],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    said = asked(str(tmp_path_factory.mktemp("airflow")))
    assert said["errors"] == {}
    return dict(said["found"])


DAGS = ("ingest_documents", "retire_releases", "reconcile_index", "watch_skew")


@pytest.mark.parametrize("name", DAGS)
def test_a_back_fill_starts_no_run_beside_those_that_it_names(found: dict[str, Any], name: str) -> None:
    following = found[name]["next"]
    back_fills = {case: seconds for case, seconds in following.items() if case.startswith(("none", "back-fill"))}
    assert len(back_fills) == 9
    assert all(seconds > 0 for seconds in back_fills.values()), back_fills
    assert set(back_fills.values()) == {following["none"]}


@pytest.mark.parametrize("name", DAGS)
def test_a_time_that_was_missed_after_a_scheduled_run_is_still_made_up_for(found: dict[str, Any], name: str) -> None:
    # A laptop that slept at midnight: the run comes late, once.
    assert -86_400 <= found[name]["next"]["scheduled 30"] <= 0


def test_every_scheduled_dag_has_this_timetable(found: dict[str, Any]) -> None:
    assert {name: dag["timetable"] for name, dag in found.items()} == dict.fromkeys(DAGS, "OnTheClock")
