"""The consumer's metrics: one set a process, with the release as a label."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streaming.alarms import Alarms

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class StreamingMetrics:
    """Metrics of all consumers of this process; the registry is the caller's, so that importing registers nothing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lag_shown: dict[str, set[str]] = {}
        self.alarms = Alarms()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"twinline_{name}", meaning, ["release", *labels], registry=registry)

        self.documents = counter("documents_indexed", "Documents written, deletions left out")
        self.deletes = counter("documents_deleted", "Deletions applied")
        self.stale = counter("messages_stale", "Messages left out, because a newer version was there")
        self.erased = counter("messages_erased", "Messages left out, because their document was erased")
        self.dead_letters = counter("dead_letters", "Messages set aside", "reason")
        self.chunks_embedded = counter("chunks_embedded", "Chunks that got a new vector")
        self.chunks_reused = counter("chunks_reused", "Chunks whose text was unchanged: the vector was kept")
        self.chunks_truncated = counter("chunks_truncated", "Chunks of which the encoder read only the start")
        self.mistyped = counter("metadata_mistyped", "Documents with a value that is not of its filter's declared type", "field")
        self.retries = counter("consumer_retries", "Attempts that a dependency's failure cut short")
        self.lag = Gauge(
            "twinline_consumer_lag",
            "Offsets of the log not yet handled, up to the last stable one",
            ["release", "partition"],
            registry=registry,
        )
        self.running = Gauge(
            "twinline_consumer_running", "1 while the consumer runs, 0 once it gave up", ["release"], registry=registry
        )
        self.last_success = Gauge(
            "twinline_consumer_last_success_timestamp_seconds",
            "When the consumer last handled a batch, or found nothing to handle",
            ["release"],
            registry=registry,
        )
        self.clock_steps = counter("broker_clock_steps_back", "Steps back of the clock that times a partition", "partition")
        self.handle_seconds = Histogram(
            "twinline_handle_seconds", "Time to make one batch durable", ["release"], buckets=_SECONDS, registry=registry
        )
        self.freshness_seconds = Histogram(
            "twinline_freshness_seconds",
            "From the log's append time to searchable",
            ["release"],
            buckets=(*_SECONDS, 60.0, 300.0),
            registry=registry,
        )

    def show_lag(self, release: str, lag: Mapping[int, int]) -> None:
        """Show the lag of a consumer's current partitions; a partition of another consumer is that consumer's to show."""
        now = {str(partition): behind for partition, behind in lag.items()}
        for partition in self._lag_shown.get(release, set()) - now.keys():
            self.lag.remove(release, partition)
        for partition, behind in now.items():
            self.lag.labels(release, partition).set(behind)
        self._lag_shown[release] = set(now)
