"""# train_encoder

Fine-tune the encoder on the newest snapshot, and register it if it passes the gate.

| task | command | gives |
| --- | --- | --- |
| `train` | `python -m twinline train` | a DVC experiment: prepare, pairs, train, evaluate, export, parity, package |
| `gate` | `python -m release gate` | nothing; fails with the numbers when quality or parity are not good enough |
| `register` | `python -m release register` | a version by GTO (`encoder@v3.0.0`), its files in the DVC remote |

A refused gate stops the chain: open the log of `gate` for the reasons. The experiment stays, with its evidence, and the
active release goes on serving. Your branch and your workspace are not touched.

Updates the asset **encoder**, whose event names the version; `release_encoder` starts on it. Started by hand, it takes a
`snapshot`; without one it reads the source of `params.yaml`.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param
from command_task import CORPUS, ENCODER, CommandTask, dag_options

SNAPSHOT = "{{ params.snapshot or event_field(triggering_asset_events, 'snapshot') }}"

with DAG(
    "train_encoder",
    schedule=CORPUS,
    params={"snapshot": Param("", type="string", description="the snapshot to train on; empty: the one of the event")},
    **dag_options(__doc__, ["training"]),
):
    train = CommandTask(
        task_id="train",
        command=["python", "-m", "twinline", "train", "--snapshot", SNAPSHOT, "--name", "{{ dag_run.run_id }}"],
        execution_timeout=timedelta(days=2),
    )
    gate = CommandTask(
        task_id="gate",
        command=["python", "-m", "release", "gate", train.output["revision"]],
        # The verdict is written down already: reading it again would say the same.
        retries=0,
        execution_timeout=timedelta(minutes=5),
    )
    register = CommandTask(
        task_id="register",
        command=["python", "-m", "release", "register", train.output["revision"]],
        updates=ENCODER,
        execution_timeout=timedelta(hours=1),
    )
    train >> gate >> register
