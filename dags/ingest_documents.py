"""# ingest_documents

Read a source into an immutable snapshot, and write its documents to the log.

| task | command | gives |
| --- | --- | --- |
| `ingest` | `python -m etl ingest` | a snapshot in the snapshot store, by its id |
| `publish` | `python -m etl publish` | its documents on the Kafka topic, the source of every index |

Updates the asset **corpus**, whose event names the snapshot; `train_encoder` starts on it. Every index skips documents that have
not changed since the last publication, so a second run costs little. The event also marks a run for the past, such as a back-fill
or a run by hand for an older interval: nothing is trained on that. A back-fill starts the runs that it names, and no other.

Started by hand, it takes another `source`: `pydocs:`, `files:FOLDER`, `beir:FOLDER`, `kafka:`.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from twinline.scheduling.command_task import CORPUS, CommandTask, dag_options
from twinline.scheduling.timetable import OnTheClock

DAILY = OnTheClock("0 0 * * *")

with DAG(
    "ingest_documents",
    schedule=DAILY,
    params={"source": Param("", type="string", description="KIND:LOCATION of the documents; empty: the source of params.yaml")},
    **dag_options(__doc__, ["data"]),
):
    ingest = CommandTask(
        task_id="ingest",
        command=["python", "-m", "etl", "ingest", "--source", "{{ params.source }}", "--store"],
        execution_timeout=timedelta(hours=2),
    )
    publish = CommandTask(
        task_id="publish",
        command=["python", "-m", "etl", "publish", "--snapshot", ingest.output["snapshot"]],
        updates=CORPUS,
        execution_timeout=timedelta(hours=6),
    )
    ingest >> publish
