"""What the tests of the offline data stages share."""

import pytest

from etl import publish
from tests.unit.etl.memory_log import Log
from twinline.clients.erasure_list import Erasures


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log()
    monkeypatch.setattr(publish, "ensure_topics", lambda settings: None)
    monkeypatch.setattr(publish, "end_offsets", lambda settings, topic: {0: len(made.messages)})
    monkeypatch.setattr(publish, "current_erasures", lambda settings: Erasures())
    monkeypatch.setattr(publish, "make_producer", lambda settings: made)
    return made
