"""Nothing calls home."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from twinline.clients import telemetry


def test_a_value_that_the_shell_set_does_not_open_a_way_out() -> None:
    environment = {"DO_NOT_TRACK": "0", "ORT_DISABLE_TELEMETRY": "0", "HOME": "/home/someone"}

    telemetry.apply(environment)

    assert environment == telemetry.TELEMETRY_OFF | {"HOME": "/home/someone"}


# What each library says of itself, asked in a process that has only applied our settings.
_ASKED = {
    "Hugging Face": ("from huggingface_hub import constants", "constants.HF_HUB_DISABLE_TELEMETRY"),
    "DVC": ("from dvc import analytics", "not analytics.is_enabled()"),
    "Airflow": ("from airflow.configuration import conf", "not conf.getboolean('usage_data_collection', 'enabled')"),
    "OpenVINO's converter": (
        "from openvino.tools.ovc import telemetry_utils",
        "telemetry_utils.tm.__name__.endswith('telemetry_stub')",
    ),
    "NNCF": ("from nncf.telemetry import wrapper", "isinstance(wrapper.telemetry, wrapper.NNCFTelemetryStub)"),
    "Daft": ("from daft import scarf_telemetry", "scarf_telemetry.opted_out()"),
}


@pytest.mark.integration
@pytest.mark.parametrize("library", _ASKED)
def test_a_library_says_that_its_telemetry_is_off(library: str, tmp_path: Path) -> None:
    setup, question = _ASKED[library]
    script = f"from twinline.clients import telemetry; telemetry.apply(); {setup}; print(bool({question}))"
    bare = {name: value for name, value in os.environ.items() if name not in telemetry.TELEMETRY_OFF}

    asked = subprocess.run(
        [sys.executable, "-c", script],
        env=bare | {"AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert asked.stdout.split()[-1] == "True"


def test_onnx_runtime_leaves_no_device_id(tmp_path: Path) -> None:
    # Its wheel for Linux makes one on import, and a queue of events to send, unless it is told not to.
    script = "from twinline.clients import telemetry; telemetry.apply(); import onnxruntime"
    bare = {name: value for name, value in os.environ.items() if name not in telemetry.TELEMETRY_OFF}

    subprocess.run([sys.executable, "-c", script], env=bare | {"HOME": str(tmp_path)}, check=True, timeout=60)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
