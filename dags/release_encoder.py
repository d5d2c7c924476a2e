"""# release_encoder

Put a registered encoder into service, beside the active one until the last step.

| task | command | gives |
| --- | --- | --- |
| `fetch` | `python -m twinline.release fetch` | the release folder, every file checked by its hash |
| `publish` | `python -m twinline.release publish` | models loaded in Triton, golden texts answered as in training |
| `build` | `python -m twinline.release build` | a new, current collection: from the snapshot, then from the log |
| `verify` | `python -m twinline.release verify` | the checks with numbers; fails when it lags, lacks documents or answers worse |
| `promote` | `python -m twinline.release promote` | the new release answers; the old one stays loaded for `rollback_release` |

Search answers from the old release until `promote`, and from the new one after it, never from both. Every task may run again, and
`promote` first completes a step that a kill has cut short. `build` and `verify` are deferred: they hold no worker, and the death
of a worker or triggerer does not end them. Started by hand, the DAG takes a `version` or a stage, such as `prod`.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from twinline.scheduling.command_task import ENCODER, CommandTask, dag_options

VERSION = "{{ params.version or event_field(triggering_asset_events, 'version') }}"

with DAG(
    "release_encoder",
    schedule=ENCODER,
    params={"version": Param("", type="string", description="version or stage to release; empty: the one of the event")},
    **dag_options(__doc__, ["serving"]),
):
    fetch = CommandTask(
        task_id="fetch",
        command=["python", "-m", "twinline.release", "fetch", VERSION],
        execution_timeout=timedelta(minutes=30),
    )
    release = fetch.output["release"]
    publish = CommandTask(
        task_id="publish",
        command=["python", "-m", "twinline.release", "publish", release],
        execution_timeout=timedelta(minutes=30),
    )
    build = CommandTask(
        task_id="build",
        command=["python", "-m", "twinline.release", "build", release],
        takes_long=True,
        execution_timeout=timedelta(days=1),
    )
    verify = CommandTask(
        task_id="verify",
        command=["python", "-m", "twinline.release", "verify", release],
        takes_long=True,
        execution_timeout=timedelta(hours=1),
    )
    promote = CommandTask(
        task_id="promote",
        command=["python", "-m", "twinline.release", "promote", release],
        execution_timeout=timedelta(hours=1),
    )
    fetch >> publish >> build >> verify >> promote
