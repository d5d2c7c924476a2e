"""# rollback_release

Go back to a release that was active before. By hand only; it takes seconds, because that release is still loaded and indexed.

| task | command | gives |
| --- | --- | --- |
| `rollback` | `python -m twinline.release rollback` | the release that answers now, and the one before it |

Takes a `release`; empty, it is the release before the active one. It is refused, with the possible releases, when there is none,
or when it was retired. A second run goes further back.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from twinline.scheduling.command_task import CommandTask, dag_options

with DAG(
    "rollback_release",
    schedule=None,
    params={"release": Param("", type="string", description="the release to go back to; empty: the one before the active one")},
    **dag_options(__doc__, ["serving"]),
):
    rollback = CommandTask(
        task_id="rollback",
        command=["python", "-m", "twinline.release", "rollback", "--to", "{{ params.release }}"],
        execution_timeout=timedelta(minutes=10),
    )
