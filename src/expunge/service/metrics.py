"""Figures for Prometheus: how the service answers, and what waits in the ledger."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from expunge.ledger.counting import counts, worker_present
from expunge.ledger.opening import Ledger

MEDIA_TYPE = CONTENT_TYPE_LATEST
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Counters of one process, beside what is counted in the ledger whenever it is asked for."""

    def __init__(self, ledger: Ledger) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Counted(ledger))
        self._requests = Counter(
            "expunge_http_requests",
            "Requests that were answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "expunge_http_request_seconds",
            "Time until a request was answered whole; streams of progress are left out.",
            ("route",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "expunge_http_requests_in_flight",
            "Requests that are being answered.",
            registry=self.registry,
        )

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request while it is answered."""
        with self._in_flight.track_inprogress():
            yield

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered; ``route`` is its template."""
        known = method if method in METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        if not route.endswith("/events"):
            self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Everything, in the text format of Prometheus."""
        return generate_latest(self.registry)


class _Counted(Collector):
    """What the ledger holds, read when it is asked for."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def collect(self) -> Iterator[Metric]:
        found = counts(self.ledger)
        yield _gauge("expunge_requests", "Removal requests.", ("model", "state"), found.requests)
        yield _gauge(
            "expunge_requests_overdue",
            "Removal requests whose deadline is past and that are not answered.",
            ("model",),
            {(model,): n for model, n in found.overdue.items()},
        )
        yield _gauge(
            "expunge_runs", "Runs that have not ended.", ("model", "kind", "state"), found.runs
        )
        yield _gauge(
            "expunge_model_version",
            "Number of the current version.",
            ("model",),
            {(model,): n for model, n in found.versions.items()},
        )
        present = GaugeMetricFamily("expunge_worker_present", "Whether a worker runs.")
        present.add_metric((), float(worker_present(self.ledger)))
        yield present

    def describe(self) -> Iterator[Metric]:
        """Nothing: else the ledger would be read when the registry is made."""
        return iter(())


def _gauge(name: str, meaning: str, labels: tuple[str, ...], found: Mapping[Any, int]) -> Metric:
    """A gauge for tuples of values of its labels."""
    gauge = GaugeMetricFamily(name, meaning, labels=labels)
    for values, number in sorted(found.items()):
        gauge.add_metric(values, float(number))
    return gauge
