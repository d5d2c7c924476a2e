"""The stack's requirements on the machine, each with the command that provides it."""

import importlib.util
import os
from pathlib import Path

from triton_models.server import check_libraries, find_wheel
from triton_models.server import server_environment as environment_of_server
from twinline.contract.errors import SettingsError


def check_airflow() -> None:
    """Find Airflow.

    Raises:
        SettingsError: it is not installed here; names the extra that brings it.
    """
    if importlib.util.find_spec("airflow") is None:
        raise SettingsError(
            "Airflow is not installed here: pip install 'twinline[schedule]', or leave it out (`twinline up --no-scheduler`)"
        )


def check_model_server(server_environment: Path) -> None:
    """Find the embedded Triton and every shared library that it needs.

    Args:
        server_environment: the model server's virtual environment.

    Raises:
        SettingsError: a requirement is missing; the message has the command that installs it.
    """
    wheel = find_wheel(server_environment)
    check_libraries(wheel, environment_of_server(wheel, os.environ))
