from dataclasses import replace

from prometheus_client import CollectorRegistry

from streaming.indexer import Indexer
from streaming.metrics import StreamingMetrics
from tests.fixtures_streaming import NothingErased, World
from twinline.clients.store.conditions import Exists
from twinline.contract.documents.filterable import FieldType
from twinline.contract.documents.records import Deletion, Document
from twinline.contract.release.index_settings import IndexSettings


def test_the_lag_of_a_partition_that_went_to_another_consumer_is_no_longer_shown() -> None:
    registry = CollectorRegistry()
    metrics = StreamingMetrics(registry)
    metrics.show_lag("r1", {0: 5, 1: 7})
    metrics.show_lag("r2", {1: 9})
    metrics.show_lag("r1", {0: 4})
    shown = {
        (s.labels["release"], s.labels["partition"]): s.value for m in registry.collect() for s in m.samples if "lag" in s.name
    }
    assert shown == {("r1", "0"): 4, ("r2", "1"): 9}


def test_documents_with_a_value_of_another_type_than_declared_are_counted_by_field(world: World) -> None:
    declared: dict[str, FieldType] = {"metadata.year": "integer", "metadata.team": "keyword"}
    world.collection.info = replace(world.collection.info, index=IndexSettings(filters=declared))
    registry = CollectorRegistry()
    indexer = Indexer(world.collection, world.release, world.sink, NothingErased(), metrics=StreamingMetrics(registry))
    for year in (2020, "2021", "2022", None):
        indexer.handle([world.log.append(Document("s", f"k{year}", "one two", metadata={"year": year, "team": "x", "n": 1}))])
    indexer.handle([world.log.append(Deletion("s", "k2020"))])
    labels = {"release": world.collection.info.release, "field": "metadata.year"}
    assert registry.get_sample_value("twinline_metadata_mistyped_total", labels) == 2
    assert registry.get_sample_value("twinline_metadata_mistyped_total", {**labels, "field": "metadata.team"}) is None
    assert world.sink.letters == []
    assert world.collection.count({"kind": "chunk", "metadata.year": Exists(False)}) == 3
