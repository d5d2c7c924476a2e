"""The timetable of our DAGs. Airflow knows it by the plugin in `plugins/`, which AIRFLOW__CORE__PLUGINS_FOLDER names."""

from datetime import timedelta
from typing import Any

from airflow.timetables.base import DagRunInfo
from airflow.timetables.trigger import CronTriggerTimetable


class OnTheClock(CronTriggerTimetable):
    """Starts a run at the times of a cron expression in UTC, and neither when a DAG is unpaused nor after a back-fill.

    Airflow goes on from the newest automated run. With its own timetable a back-fill is one, and the last time that has passed
    is made up for at once: with the default source, and with the training that follows.
    """

    def __init__(
        self, cron: str, *, timezone: Any = "UTC", interval: Any = timedelta(), run_immediately: Any = timedelta(0)
    ) -> None:
        # The options are Airflow's, which makes the timetable again from what it has stored. Without the last one, unpausing a
        # DAG soon after one of its times starts a run, beside one started by hand.
        super().__init__(cron, timezone=timezone, interval=interval, run_immediately=run_immediately)

    def run_info_from_dag_run(self, *, dag_run: Any) -> DagRunInfo | None:  # type: ignore[override]  # its caller takes None
        """Return what Airflow continues from; nothing for a back-fill, as if the DAG had not run yet."""
        run_type = str(getattr(dag_run.run_type, "value", dag_run.run_type))
        return None if run_type == "backfill" else super().run_info_from_dag_run(dag_run=dag_run)
