"""# watch_skew

Measure every six hours whether training and serving still agree, and raise the alarm where they stop.

| task | command | gives |
| --- | --- | --- |
| `measure` | `python -m twinline skew` | the report: every hop from the rules in code to the stored vectors, and a live sample |

The task fails when a hop breaks; its error names the first one, the place where the fault enters. It is skipped as long as no
release is active, and tried again when Triton, Kafka or the online process is away. `twinline skew` shows the same as a table.
"""

from datetime import timedelta

from airflow.sdk import DAG

from twinline.scheduling.command_task import CommandTask, dag_options
from twinline.scheduling.timetable import OnTheClock

EVERY_SIX_HOURS = OnTheClock("0 */6 * * *")
# Skew would be found again by another try, and an alarm after retries comes late. A dependency that is away (2) may come back.
SKEW_FOUND = 1

with DAG(
    "watch_skew",
    schedule=EVERY_SIX_HOURS,
    # Active from the start: a paused monitor watches nothing. It changes nothing, and without a release it is skipped.
    is_paused_upon_creation=False,
    **dag_options(__doc__, ["trust"]),
):
    measure = CommandTask(
        task_id="measure",
        command=["python", "-m", "twinline", "skew", "--json"],
        final_exit_codes={SKEW_FOUND},
        execution_timeout=timedelta(hours=1),
    )
