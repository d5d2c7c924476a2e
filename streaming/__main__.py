"""The consumer program: from the log to one release's collection.

    python -m streaming build --release R [--snapshot ID]    make the collection: snapshot, then the log, then the index
    python -m streaming run --release R                      keep it fresh: poll, handle, commit, until SIGTERM

    Kafka ──poll──> decode ──> decide ──> Triton ──> heads, chunks, surplus ──> flush ──> commit
                      └────────────┴───────────┴──> dead letters

With the embedded store, `run` is the online process's work: one process owns a collection.
"""

import logging
import signal
import threading
from typing import Annotated

import typer

from twinline.clients.run import INTERRUPTED, run

_log = logging.getLogger(__name__)

app = typer.Typer(add_completion=False, help="From the log to an index.", pretty_exceptions_enable=False)

ReleaseId = Annotated[str, typer.Option(help="A fetched release, such as r0123456789ab.")]


@app.command("run")
def run_command(release: ReleaseId) -> None:
    """Keep a release's collection fresh until SIGTERM; the batch in flight is finished and committed."""
    from contextlib import closing

    from prometheus_client import CollectorRegistry, start_http_server

    from streaming.lag import LagReporter
    from streaming.limits import load_limits
    from streaming.loop import Consumer
    from streaming.metrics import StreamingMetrics
    from twinline.clients.kafka.connect import ensure_topics
    from twinline.clients.log_identity import claim
    from twinline.clients.release import open_release
    from twinline.clients.settings import load_settings
    from twinline.clients.store.door import check_index
    from twinline.clients.store.open import make_store

    settings, limits, registry = load_settings(), load_limits(), CollectorRegistry()
    if limits.metrics_port:
        start_http_server(limits.metrics_port, settings.host, registry)
    opened = open_release(settings, release)
    ensure_topics(settings)
    metrics = StreamingMetrics(registry)
    with closing(make_store(settings).open(opened.collection_name, opened.info)) as collection:
        check_index(collection, opened.golden)
        claim(settings, collection)
        consumer = Consumer(settings, opened, collection, limits, metrics)
        with closing(LagReporter(settings, consumer.group, release, metrics, lambda: consumer.state.lag)):
            metrics.running.labels(release).set(1)
            consumer.run(_stop_at_signals())


@app.command()
def build(
    release: ReleaseId,
    snapshot: Annotated[str, typer.Option(help="A snapshot of the topic to start from; else the whole log.")] = "",
    ask: Annotated[bool, typer.Option("--ask", help="Wait for a person's yes after the estimate of time and size.")] = False,
) -> None:
    """Build a release's collection, complete up to now, and visible once it is whole; after a stop, the same command resumes."""
    import time
    from dataclasses import replace

    from streaming.building.build import build as build_collection
    from streaming.building.build import find_inputs
    from streaming.building.estimate import collection_bytes, estimate_build, record_build
    from streaming.building.progress import BuildProgress
    from streaming.building.throttle import SearchTraffic, ThrottledEmbedder, lower_priority
    from streaming.limits import load_limits
    from twinline.clients.log_identity import check
    from twinline.clients.release import open_release
    from twinline.clients.settings import load_settings
    from twinline.clients.store.open import make_store

    lower_priority()
    settings, limits = load_settings(), load_limits()
    opened, store = open_release(settings, release), make_store(settings)
    opened = replace(opened, embedder=ThrottledEmbedder(opened.embedder, SearchTraffic(settings.search_url).is_busy))
    if opened.collection_name in store.names():
        store.info(opened.collection_name).check(opened.info, opened.collection_name)
        check(settings, store, opened.collection_name)
        typer.echo(f"collection {opened.collection_name} is built already")
        return
    inputs = find_inputs(settings, snapshot or None)
    # A part of an interrupted build says nothing of the whole.
    is_whole = opened.collection_name not in store.begun()
    expected = estimate_build(settings, opened, store, inputs.size)
    typer.echo("\n".join(expected.lines()), err=True)
    _log.info("build_estimated", extra={"release": release, **expected.to_json()})
    if ask and not _agreed():
        typer.echo("nothing was built", err=True)
        raise typer.Exit(INTERRUPTED)
    # Not before the question: it would keep Ctrl-C from it.
    stop = _stop_at_signals()
    began = time.monotonic()
    with BuildProgress(settings.home, release, inputs.size) as progress:
        built = build_collection(opened, store, settings, limits, inputs, stop, progress)
    if built is None:
        typer.echo(f"stopped; run the same command again to go on with {opened.collection_name}", err=True)
        raise typer.Exit(INTERRUPTED)
    kept = f"{built.chunks_reused} kept their vectors" + (f", with {built.reused_from} at hand" if built.reused_from else "")
    typer.echo(
        f"collection {opened.collection_name} is built from {inputs.size} messages: {built.chunks_embedded} chunks embedded, "
        f"{kept}; next: serve and verify it"
    )
    if is_whole:
        seconds = time.monotonic() - began
        size = collection_bytes(settings, opened.collection_name)
        typer.echo(expected.compared(seconds, size), err=True)
        took = {"seconds": round(seconds, 1), "bytes": size}
        estimated = {"estimated_seconds": expected.seconds, "estimated_bytes": expected.bytes}
        _log.info("build_took", extra={"release": release, **took, **estimated})
        record_build(settings, opened, built, inputs.size, seconds, expected.seconds)


def _agreed() -> bool:
    """Ask a person whether to go on; an end of the input is a no."""
    try:
        return typer.confirm("build it now?", default=True, err=True)
    except typer.Abort:
        return False


def _stop_at_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def main() -> None:
    """Run the command."""
    run("streaming", app, check="all", logged=True, role="serve")


if __name__ == "__main__":
    main()
