"""Probes of the parts: each returns None when its part is ready, else one line with the reason."""

import socket

import httpx

_LIMIT_SECONDS = 5.0  # a busy machine answers late and is still ready


def broker(bootstrap: str) -> str | None:
    """Ready means that the broker lists its topics: its port opens before it can answer."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    host, _, port = bootstrap.split(",")[0].rpartition(":")
    try:
        # First the port alone: kafka-python does not close the sockets of a failed bootstrap.
        socket.create_connection((host, int(port)), timeout=_LIMIT_SECONDS).close()
    except OSError as error:
        return f"nothing listens at {bootstrap}: {error}"
    milliseconds = int(_LIMIT_SECONDS * 1000)
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=milliseconds, bootstrap_timeout_ms=milliseconds)
    except KafkaError as error:
        return f"no Kafka broker answers at {bootstrap}: {error}"
    try:
        admin.list_topics()
    except KafkaError as error:
        return f"the broker at {bootstrap} lists no topics: {error}"
    finally:
        admin.close()
    return None


def http(url: str) -> str | None:
    """Ready means that a GET is answered with success."""
    try:
        answer = _get(url)
    except httpx.HTTPError as error:
        return f"{url}: {error}"
    return None if answer.is_success else f"{url} answers {answer.status_code}: {answer.text[:200]}"


def airflow(url: str) -> str | None:
    """Ready means that the scheduler and the DAG processor send heartbeats; the API alone runs nothing."""
    try:
        health = _get(url).raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        return f"{url}: {error}"
    unhealthy = [part for part in ("scheduler", "dag_processor") if health[part]["status"] != "healthy"]
    return f"Airflow's {' and '.join(unhealthy)} sent no heartbeat yet" if unhealthy else None


def _get(url: str) -> httpx.Response:
    # `trust_env` off: a proxy for the outside world must not stand before loopback.
    return httpx.get(url, timeout=_LIMIT_SECONDS, trust_env=False)
