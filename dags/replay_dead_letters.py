"""# replay_dead_letters

Send messages that were set aside back to the log, once the cause of their failure is fixed. By hand only.

| task | command | gives |
| --- | --- | --- |
| `replay` | `python -m twinline dead-letters` | the number sent, and the messages left, with reasons |

Without a filter, all open messages are sent. A message goes back unchanged, once; after three failed replays it stays until a
person insists (`twinline dead-letters replay --again`). A second run replays nothing twice.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from twinline.scheduling.command_task import CommandTask, dag_options

with DAG(
    "replay_dead_letters",
    schedule=None,
    params={
        "reason": Param("", type="string", description="only messages refused for this reason, such as invalid_json; empty: any"),
        "source": Param("", type="string", description="only messages of this source; empty: any"),
        "since": Param("", type="string", description="only messages set aside since: 2h, 1d or a time; empty: ever"),
        "why": Param("", type="string", description="the reason of the replay, for the record"),
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
