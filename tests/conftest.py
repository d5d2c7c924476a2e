"""What every tier of tests shares: no telemetry, and no setting of the person who runs them."""

import os
from pathlib import Path

import pytest

from twinline.clients import telemetry

# Before any test module imports anything heavy.
telemetry.apply()

_GPU = Path(__file__).parent / "gpu"
_PROOFS = Path(__file__).parent / "proofs"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Choose the broker of the integration tests."""
    parser.addoption(
        "--broker",
        choices=["embedded", "apache", "apache-secure"],
        default="embedded",
        help="of tests/integration: the embedded one, Apache Kafka (needs Java and Maven), or that by SASL_SSL, as a user "
        "with the rights in docs/kafka.md",
    )


@pytest.fixture(autouse=True, scope="session")
def _no_inherited_settings() -> None:
    """Forget the caller's TWINLINE_* variables: a test says itself which settings it wants."""
    for name in [name for name in os.environ if name.startswith("TWINLINE_")]:
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by folder, so that no test is in the wrong tier because a line was forgotten."""
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)
        if item.path.is_relative_to(_PROOFS):
            item.add_marker(pytest.mark.proof)
        if item.path.is_relative_to(_GPU):
            item.add_marker(pytest.mark.gpu)
