"""A task runs its command as a list, passes its result on, and says why it failed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import CHECKOUT

# Airflow takes seconds to import, and reads its settings then: one process of its own for all of it.
_RUN = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[1])
from datetime import UTC, datetime
from types import SimpleNamespace
from airflow.sdk import Asset
from twinline.scheduling.command_task import CommandTask, about_the_past, event_field, past_reason, project_folder

asset = Asset("corpus")

def run(arguments, **options):
    events = {asset: SimpleNamespace(extra={})}
    pushed = {}
    context = {"dag": SimpleNamespace(dag_id="d"), "run_id": "r", "outlet_events": events,
               "ti": SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))}
    task = CommandTask(task_id="t", command=["python", "-c", *arguments], updates=asset, **options)
    try:
        return ["returned", task.execute(context), events[asset].extra]
    except Exception as error:
        return [type(error).__name__, str(error), events[asset].extra, pushed]

now = datetime(2026, 5, 10, 12, tzinfo=UTC)
def dag_run(run_type, day):
    return SimpleNamespace(run_id="x", run_type=run_type, logical_date=day and datetime(2026, 5, day, tzinfo=UTC))
past = [about_the_past(dag_run(*case), now) for case in
        [("backfill", 10), ("manual", 8), ("manual", None), ("manual", 10), ("scheduled", 8), ("asset_triggered", None)]]
old = SimpleNamespace(extra={"snapshot": "s0", "about_the_past": "run x is a back-fill"})
one, two = SimpleNamespace(extra={"snapshot": "s1"}), SimpleNamespace(extra={"snapshot": "s2"})
fields = [event_field({asset: [one, two]}, "snapshot"), event_field({}, "snapshot"),
          event_field({asset: [one, old]}, "snapshot"), event_field({asset: [old]}, "snapshot")]
reasons = [past_reason({asset: [one, old]}), past_reason({}), past_reason({asset: [old]})]
runs = [run(arguments) for arguments in json.loads(sys.argv[2])]
# a command for which 1 is final, and 2 is not
own = [run(["import sys; print('%d'); sys.exit(%d)" % (code, code)], final_exit_codes={1})[0] for code in (1, 2)]
where = "import json, os; print(json.dumps({'folder': os.getcwd(), 'project': os.environ['TWINLINE_PROJECT']}))"
def configured(conf, params):
    command = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch(); print({})"
    context = {"dag": SimpleNamespace(dag_id="d", params=params), "run_id": "r", "dag_run": SimpleNamespace(conf=conf)}
    task = CommandTask(task_id="t", command=["python", "-c", command, sys.argv[3]])
    pathlib.Path(sys.argv[3]).unlink(missing_ok=True)
    try:
        return ["returned", task.execute(context), pathlib.Path(sys.argv[3]).exists()]
    except Exception as error:
        return [type(error).__name__, str(error), pathlib.Path(sys.argv[3]).exists()]

confs = [configured(*case) for case in json.loads(sys.argv[4])]
places = {"named": str(project_folder({"TWINLINE_PROJECT": "/srv/mine"})), "of the DAGs": str(project_folder({})),
          "of a task": run([where])[1]}
print(json.dumps({"confs": confs, "places": places, "runs": runs, "own": own, "fields": fields, "past": past, "reasons": reasons,
    "skipped": run(["print(1)"], skip_reason="run x is a back-fill")}))
"""
_SAY_FIRST = "import json, sys; print('noise'); print(json.dumps({'snapshot': sys.argv[1]}))"
_CASES = {
    # no shell sees the arguments
    "ended well": (_SAY_FIRST, "$(id); a b"),
    "refused": ("import sys; print('nDCG too low', file=sys.stderr); sys.exit(3)",),
    "refused with checks": ('print(\'{"refused": "nDCG too low", "checks": [1]}\'); import sys; sys.exit(3)',),
    "used wrongly": ("import sys; print('no such key'); sys.exit(2)",),
    "failed": ("import sys; print('broker away'); sys.exit(1)",),
    "said nothing": ("print('done')",),
    "said a number": ("print(3)",),
    "had nothing to do": ('print(\'{"skipped": "no release is active"}\')',),
}


# the conf of a run, the parameters of its DAG, and the parameters that are refused
_CONFS: list[tuple[Any, dict[str, str], str]] = [
    (None, {"source": ""}, ""),
    ({}, {"source": ""}, ""),
    ({"source": "files:x"}, {"source": ""}, ""),
    ({"source": "files:x"}, {"source": "", "keep": ""}, ""),
    ({"sorce": "files:x"}, {"source": ""}, "'sorce'"),
    ({"Source": "files:x"}, {"source": ""}, "'Source'"),
    ({"source ": "files:x"}, {"source": ""}, "'source '"),
    ({"source": "files:x", "snapshot": "s1"}, {"source": ""}, "'snapshot'"),
    ({"a": 1, "b": 2}, {"source": ""}, "'a', 'b'"),
    ({"source": {"source": "x"}, "params": {}}, {"source": ""}, "'params'"),
    ({"": "x"}, {"source": ""}, "''"),
    ({"source": "x"}, {}, "'source'"),
]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    project = tmp_path_factory.mktemp("project")
    places = {"AIRFLOW_HOME": str(project / "airflow"), "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags")}
    environment = {**os.environ, **places}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _RUN, str(CHECKOUT / "dags"), json.dumps(list(_CASES.values())),
         str(project / "ran"), json.dumps([case[:2] for case in _CONFS])],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = json.loads(done.stdout.splitlines()[-1])
    return dict(zip(_CASES, said["runs"], strict=True)) | {
        name: said[name] for name in ("confs", "places", "fields", "own", "past", "reasons", "skipped")
    }


def test_the_result_is_returned_and_attached_to_the_asset(outcome: dict[str, list[object]]) -> None:
    result = {"snapshot": "$(id); a b"}
    assert outcome["ended well"] == ["returned", result, {**result, "about_the_past": ""}]


@pytest.mark.parametrize(
    ("case", "raised", "said"),
    [
        # not tried again, and the last line is the reason
        ("refused", "AirflowFailException", "nDCG too low"),
        ("used wrongly", "AirflowFailException", "no such key"),
        ("refused with checks", "AirflowFailException", "refused: nDCG too low"),
        # anything else may be tried again
        ("failed", "AirflowException", "ended with 1: broker away"),
        # a result that the next task could not read
        ("said nothing", "AirflowFailException", "must be a JSON object, found 'done'"),
        ("said a number", "AirflowFailException", "must be a JSON object, found '3'"),
        # shown as skipped, for the reason given, and no asset is updated
        ("had nothing to do", "AirflowSkipException", "no release is active"),
    ],
)
def test_a_failure_says_why_and_whether_to_try_again(outcome: dict[str, list[object]], case: str, raised: str, said: str) -> None:
    name, message, attached, _ = outcome[case]
    assert name == raised
    assert said in str(message)
    assert attached == {}


def test_a_task_works_in_the_project_that_is_named_or_that_the_dags_lie_in(outcome: dict[str, Any]) -> None:
    places = outcome["places"]
    assert places["named"] == "/srv/mine"
    assert Path(places["of the DAGs"]).name.startswith("project")
    # and so do the commands that its command starts
    assert places["of a task"] == {"folder": places["of the DAGs"], "project": places["of the DAGs"]}


def test_a_task_may_say_itself_which_exit_codes_are_final(outcome: dict[str, list[object]]) -> None:
    assert outcome["own"] == ["AirflowFailException", "AirflowException"]


def test_the_newest_event_counts_and_a_run_by_hand_has_none(outcome: dict[str, list[object]]) -> None:
    # what a back-fill made is no reason, as long as something else is
    assert outcome["fields"] == ["s2", "", "s1", ""]


def test_what_a_refusal_was_judged_by_stays_with_the_task(outcome: dict[str, list[object]]) -> None:
    assert outcome["refused with checks"][3] == {"return_value": {"refused": "nDCG too low", "checks": [1]}}
    assert outcome["refused"][3] == {}


def test_a_back_fill_and_a_run_by_hand_for_an_older_interval_are_about_the_past(outcome: dict[str, list[object]]) -> None:
    backfill, manual_for_an_old_one, manual, manual_for_today, late, by_asset = outcome["past"]
    assert backfill == "run x is a back-fill"
    assert "2026-05-08" in str(manual_for_an_old_one)
    # a late scheduled run still is the present
    assert [manual, manual_for_today, late, by_asset] == [""] * 4


def test_a_run_that_only_the_past_has_started_is_skipped_before_its_command_runs(outcome: dict[str, list[object]]) -> None:
    assert outcome["reasons"] == ["", "", "run x is a back-fill"]
    assert outcome["skipped"][:2] == ["AirflowSkipException", "run x is a back-fill"]


@pytest.mark.parametrize("case", range(len(_CONFS)), ids=lambda case: str(_CONFS[case][0]))
def test_a_parameter_that_the_dag_does_not_have_fails_the_task_at_once_and_names_the_known_ones(
    outcome: dict[str, Any], case: int
) -> None:
    _, params, refused = _CONFS[case]
    found = outcome["confs"][case]
    if not refused:
        assert found == ["returned", {}, True]
        return
    known = f"known are {', '.join(params)}" if params else "this DAG has none"
    # not tried again, and its command never ran
    assert found == ["AirflowFailException", f"unknown parameter {refused} in the run's conf: {known}", False]
