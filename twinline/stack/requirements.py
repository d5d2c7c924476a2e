"""What the stack needs of the machine, each with the line that provides it."""

import os

from triton_models.server import check_libraries, find_wheel, server_environment
from twinline.clients.settings import CHECKOUT

SERVER_ENVIRONMENT = CHECKOUT / ".venv-server"


def check_model_server() -> None:
    """Find the embedded Triton and every shared library that it needs.

    Raises:
        SettingsError: names what is missing and the line that installs it.
    """
    wheel = find_wheel(SERVER_ENVIRONMENT)
    check_libraries(wheel, server_environment(wheel, os.environ))
