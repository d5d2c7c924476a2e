"""The stack's requirements on the machine, each with the command that provides it."""

import os

from triton_models.server import check_libraries, find_wheel, server_environment
from twinline.clients.settings import CHECKOUT

SERVER_ENVIRONMENT = CHECKOUT / ".venv-server"


def check_model_server() -> None:
    """Find the embedded Triton and every shared library that it needs.

    Raises:
        SettingsError: a requirement is missing; the message has the command that installs it.
    """
    wheel = find_wheel(SERVER_ENVIRONMENT)
    check_libraries(wheel, server_environment(wheel, os.environ))
