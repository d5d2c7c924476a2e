"""What the tests of the offline data stages share."""

import pytest

from tests.unit.etl.memory_log import Log, published_in_memory


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    return published_in_memory(monkeypatch)
