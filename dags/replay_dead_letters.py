"""# replay_dead_letters

Send messages that were set aside back to the log, after what they failed on was put right. By hand only.

| task | command | gives |
| --- | --- | --- |
| `replay` | `python -m twinline dead-letters` | how many were sent, and which were left and why |

Without a filter, all that are open. A message goes back as it was, once; one that was replayed three times and failed again is
left until a person insists (`twinline dead-letters replay --again`). Running this twice replays nothing twice.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from twinline.scheduling.command_task import CommandTask, dag_options

with DAG(
    "replay_dead_letters",
    schedule=None,
    params={
        "reason": Param("", type="string", description="only those refused for this reason, such as invalid_json; empty: any"),
        "source": Param("", type="string", description="only messages of this source; empty: any"),
        "since": Param("", type="string", description="only those set aside since: 2h, 1d or a time; empty: ever"),
        "why": Param("", type="string", description="what to remember of the reason"),
    },
    **dag_options(__doc__, ["trust"]),
):
    replay = CommandTask(
        task_id="replay",
        # An empty filter matches any.
        command=[
            "python",
            "-m",
            "twinline",
            "dead-letters",
            "replay",
            "--json",
            "--any",
            "--reason={{ params.reason }}",
            "--source={{ params.source }}",
            "--since={{ params.since }}",
            "--why={{ params.why }}",
        ],
        execution_timeout=timedelta(hours=1),
    )
