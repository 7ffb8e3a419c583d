"""`/metrics`: how KBs stand, from the control plane's own figures, and what this service did, for Prometheus.

A tenant's key is shown how its own KBs stand; what the service did for everybody is the operator's.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from cachetools import TTLCache, cached
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from kb_pipeline.installation import Installation
from kb_pipeline.service.callers import HomeOfCaller

if TYPE_CHECKING:
    from kb_pipeline.operations.metrics import Metric

router = APIRouter(tags=["health"])

MULTIPROCESS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which worker processes keep their counts, so that whichever is asked can sum them up. The
client library reads it when it is imported."""
_KEPT_S = 10.0
"""For how long the control plane's figures hold: the whole ledger is summed up for them."""
_MOST_KEPT = 256
"""Callers whose figures are kept."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_FAMILIES = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}


class ServiceMetrics:
    """What this process counts of its own work; with several, what all of them count."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "kb_http_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "kb_http_request_seconds", "From a request's headers to the last byte of its answer.", ["route"],
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._lookups = Counter(
            "kb_cache_lookups", "What was looked for in a cache.", ["cache", "outcome"], registry=self._registry
        )
        self._answers = Counter(
            "kb_answers", "Questions answered or refused.", ["mode", "verdict"], registry=self._registry
        )

    def note_lookup(self, cache: str, *, is_hit: bool) -> None:
        """Count that something was looked for in a cache."""
        self._lookups.labels(cache, "hit" if is_hit else "miss").inc()

    def note_answer(self, mode: str, verdict: str) -> None:
        """Count that a question was answered, or refused."""
        self._answers.labels(mode, verdict).inc()

    def collect(self) -> Iterable[Family]:
        """Return the metrics with their samples."""
        if MULTIPROCESS_FOLDER not in os.environ:
            return self._registry.collect()
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return together.collect()


class _Scrape(Collector):
    """What one scrape shows."""

    def __init__(self, figures: Iterable[Metric], service: ServiceMetrics | None) -> None:
        self._figures, self._service = figures, service

    def collect(self) -> Iterator[Family]:
        for figure in self._figures:
            family = _FAMILIES[figure.kind](figure.name, figure.help, labels=figure.labels)
            for labels, value in figure.samples:
                family.add_metric(labels, value)
            yield family
        if self._service is not None:
            yield from self._service.collect()


class FigureCache:
    """The figures of each caller, for some seconds; two who ask at once wait for one reading."""

    def __init__(self) -> None:
        known: TTLCache[object, list[Metric]] = TTLCache(_MOST_KEPT, _KEPT_S, time.monotonic)
        self.of = cached(known, key=lambda home: home.caller, condition=threading.Condition())(Installation.metrics)


@router.get("/metrics", response_class=Response)
def scrape(request: Request, home: HomeOfCaller) -> Response:
    """Return the metrics in the text format of Prometheus: at most 5,000 series, whatever number of KBs there is."""
    figures: FigureCache = request.app.state.figures
    service: ServiceMetrics = request.app.state.metrics
    registry = CollectorRegistry()
    registry.register(_Scrape(figures.of(home), service if home.caller.is_operator else None))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
