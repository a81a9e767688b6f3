"""Numbers for Prometheus."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.reading import Readings
from api.store import Store

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What is measured here, and what is read from the log when asked.

    Args:
        store: the log.
        readings: folded searches.
        viewers: how many event streams are open.
    """

    def __init__(self, store: Store, readings: Readings, viewers: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Log(store, readings, viewers))
        self.requests = Histogram(
            "nichemerge_http_request_seconds",
            "Time to the first byte of an answer.",
            ("method", "route", "status"),
            registry=self._registry,
        )

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)


class _Log(Collector):
    def __init__(self, store: Store, readings: Readings, viewers: Callable[[], int]) -> None:
        self._store, self._readings, self._viewers = store, readings, viewers

    def describe(self) -> list[Metric]:
        """Nothing: so that registering does not read the log."""
        return []

    def collect(self) -> Iterator[Metric]:
        states: Tally[str] = Tally()
        outcomes: Tally[str] = Tally()
        for head in self._store.heads():
            with self._readings.open(head.search_id) as reading:
                states[reading.progress.state] += 1
                outcomes["scored"] += reading.progress.scored
                outcomes["infeasible"] += reading.progress.infeasible
        yield _gauge("nichemerge_searches", "Searches by state.", "state", states)
        yield _gauge("nichemerge_outcomes", "Candidates by outcome.", "outcome", outcomes)
        yield GaugeMetricFamily(
            "nichemerge_event_streams", "Open streams of events.", value=self._viewers()
        )


def _gauge(name: str, text: str, label: str, tally: Tally[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, count in sorted(tally.items()):
        family.add_metric((value,), count)
    return family


class Timed:
    """Measures every request by the template of its route, so that ids make no new series."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                self._metrics.requests.labels(scope["method"], route, message["status"]).observe(
                    time.perf_counter() - start
                )
            await send(message)

        await self._app(scope, receive, timed)
