"""What the stack needs of the machine, each with the line that provides it."""

import os
from pathlib import Path

from triton_models.server import check_libraries, find_wheel
from triton_models.server import server_environment as environment_of_server


def check_model_server(server_environment: Path) -> None:
    """Find the embedded Triton and every shared library that it needs.

    Args:
        server_environment: the model server's virtual environment.

    Raises:
        SettingsError: names what is missing and the line that installs it.
    """
    wheel = find_wheel(server_environment)
    check_libraries(wheel, environment_of_server(wheel, os.environ))
