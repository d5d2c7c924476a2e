"""The parts of the embedded stack in starting order: the table of contents of `twinline up`."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from twinline.clients.settings import Settings
from twinline.stack import readiness
from twinline.stack.ports import Port


@dataclass(frozen=True)
class Part:
    """One supervised program.

    Attributes:
        probe: returns None when the part is ready, else the reason why not.
        needs: parts that must be ready before this one starts.
        stops_as_group: the stop signal goes to every process of the part at once; without it, only to the first process, which
            then stops the others in its own order.
    """

    name: str
    title: str
    command: tuple[str, ...]
    ports: tuple[Port, ...]
    probe: Callable[[], str | None]
    start_limit_seconds: float
    stop_limit_seconds: int
    needs: tuple[str, ...] = ()
    stops_as_group: bool = False


def parts(settings: Settings) -> tuple[Part, ...]:
    """Return the parts that this machine runs, without parts that have an address elsewhere."""
    listed = []
    if not settings.kafka_bootstrap:
        listed.append(_broker(settings))
    if not settings.triton_grpc:
        listed.append(_triton(settings))
    listed += [_online(settings), _airflow(settings)]
    return tuple(listed)


def _broker(settings: Settings) -> Part:
    return Part(
        name="broker",
        title="Kafka broker",
        command=_module("twinline.stack.broker", settings.host, str(settings.kafka_port), str(settings.home / "kafka")),
        ports=(Port(settings.kafka_port, "TWINLINE_KAFKA_PORT"),),
        probe=partial(readiness.broker, settings.kafka_address),
        start_limit_seconds=90,  # the broker reads its whole log before it answers
        stop_limit_seconds=150,  # it writes the log in two steps of 60 seconds at most
    )


def _triton(settings: Settings) -> Part:
    return Part(
        name="triton",
        title="Triton model server",
        command=_module("triton_models", "serve"),
        ports=(
            Port(settings.triton_grpc_port, "TWINLINE_TRITON_GRPC_PORT"),
            Port(settings.triton_http_port, "TWINLINE_TRITON_HTTP_PORT"),
            Port(settings.triton_metrics_port, "TWINLINE_TRITON_METRICS_PORT"),
        ),
        probe=partial(readiness.http, f"http://{settings.triton_http_address}/v2/health/ready"),
        start_limit_seconds=120,
        stop_limit_seconds=40,
    )


def _online(settings: Settings) -> Part:
    return Part(
        name="online",
        title="search and indexing",
        command=_module("twinline.online"),
        ports=(
            Port(settings.search_port, "TWINLINE_SEARCH_PORT"),
            Port(settings.admin_port, "TWINLINE_ADMIN_PORT"),
        ),
        probe=partial(readiness.http, f"{settings.admin_url}/status"),
        start_limit_seconds=120,
        stop_limit_seconds=60,  # for the batch in flight, and for closing the shards
        needs=("broker", "triton"),
    )


def _airflow(settings: Settings) -> Part:
    return Part(
        name="airflow",
        title="Airflow",
        command=_module("twinline.stack.airflow"),
        ports=(Port(settings.airflow_port, "TWINLINE_AIRFLOW_PORT"),),
        probe=partial(readiness.airflow, f"{settings.airflow_url}/api/v2/monitor/health"),
        start_limit_seconds=300,  # ten seconds alone, minutes beside a training run on two cores
        stop_limit_seconds=30,
        # Airflow's first process ends at once on SIGTERM and leaves the others running.
        stops_as_group=True,
    )


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *arguments)
