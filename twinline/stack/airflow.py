"""Run `airflow standalone`, configured by environment alone, so that no file of ours can be out of date.

python -m twinline.stack.airflow
"""

import ipaddress
import os
import sys
from pathlib import Path

from twinline.clients.run import run
from twinline.clients.settings import PROJECT_VARIABLE, Settings, load_settings
from twinline.stack import requirements

# Airflow's default of 32 worker processes is for a server farm. Training and indexing use every core anyway.
_PARALLEL_TASKS = 4
_SHIMS = Path(__file__).parent / "bin"
PLUGINS = Path(__file__).parents[1] / "scheduling" / "plugins"


def environment(settings: Settings, scripts: Path) -> dict[str, str]:
    """Return the environment variables of the embedded Airflow.

    Args:
        scripts: the folder of the platform environment's commands.
    """
    home, dags = settings.home / "airflow", settings.project / "dags"
    return {
        "AIRFLOW_HOME": str(home),
        # `airflow standalone` finds its parts on PATH, and a DAG's task its command.
        "PATH": f"{_SHIMS}:{scripts}:{os.environ.get('PATH', os.defpath)}",
        "TWINLINE_AIRFLOW": str(scripts / "airflow"),
        # Tasks run their commands there.
        PROJECT_VARIABLE: str(settings.project),
        # The triggerer imports a trigger by its name, only from this path.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(dags), os.environ.get("PYTHONPATH")])),
        # A process that writes its title over its environment could not be found by it (processes.py).
        "SPT_NOENV": "1",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        # The timetable of our DAGs is known to Airflow by a plugin only.
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(_PARALLEL_TASKS),
        "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "1",
        # On loopback every client has an account on this machine. Elsewhere Airflow asks for the password that it generates
        # into its home folder.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": str(_is_loopback(settings.host)),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{settings.airflow_url}/execution/",
        "AIRFLOW__API__HOST": settings.host,
        "AIRFLOW__API__PORT": str(settings.airflow_port),
        "AIRFLOW__API__BASE_URL": settings.airflow_url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__INSTANCE_NAME": "Twinline",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "NO_COLOR": "1",
    }


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _become_airflow() -> None:
    settings, scripts = load_settings(), Path(sys.executable).parent
    settings.find_project()
    requirements.check_airflow()
    os.environ.update(environment(settings, scripts))
    command = scripts / "airflow"
    os.execv(command, [str(command), "standalone"])  # noqa: S606  no shell is wanted


def main() -> None:
    """Become `airflow standalone`."""
    run("airflow", _become_airflow, role="schedule")


if __name__ == "__main__":
    main()
