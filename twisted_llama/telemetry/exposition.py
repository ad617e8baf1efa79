"""
The metrics as families of C{prometheus_client}, made anew at every scrape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .metrics import Metrics
from .tallies import Histogram

PREFIX: Final = "llm_gateway_"
ENGINE_STATES: Final = (
    *("stopped", "starting", "loading", "ready"),
    *("stopping", "crashed", "backoff", "failed"),
)


def make_registry(metrics: Metrics) -> CollectorRegistry:
    """
    Make a registry of the gateway's metrics and those of process and Python.
    """
    registry = CollectorRegistry()
    registry.register(GatewayCollector(metrics))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry, openmetrics: bool) -> bytes:
    """
    Show all metrics of a registry as text.
    """
    if not openmetrics:
        return generate_latest(registry)
    text: bytes = generate_openmetrics(registry)
    return text


class GatewayCollector(Collector):
    """
    Yields the families of L{Metrics} as they stand.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """
        Yield every family once.
        """
        yield from self._by_endpoint()
        yield from self._totals()
        yield from self._gate()
        yield from self._engine()
        yield from self._own_health()

    def describe(self) -> Iterable[Metric]:
        """
        Describe nothing: names are known to differ from those of others.
        """
        return []

    def _by_endpoint(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            PREFIX + "requests",
            "Requests that named a path, by endpoint and status; 499: the client left.",
            labels=("endpoint", "status"),
        )
        durations = HistogramMetricFamily(
            PREFIX + "request_duration_seconds",
            "From the begin of a request to the end of its answer.",
            labels=("endpoint",),
        )
        first_tokens = HistogramMetricFamily(
            PREFIX + "time_to_first_token_seconds",
            "From the begin of a request to its first generated token.",
            labels=("endpoint",),
        )
        for endpoint, tally in sorted(self._metrics.tallies.endpoints.items()):
            for status, count in sorted(tally.statuses.items()):
                requests.add_metric((endpoint, str(status)), count)
            _add_histogram(durations, tally.durations, (endpoint,))
            if any(tally.first_tokens.counts):
                _add_histogram(first_tokens, tally.first_tokens, (endpoint,))
        yield requests
        yield durations
        yield first_tokens

    def _totals(self) -> Iterator[Metric]:
        tallies = self._metrics.tallies
        yield _histogram(
            "generation_duration_seconds", "What engines spent on generating.", tallies.generation
        )
        yield _counter("tokens_generated", "Tokens generated.", tallies.generated_tokens)
        yield _counter("prompt_tokens", "Tokens of prompts.", tallies.prompt_tokens)
        yield _counter("bytes_sent", "Bytes sent to clients.", tallies.bytes_sent)
        yield _counter("rate_limited", "Requests over their key's limit.", tallies.rate_limited)
        yield _by_reason("auth_failures", "Requests without a valid key.", tallies.auth_failures)
        yield _counter("client_disconnects", "Clients that left early.", tallies.client_disconnects)
        yield _counter(
            "malformed_requests",
            "Requests too broken to name a path.",
            tallies.requests_malformed,
        )
        yield _histogram(
            "relay_overhead_seconds", "What the gateway itself added.", tallies.overhead
        )

    def _gate(self) -> Iterator[Metric]:
        tallies = self._metrics.tallies
        gate = self._metrics.gate
        yield _gauge("active_requests", "Requests being relayed.", gate.active)
        yield _gauge("queue_depth", "Requests that wait for a slot.", gate.waiting)
        yield _histogram("queue_wait_seconds", "How long requests waited.", tallies.queue_wait)
        yield _by_reason("queue_rejections", "Requests that got no slot.", tallies.rejections)

    def _engine(self) -> Iterator[Metric]:
        status = self._metrics.engine()
        states = GaugeMetricFamily(
            PREFIX + "engine_state", "1 for the state the engine is in.", labels=("state",)
        )
        for state in ENGINE_STATES:
            states.add_metric((state,), 1 if state == status.state else 0)
        yield states
        yield _counter("engine_restarts", "Starts after a crash.", status.restarts)
        model = InfoMetricFamily(PREFIX + "model", "The model that is served.")
        if status.model is not None:
            # A file name may hold bytes that are no UTF-8.
            name = status.model.encode("utf-8", "backslashreplace").decode("utf-8")
            model.add_metric((), {"model": name})
        yield model

    def _own_health(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield _gauge("uptime_seconds", "Since the gateway began.", metrics.uptime_seconds)
        if metrics.limits is not None:
            yield _counter(
                "limits_fallbacks",
                "Decisions made locally because the shared limits were out of reach.",
                metrics.limits.fallbacks,
            )
        if metrics.lost_log_lines is not None:
            yield _counter(
                "log_lines_lost", "Log lines that could not be written.", metrics.lost_log_lines()
            )


def _counter(name: str, documentation: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, documentation, value=value)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, documentation, value=value)


def _by_reason(name: str, documentation: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, documentation, labels=("reason",))
    for reason, count in sorted(counts.items()):
        family.add_metric((reason,), count)
    return family


def _histogram(name: str, documentation: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, documentation, labels=())
    _add_histogram(family, histogram, ())
    return family


def _add_histogram(
    family: HistogramMetricFamily, histogram: Histogram, labels: tuple[str, ...]
) -> None:
    bounds = (*map(floatToGoString, histogram.bounds), "+Inf")
    cumulative = accumulate(histogram.counts)
    family.add_metric(
        labels,
        buckets=[(bound, count) for bound, count in zip(bounds, cumulative, strict=True)],
        sum_value=histogram.total,
    )
