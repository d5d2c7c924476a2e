"""The consumer's committed offsets, read by a plain Kafka client."""

import threading
import time
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

_PERIOD_SECONDS = 0.5


class Progress:
    """Follows a group's committed offsets; while the broker is away it keeps the last known ones."""

    def __init__(self, address: str, topic: str, group: str) -> None:
        self.committed: dict[int, int] = {}
        self._address, self._topic, self._group = address, topic, group
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stop.set()
        self._thread.join(30)

    @property
    def total(self) -> int:
        """Return the number of committed messages in all."""
        return sum(self.committed.values())

    def wait_beyond(self, total: int, limit_seconds: float) -> float | None:
        """Return the seconds until more than `total` is committed; None if that does not happen in time."""
        began = time.monotonic()
        while self.total <= total:
            if time.monotonic() - began > limit_seconds:
                return None
            time.sleep(0.05)
        return time.monotonic() - began

    def lag(self) -> int:
        """Return the number of uncommitted messages, from the broker now."""
        consumer = KafkaConsumer(bootstrap_servers=self._address.split(","))
        try:
            partitions = [TopicPartition(self._topic, number) for number in consumer.partitions_for_topic(self._topic) or ()]
            ends: dict[Any, int] = consumer.end_offsets(partitions)
        finally:
            consumer.close()
        committed = self.ask()
        return sum(end - committed.get(partition.partition, 0) for partition, end in ends.items())

    def ask(self) -> dict[int, int]:
        """Return the current committed offset of each partition."""
        admin = KafkaAdminClient(bootstrap_servers=self._address.split(","), request_timeout_ms=5_000, bootstrap_timeout_ms=5_000)
        try:
            offsets = admin.list_group_offsets({self._group: None}).get(self._group, {})
        finally:
            admin.close()
        return {place.partition: found.offset for place, found in offsets.items() if place.topic == self._topic}

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            try:
                self.committed = self.ask()
            except KafkaError:
                continue  # the broker is away: the last offsets stay
