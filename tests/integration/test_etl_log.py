"""Publish and the source `kafka` on a real broker: what goes onto the log comes back as a snapshot of it."""

import uuid
from pathlib import Path

import pyarrow.parquet as pq

from etl.feeds import Feed
from etl.ingest import ingest
from etl.lineage import Lineage
from etl.publish import Mode, publish_documents
from etl.sources import open_source
from twinline.clients.kafka.connect import kafka_errors, make_producer
from twinline.clients.settings import Settings
from twinline.contract.documents.records import Deletion, Document, encode_key
from twinline.contract.principal import LOCAL_OPERATOR

LINEAGE = Lineage("run-1", "", "test")


def test_published_documents_come_back_as_a_snapshot_of_the_topic(tmp_path: Path, broker: str) -> None:
    settings = Settings(home=tmp_path, kafka_bootstrap=broker, topic=f"documents-{uuid.uuid4().hex[:8]}")
    first = [Document("s", f"k{n:03}", f"text {n}", title="T", metadata={"n": n}) for n in range(200)]
    assert publish_documents(Feed("s", first), settings, LINEAGE, LOCAL_OPERATOR).sent == 200

    second = [*first[:150], Document("s", "k150", "new text")]
    report = publish_documents(Feed("s", second), settings, LINEAGE, LOCAL_OPERATOR, Mode(delete_missing=True))
    assert (report.sent, report.deleted, report.unchanged) == (1, 49, 150)
    publish_documents(
        Feed("", [Document("s", "v", "two", version=2), Document("s", "v", "one", version=1)]), settings, LINEAGE, LOCAL_OPERATOR
    )
    publish_documents(Feed("", [Deletion("s", "w", version=1)]), settings, LINEAGE, LOCAL_OPERATOR)
    with kafka_errors(settings):
        producer = make_producer(settings)
        producer.send(settings.topic, key=encode_key("s", "poison"), value=b"not json").get(timeout=30)
        producer.close()

    snapshot = ingest(open_source("kafka:", settings), tmp_path / "snapshot", max_reject_share=0.5)

    assert snapshot.counts | {"deletions": 50, "documents": 152, "rejects": 1} == snapshot.counts
    assert snapshot.reject_reasons == {"invalid_json": 1}
    texts = {row["key"]: row["text"] for row in pq.read_table(tmp_path / "snapshot" / "documents-00000.parquet").to_pylist()}
    assert (texts["k150"], texts["v"], texts["k000"]) == ("new text", "two", "text 0")
    ends = snapshot.provenance["ends"]
    assert isinstance(ends, dict)
    assert sum(ends.values()) == 200 + 1 + 49 + 2 + 1 + 1
    again = ingest(open_source("kafka:", settings), tmp_path / "again", max_reject_share=0.5)
    assert again.id == snapshot.id
