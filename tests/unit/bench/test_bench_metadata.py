"""The bench of updates changes nothing but metadata and tenant, and counts what the encoder is given."""

from dataclasses import replace

import pytest

from bench.metadata import Consumed, CountingEmbedder, updated
from tests.fixtures_streaming import FakeEmbedder
from twinline.contract.documents.records import Document

DOCUMENTS = [Document("s", f"k{number}", f"text {number}", title="t", metadata={"kept": number}) for number in range(5)]


@pytest.mark.parametrize("number", range(4))
def test_a_round_changes_metadata_and_tenant_alone(number: int) -> None:
    for before, after in zip(DOCUMENTS, updated(DOCUMENTS, number), strict=True):
        assert replace(after, metadata=before.metadata, tenant=None) == before
        assert after.metadata == {**before.metadata, "round": number, "note": f"round {number}"}
        assert after.tenant == f"tenant-{number}"


def test_every_text_that_the_encoder_gets_is_counted() -> None:
    inner = FakeEmbedder()
    counting = CountingEmbedder(inner)
    assert counting.space == inner.space
    counting.embed(["a", "b"], "document", [1, 1])
    counting.embed(["c"], "query")
    assert counting.texts == len(inner.texts) == 3
    assert Consumed(3, 0, 1.5).row("updates")["per_second"] == 2.0
