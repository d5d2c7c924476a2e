"""A task runs its command as a list, passes its result on, and says why it failed."""

import json
import os
import subprocess
import sys

import pytest

from clients.settings import CHECKOUT

# Airflow takes seconds to import, and reads its settings then: one process of its own for all of it.
_RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
from airflow.sdk import Asset
from command_task import CommandTask, event_field

asset = Asset("corpus")

def run(arguments, **options):
    events = {asset: SimpleNamespace(extra={})}
    context = {"dag": SimpleNamespace(dag_id="d"), "run_id": "r", "outlet_events": events}
    task = CommandTask(task_id="t", command=["python", "-c", *arguments], updates=asset, **options)
    try:
        return ["returned", task.execute(context), events[asset].extra]
    except Exception as error:
        return [type(error).__name__, str(error), events[asset].extra]

one, two = SimpleNamespace(extra={"snapshot": "s1"}), SimpleNamespace(extra={"snapshot": "s2"})
fields = [event_field({asset: [one, two]}, "snapshot"), event_field({}, "snapshot")]
runs = [run(arguments) for arguments in json.loads(sys.argv[2])]
# a command for which 1 is final, and 2 is not
own = [run(["import sys; print('%d'); sys.exit(%d)" % (code, code)], final_exit_codes={1})[0] for code in (1, 2)]
print(json.dumps({"runs": runs, "own": own, "fields": fields}))
"""
_SAY_FIRST = "import json, sys; print('noise'); print(json.dumps({'snapshot': sys.argv[1]}))"
_CASES = {
    # no shell sees the arguments
    "ended well": (_SAY_FIRST, "$(id); a b"),
    "refused": ("import sys; print('nDCG too low', file=sys.stderr); sys.exit(3)",),
    "used wrongly": ("import sys; print('no such key'); sys.exit(2)",),
    "failed": ("import sys; print('broker away'); sys.exit(1)",),
    "said nothing": ("print('done')",),
    "said a number": ("print(3)",),
    "had nothing to do": ('print(\'{"skipped": "no release is active"}\')',),
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _RUN, str(CHECKOUT / "dags"), json.dumps(list(_CASES.values()))],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = json.loads(done.stdout.splitlines()[-1])
    return dict(zip(_CASES, said["runs"], strict=True)) | {"fields": said["fields"], "own": said["own"]}


def test_the_result_is_returned_and_attached_to_the_asset(outcome: dict[str, list[object]]) -> None:
    result = {"snapshot": "$(id); a b"}
    assert outcome["ended well"] == ["returned", result, result]


@pytest.mark.parametrize(
    ("case", "raised", "said"),
    [
        # not tried again, and the last line is the reason
        ("refused", "AirflowFailException", "nDCG too low"),
        ("used wrongly", "AirflowFailException", "no such key"),
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
    name, message, attached = outcome[case]
    assert name == raised
    assert said in str(message)
    assert attached == {}


def test_a_task_may_say_itself_which_exit_codes_are_final(outcome: dict[str, list[object]]) -> None:
    assert outcome["own"] == ["AirflowFailException", "AirflowException"]


def test_the_newest_event_counts_and_a_run_by_hand_has_none(outcome: dict[str, list[object]]) -> None:
    assert outcome["fields"] == ["s2", ""]
