"""# train_encoder

Fine-tune the encoder on the newest snapshot, and register it if it passes the gate.

| task | command | gives |
| --- | --- | --- |
| `changed` | `python -m twinline changed` | the share that changed since the last training; skips the rest if it is small |
| `train` | `python -m twinline train` | a DVC experiment: prepare, pairs, train, export, parity, evaluate, package |
| `gate` | `python -m twinline.release gate` | the verdict, check by check; fails with the numbers where a check does not hold |
| `register` | `python -m twinline.release register` | a version by GTO (`encoder@v3.0.0`), its files in the DVC remote |

Starts on the asset **corpus**, and goes on if at least `min_changed_share` of the documents were added, changed or deleted since
the snapshot of the version in stage `prod`; without such a version always. A snapshot of a back-fill, or of a run by hand for an
interval of the past, trains nothing: the first task is skipped with that reason. Started by hand, the DAG always trains: on
`snapshot`, or without one on the source of `params.yaml`.

A corpus that is too small to train on skips the chain from `train` on, with the reason. Where no release is active, `train` puts
the base model into service before it ends, as `twinline release bootstrap` does: also where its encoder is not accepted, so that
every ingested document can be found.

An encoder that was measured on too few questions is undecided: `gate` stops the chain, and says how to add questions, or how a
person accepts it by name.

A refused gate stops the chain: the log of `gate` has the reasons, its XCom `return_value` the checks with their numbers. The
experiment stays, with its evidence, and the active release goes on serving. Your branch and your workspace are not touched.

`train` is deferred: it holds no worker, and the death of a worker or triggerer does not end it. Updates the asset **encoder**,
whose event names the version; `release_encoder` starts on it.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from twinline.scheduling.command_task import CORPUS, ENCODER, CommandTask, dag_options

SNAPSHOT = "{{ params.snapshot or event_field(triggering_asset_events, 'snapshot') }}"
# A run by hand always trains.
MIN_SHARE = "{{ params.min_changed_share if triggering_asset_events else 0 }}"

with DAG(
    "train_encoder",
    schedule=CORPUS,
    params={
        "snapshot": Param("", type="string", description="the snapshot to train on; empty: the one of the event"),
        "min_changed_share": Param(
            0.05, type="number", minimum=0, description="share of documents that must have changed for an event to train"
        ),
    },
    **dag_options(__doc__, ["training"]),
):
    changed = CommandTask(
        task_id="changed",
        command=["python", "-m", "twinline", "changed", "--snapshot", SNAPSHOT, "--min-share", MIN_SHARE],
        skip_reason="{{ past_reason(triggering_asset_events) }}",
        execution_timeout=timedelta(minutes=30),
    )
    train = CommandTask(
        task_id="train",
        command=["python", "-m", "twinline", "train", "--serve-base", "--snapshot", SNAPSHOT, "--name", "{{ dag_run.run_id }}"],
        takes_long=True,
        execution_timeout=timedelta(days=2),
    )
    gate = CommandTask(
        task_id="gate",
        command=["python", "-m", "twinline.release", "gate", train.output["revision"]],
        # The verdict is written already: another try would read the same.
        retries=0,
        execution_timeout=timedelta(minutes=5),
    )
    register = CommandTask(
        task_id="register",
        command=["python", "-m", "twinline.release", "register", train.output["revision"]],
        updates=ENCODER,
        execution_timeout=timedelta(hours=1),
    )
    changed >> train >> gate >> register
