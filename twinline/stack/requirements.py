"""The stack's requirements on the machine, each with the command that provides it."""

import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Final

from triton_models.server import check_libraries, find_wheel
from triton_models.server import server_environment as environment_of_server
from twinline.clients.settings import PROJECT_VARIABLE, Settings
from twinline.contract.errors import SettingsError

# What each of these programs makes of it was tried; no quoting helps.
_MISREAD: Final = (
    (re.compile(":"), "which separates the folders of PATH and PYTHONPATH"),
    (re.compile(r"\?"), "which ends the path of Airflow's SQLite database"),
    (re.compile(r"\s[;#]"), "which begins a comment in supervisord's configuration"),
    (re.compile(r"[\x00-\x1f\x7f]"), "which no configuration file can hold"),
    (re.compile("[\ud800-\udfff]"), "which is no text in this locale's encoding"),
)


def check_places(settings: Settings) -> None:
    """Refuse folders whose names a part of the stack would take for something else, before any part starts.

    Spaces, quotes and parentheses are fine.

    Raises:
        SettingsError: names the folder, the characters, the program that misreads them, and the setting that moves it.
    """
    places = (("TWINLINE_HOME", settings.home), (PROJECT_VARIABLE, settings.project), ("its environment", Path(sys.prefix)))
    for setting, folder in places:
        for wrong, reason in _MISREAD:
            if found := wrong.search(str(folder)):
                raise SettingsError(
                    f"{str(folder)!a} has {found[0]!a} in its name, {reason}: move the folder"
                    + (f", or set {setting} to another one" if setting.isupper() else "")
                )


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
