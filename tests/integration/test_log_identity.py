"""A collection belongs to one log, on a real broker: another topic and a topic made again are refused, restarts are not."""

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from streaming.opening import open_indexer
from tests.fixtures_streaming import GOLDEN, FakeEmbedder, info_of, preprocessor
from twinline.clients.kafka.connect import ensure_topics, make_admin, make_producer
from twinline.clients.log_identity import claim, read_identity, read_losses
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.edge import EdgeStore
from twinline.contract.documents.records import encode_key
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import MismatchError, SettingsError

__all__ = ["preprocessor"]


def send(settings: Settings, text: str) -> None:
    with closing(make_producer(settings)) as producer:
        producer.send(settings.topic, key=encode_key("s", "k"), value=b'{"schema":1,"text":"%s"}' % text.encode()).get(timeout=30)


def make_topic_again(settings: Settings) -> None:
    with closing(make_admin(settings)) as admin:
        admin.delete_topics([settings.topic])
        give_up = time.monotonic() + 30
        while settings.topic in admin.list_topics() and time.monotonic() < give_up:
            time.sleep(0.1)
    ensure_topics(settings)


@pytest.fixture
def settings(broker: str, tmp_path: Path) -> Settings:
    made = Settings(kafka_bootstrap=broker, topic=f"documents-{uuid4().hex[:8]}", home=tmp_path)
    ensure_topics(made)
    return made


def test_another_topic_and_a_topic_made_again_are_refused_and_the_same_one_is_not(
    settings: Settings, preprocessor: Preprocessor, tmp_path: Path
) -> None:
    release = Release(info_of(preprocessor), preprocessor, FakeEmbedder(), GOLDEN)
    send(settings, "one")
    with closing(EdgeStore(tmp_path / "store").create(release.collection_name, release.info)) as collection:
        for _ in range(2):
            with open_indexer(settings, release, collection) as indexer:
                indexer.handle([])
        recorded = collection.read_log()
        assert recorded is not None
        assert replace(recorded, mark=None) == read_identity(settings)

        other = settings.model_copy(update={"topic": f"{settings.topic}-other"})
        ensure_topics(other)
        with pytest.raises(MismatchError, match=f"topic {settings.topic}.*reads topic {other.topic}"):
            claim(other, collection)

        make_topic_again(settings)
        with pytest.raises(MismatchError, match="made again"):
            claim(settings, collection)
        send(settings, "one")
        with pytest.raises(MismatchError, match="made again"):
            claim(settings, collection)


def test_an_ordinary_topic_is_refused_with_the_choices_adopted_by_choice_and_its_retention_named(
    broker: str, tmp_path: Path
) -> None:
    settings = Settings(kafka_bootstrap=broker, topic=f"mydocs-{uuid4().hex[:8]}", home=tmp_path)
    with closing(make_admin(settings)) as admin:
        admin.create_topics({settings.topic: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    with pytest.raises(SettingsError, match=r"TWINLINE_TOPIC_ORDER=offsets.*TWINLINE_TOPIC_ORDER=versions"):
        ensure_topics(settings)
    for order in ("offsets", "versions"):
        ensure_topics(settings.model_copy(update={"topic_order": order}))
    assert any("deletes messages after 7 days" in loss for loss in read_losses(settings))
