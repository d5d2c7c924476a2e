from prometheus_client import CollectorRegistry

from streaming.metrics import StreamingMetrics


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
