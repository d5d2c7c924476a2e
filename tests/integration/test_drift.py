"""The newest documents, read from the tail of a real log."""

import uuid
from pathlib import Path

from etl.feeds import Feed
from etl.lineage import Lineage
from etl.publish import publish_documents
from twinline.clients.settings import Settings
from twinline.contract.documents.records import Deletion, Document
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.upkeep.skew.new_documents import read_newest

LINEAGE = Lineage("run-1", "", "test")


def test_the_newest_documents_come_once_each_and_without_the_deleted(tmp_path: Path, broker: str) -> None:
    settings = Settings(home=tmp_path, kafka_bootstrap=broker, topic=f"documents-{uuid.uuid4().hex[:8]}")
    publish_documents(
        Feed("", [Document("s", f"k{n:02}", f"text {n}", version=1) for n in range(40)]), settings, LINEAGE, LOCAL_OPERATOR
    )
    later = [
        Document("s", "k01", "new text", version=2),
        Deletion("s", "k02", version=2),
        Document("s", "late", "old", version=1),
    ]
    publish_documents(Feed("", later), settings, LINEAGE, LOCAL_OPERATOR)

    found = {document.key: document.text for document in read_newest(settings, 100)}
    assert len(found) == 40
    assert (found["k01"], found["late"]) == ("new text", "old")
    assert "k02" not in found
    assert {document.key for document in read_newest(settings, 2)} == {"k01", "late"}
