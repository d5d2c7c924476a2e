"""Broker alone and store alone: their rates without any other load."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np

from bench.checkout import CHECKOUT
from bench.rounds import percentiles
from bench.synthetic import fill, made_up_info, unit_vectors
from bench.workspace import free_ports
from twinline.clients.kafka.connect import ensure_topics, kafka_errors, make_consumer, make_producer
from twinline.clients.settings import Settings
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import nearest
from twinline.contract.canonical import JSON
from twinline.contract.errors import TransientError

_MESSAGE: Final = b"x" * 1024
_START_SECONDS: Final = 60.0
_QUERIES: Final = 200


def broker_alone(folder: Path, *, short: bool) -> dict[str, JSON]:
    """Return the rates at which the embedded broker takes and gives messages of 1 KiB."""
    count = 2_000 if short else 20_000
    with running_broker(folder) as settings:
        ensure_topics(settings)
        with kafka_errors(settings), closing(make_producer(settings)) as producer:
            started = time.perf_counter()
            for _ in range(count):
                producer.send(settings.topic, value=_MESSAGE)
            producer.flush()
            produced = time.perf_counter() - started
        with kafka_errors(settings), closing(make_consumer(settings, f"alone.{uuid4().hex[:8]}")) as consumer:
            consumer.subscribe([settings.topic])
            seen, began, give_up = 0, 0.0, time.perf_counter() + _START_SECONDS
            while seen < count:
                if time.perf_counter() > give_up:
                    raise TransientError(f"the broker gave {seen} of {count} messages back within {_START_SECONDS} s")
                found = sum(len(records) for records in consumer.poll(500).values())
                # After the first batch: joining the group is not the broker's speed.
                if found and not began:
                    began, first = time.perf_counter(), found
                seen += found
            consumed = time.perf_counter() - began
    rates = {"broker_produce_per_second": count / produced}
    if seen > first:
        rates["broker_consume_per_second"] = (seen - first) / consumed
    return {name: round(rate) for name, rate in rates.items()}


def store_alone(folder: Path, *, short: bool) -> dict[str, JSON]:
    """Return the rate at which the embedded store takes points, and the time of a query among them, without an index."""
    count = 2_000 if short else 10_000
    info = made_up_info()
    numbers = np.random.default_rng(1)
    with closing(EdgeStore(folder).create("documents_alone", info)) as collection:
        started = time.perf_counter()
        fill(collection, info, 0, count)
        collection.flush()
        filled = time.perf_counter() - started
        times = []
        for vector in unit_vectors(numbers, _QUERIES, info.dimension):
            started = time.perf_counter()
            nearest(collection, vector, 10)
            times.append((time.perf_counter() - started) * 1000)
    return {
        "store_upsert_per_second": round(count / filled),
        "store_points": count,
        **{f"store_query_{name}": value for name, value in percentiles(times, 50, 99).items()},
    }


@contextmanager
def running_broker(folder: Path) -> Iterator[Settings]:
    """Run the embedded broker alone while the block runs."""
    [port] = free_ports(1)
    home = folder / uuid4().hex[:8]
    settings = Settings(home=home, kafka_bootstrap=f"127.0.0.1:{port}")
    command = [sys.executable, "-m", "twinline.stack.broker", "127.0.0.1", str(port), str(home / "kafka")]
    home.mkdir(parents=True)
    with (home / "broker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ))
    try:
        _wait_for(settings, process)
        yield settings
    finally:
        process.terminate()
        process.wait(timeout=70)


def _wait_for(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while True:
        try:
            ensure_topics(settings)
        except TransientError:
            if process.poll() is not None or time.monotonic() > give_up:
                raise
            time.sleep(0.1)
        else:
            return
