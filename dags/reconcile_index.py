"""# reconcile_index

Compare the log with every index once a day, and raise the alarm where they differ.

| task | command | gives |
| --- | --- | --- |
| `reconcile` | `python -m twinline reconcile` | a report: missing, orphaned, stale, of a wrong release, wrong text or vector |

The task fails when a document is missing or a point is wrong; its log names the first of them. A message in the dead letters is
explained, and no alarm. The task is skipped as long as no release is in service, and tried again when Kafka or the online process
is away. Started by hand with `repair`, it repairs every difference and compares again: green then means that none is left.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from twinline.scheduling.command_task import CommandTask, dag_options
from twinline.scheduling.timetable import OnTheClock

EVERY_NIGHT = OnTheClock("30 3 * * *")
# A difference would be found again by another try. A dependency that is away (2) may come back.
DIFFERENCE_FOUND = 1

with DAG(
    "reconcile_index",
    schedule=EVERY_NIGHT,
    # Active from the start: a paused monitor watches nothing, and without `repair` it changes nothing.
    is_paused_upon_creation=False,
    params={"repair": Param(False, type="boolean", description="repair every difference, then compare again")},
    **dag_options(__doc__, ["trust"]),
):
    reconcile = CommandTask(
        task_id="reconcile",
        command=["python", "-m", "twinline", "reconcile", "--json", "{{ '--repair' if params.repair else '--no-repair' }}"],
        final_exit_codes={DIFFERENCE_FOUND},
        execution_timeout=timedelta(hours=4),
    )
