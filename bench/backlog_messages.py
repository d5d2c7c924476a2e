"""The backlog: messages with sizes over three orders of magnitude, the same in every run."""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from twinline.clients.kafka.connect import kafka_errors, make_producer
from twinline.clients.settings import Settings

SOURCE: Final = "backlog"
# Bounds of a text's length in characters; log-uniform between them, so that 100,000 messages have about 40 MB.
SMALLEST: Final = 3
LARGEST: Final = 3_000
_SEED: Final = 20_261_125
_SEND_SECONDS: Final = 120.0
_VOCABULARY: Final = 5_000
_LONGEST_WORD: Final = 12


@dataclass(frozen=True)
class Backlog:
    """Counts and sizes of the messages on the log."""

    messages: int
    bytes: int
    smallest_bytes: int
    largest_bytes: int


def texts(count: int) -> Iterator[str]:
    """Yield texts of made-up words, no two alike."""
    numbers = random.Random(_SEED)  # noqa: S311 (sizes and words, no secrets)
    words = ["".join(numbers.choices("etaoinshrdlu", k=numbers.randint(1, _LONGEST_WORD))) for _ in range(_VOCABULARY)]
    for number in range(count):
        size = round(SMALLEST * math.exp(numbers.random() * math.log(LARGEST / SMALLEST)))
        yield f"{number} {' '.join(numbers.choices(words, k=size // 7 + 1))}"[: max(size, len(str(number)))]


def publish(settings: Settings, count: int) -> Backlog:
    """Write the backlog to the log, and wait until the broker has all messages."""
    producer = make_producer(settings)
    sizes, last = [], []
    with kafka_errors(settings):
        for number, text in enumerate(texts(count)):
            key, value = json.dumps([SOURCE, str(number)]).encode(), json.dumps({"schema": 1, "text": text}).encode()
            last.append(producer.send(settings.topic, key=key, value=value))
            sizes.append(len(key) + len(value))
            if len(last) >= 1_000:
                for future in last:
                    future.get(timeout=_SEND_SECONDS)
                last.clear()
        for future in last:
            future.get(timeout=_SEND_SECONDS)
    producer.close()
    return Backlog(count, sum(sizes), min(sizes), max(sizes))
