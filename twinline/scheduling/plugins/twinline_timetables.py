"""What Airflow loads when it starts, by AIRFLOW__CORE__PLUGINS_FOLDER: it takes no timetable that no plugin names."""

from airflow.plugins_manager import AirflowPlugin

from twinline.scheduling.timetable import OnTheClock


class TwinlinePlugin(AirflowPlugin):
    """Names our timetable."""

    name = "twinline"
    timetables = [OnTheClock]  # noqa: RUF012  (Airflow's own form)
