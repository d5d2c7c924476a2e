"""The compose file, as far as it can be judged without Docker."""

from typing import Any

import pytest
import yaml

from tests.checkout import CHECKOUT
from twinline.clients.settings import Settings

COMPOSE: dict[str, Any] = yaml.safe_load((CHECKOUT / "ops" / "compose.yaml").read_text())


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_published_port_is_bound_to_loopback(name: str) -> None:
    for port in COMPOSE["services"][name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_is_built_from_a_file_that_exists(name: str) -> None:
    service = COMPOSE["services"][name]
    assert "image" in service
    if "build" in service:
        assert (CHECKOUT / service["build"]["dockerfile"]).is_file()


def test_every_setting_of_ours_is_one_that_the_platform_reads() -> None:
    known = {f"TWINLINE_{name.upper()}" for name in Settings.model_fields} | {"KAFKA_BOOTSTRAP", "QDRANT_URL", "QDRANT_API_KEY"}
    assert set(COMPOSE["x-settings"]) <= known


def test_every_volume_and_dependency_is_declared() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
        assert {mount.split(":")[0] for mount in service.get("volumes", ())} <= set(COMPOSE["volumes"])
