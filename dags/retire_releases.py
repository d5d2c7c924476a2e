"""# retire_releases

Take unneeded releases out of service: each costs memory in Triton and its share of indexing. Daily.

| task | command | gives |
| --- | --- | --- |
| `repair` | `python -m twinline.release repair` | model `embed`, stage `prod` and journal agree with the release that answers |
| `retire` | `python -m twinline.release retire` | the retired releases, and the ones left |

The active release, the `keep` releases active before it, and releases in preparation stay. Releases that were active earlier go,
and so do verified ones that were passed over. The registry keeps every version, and `release_encoder` brings any of them back.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from twinline.scheduling.command_task import CommandTask, dag_options
from twinline.scheduling.timetable import OnTheClock

DAILY = OnTheClock("0 3 * * *")

with DAG(
    "retire_releases",
    schedule=DAILY,
    params={"keep": Param(2, type="integer", minimum=0, description="number of releases before the active one that stay")},
    **dag_options(__doc__, ["serving"]),
):
    repair = CommandTask(
        task_id="repair",
        command=["python", "-m", "twinline.release", "repair"],
        execution_timeout=timedelta(minutes=10),
    )
    retire = CommandTask(
        task_id="retire",
        command=["python", "-m", "twinline.release", "retire", "--older-than-last", "{{ params.keep }}"],
        execution_timeout=timedelta(minutes=30),
    )
    repair >> retire
