"""Run the online process: store, search API and page, admin API, and one consumer a served release.

    python -m twinline.online

It starts without a release, without Triton and without a broker, and /readyz names the missing ones. SIGTERM: take no more
requests, drain the consumers, flush and close the collections, exit 0. A bug in a consumer stops the process in the same order
with the exit code of a bug, so the supervisor restarts it.
"""

import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from functools import partial
from typing import Final

from twinline.clients.run import DONE, FAILED, ended

_TEND_SECONDS: Final = 0.5
_DRAIN_SECONDS: Final = 12.0
_log = logging.getLogger("twinline.online")


def main() -> int:
    """Compose, wait for the end, stop in order; return the exit code."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    code = ended("online", partial(_serve, stop), check="all", logged=True, role="serve")
    logging.shutdown()
    return code


def _serve(stop: threading.Event) -> int:
    # Imported here so that telemetry is off before any of them loads.
    from prometheus_client import CollectorRegistry

    from streaming.lag import LagReporter
    from streaming.limits import load_limits
    from streaming.loop import Consumer
    from streaming.metrics import StreamingMetrics
    from twinline.clients.kafka.connect import ensure_topics
    from twinline.clients.log_identity import claim, read_alarms
    from twinline.clients.settings import load_settings
    from twinline.clients.store.open import make_store
    from twinline.contract.encoder.embedding import Embedder
    from twinline.contract.principal import LOCAL_OPERATOR
    from twinline.online.admin import LOOPBACK, build_admin
    from twinline.online.applying import Applier
    from twinline.online.consuming import ConsumerThread
    from twinline.online.servers import Servers
    from twinline.online.service import OnlineService
    from twinline.online.waiting import waiting_in_log
    from twinline.search import opening
    from twinline.search.api import build_app
    from twinline.search.middleware import own_hosts
    from twinline.search.releases import Releases, Served
    from twinline.stack.ports import Port

    settings, limits = load_settings(), load_limits()
    registry = CollectorRegistry()
    metrics = StreamingMetrics(registry)
    store = make_store(settings)
    releases = Releases(store)

    def start_consumer(served: Served) -> ConsumerThread:
        def make(embedder: Embedder) -> Consumer:
            ensure_topics(settings)
            # At every start, also after a pause: a topic may have been made again meanwhile.
            claim(settings, served.collection)
            metrics.alarms.replace(served.info.release, read_alarms(settings, served.collection))
            return Consumer(settings, replace(served.release, embedder=embedder), served.collection, limits, metrics)

        name, group = served.info.release, served.release.group
        return ConsumerThread(
            name,
            served.embedder,
            make,
            measure=lambda own: LagReporter(settings, group, name, metrics, own),
            show_running=metrics.running.labels(name).set,
        )

    service = OnlineService(store, releases, partial(opening.open_served, settings, store), start_consumer, metrics.alarms.texts)
    applier = Applier(releases, settings, limits)
    servers = Servers()
    servers.start(
        build_admin(service, applier, principal=LOCAL_OPERATOR), LOOPBACK, Port(settings.admin_port, "TWINLINE_ADMIN_PORT")
    )
    hosts = own_hosts(settings.host, settings.search_hosts)
    search = build_app(
        releases,
        principal=LOCAL_OPERATOR,
        checks=[service.faults],
        registry=registry,
        hosts=hosts,
        ask_log=partial(waiting_in_log, settings),
    )
    servers.start(search, settings.host, Port(settings.search_port, "TWINLINE_SEARCH_PORT"))
    _log.info("online_started", extra={"search": settings.search_url, "admin": settings.admin_url})
    try:
        while not stop.wait(_TEND_SECONDS):
            service.tend()
            servers.check()
    finally:
        _log.info("online_stopping")
        servers.stop()
        drained = service.stop(_DRAIN_SECONDS)
        _log.info("online_stopped", extra={"drained": drained})
    return DONE if drained else FAILED


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    # A thread that hangs in a library must not hold the port and the store of the next process.
    os._exit(exit_code)
