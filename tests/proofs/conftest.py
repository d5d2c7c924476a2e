"""The short forms of proofs and benches run on the same real processes as the integration tests."""

from tests.fixtures_triton import base_release, triton_server
from tests.integration.conftest import apache, broker, broker_variables, short_folder

__all__ = ["apache", "base_release", "broker", "broker_variables", "short_folder", "triton_server"]
