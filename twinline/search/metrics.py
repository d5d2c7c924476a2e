"""Search metrics for Prometheus: counts and times."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from twinline.search.results import SearchResult

_SECONDS = (0.002, 0.004, 0.006, 0.008, 0.012, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class SearchMetrics:
    """The metrics of one application; `/metrics` shows `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counter("twinline_search_requests", "Requests to the search API.", ["path", "status"], registry=registry)
        self._seconds = Histogram(
            "twinline_search_seconds", "Time of one answer, by part.", ["part"], buckets=_SECONDS, registry=registry
        )
        self._empty = Counter("twinline_search_empty", "Answers without a hit.", registry=registry)

    def answered(self, answer: SearchResult) -> None:
        """Count one answer and its times."""
        for part, milliseconds in (
            ("embed", answer.timings.embed_ms),
            ("store", answer.timings.search_ms),
            ("total", answer.timings.total_ms),
        ):
            self._seconds.labels(part).observe(milliseconds / 1000)
        if not answer.hits:
            self._empty.inc()

    def requested(self, path: str, status: int) -> None:
        """Count one request; `path` is the route's template, so that requests cannot grow the set of labels."""
        self._requests.labels(path, str(status)).inc()
