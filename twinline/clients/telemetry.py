"""Keep every dependency from calling home.

A platform for other people's documents must not report that it runs. Each entry point calls `apply()` before heavy imports, and
child processes inherit the environment.
"""

import os
import sys
from collections.abc import MutableMapping
from typing import Final

TELEMETRY_OFF: Final[dict[str, str]] = {
    "DO_NOT_TRACK": "1",  # the cross-vendor switch: Hugging Face, Daft and others
    "SCARF_NO_ANALYTICS": "true",  # Daft, Airflow
    "SCARF_ANALYTICS": "false",
    "DAFT_ANALYTICS_ENABLED": "0",
    "DVC_NO_ANALYTICS": "1",
    # Its check for a newer version has no switch, only an address: the discard port, on loopback.
    "DVC_UPDATER_ENDPOINT": "http://127.0.0.1:9",
    "ITERATIVE_DO_NOT_TRACK": "1",  # GTO
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "NNCF_CI": "1",  # its only switch: it reports nothing in its makers' own test runs
    "WANDB_MODE": "disabled",  # the trainer's reporters, should one be installed
    "RAY_USAGE_STATS_ENABLED": "0",
    # The wheels for Linux carry an uploader that is on by default.
    "ORT_DISABLE_TELEMETRY": "1",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "AIRFLOW__METRICS__STATSD_ON": "False",
    "QDRANT__TELEMETRY_DISABLED": "true",
    "OTEL_SDK_DISABLED": "true",  # opentelemetry comes with Airflow
}

# OpenVINO's converter reads no environment variable, and takes no answer for a yes. Without this module it uses a stand-in that
# does nothing.
_BLOCKED_MODULES: Final = ("openvino_telemetry",)


def apply(environment: MutableMapping[str, str] | None = None) -> None:
    """Turn telemetry off in this process and in its child processes.

    Args:
        environment: where to set the variables, `os.environ` by default. Existing values are replaced: a shell profile must not
            turn telemetry on.
    """
    target = os.environ if environment is None else environment
    target.update(TELEMETRY_OFF)
    for module in _BLOCKED_MODULES:
        # None makes `import` raise ModuleNotFoundError; typeshed knows only modules as values.
        sys.modules[module] = None  # type: ignore[assignment]
