"""
The gateway's metrics: counting finished exchanges, and showing the counts as
Prometheus text, OpenMetrics text or JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from twisted.logger import Logger

from .exchange import Exchange
from .tallies import Tallies

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_TEXT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS_TYPE: Final = b"application/openmetrics-text; version=1.0.0; charset=utf-8"


class GateFigures(Protocol):
    """
    What the metrics ask of the gate, at every scrape.
    """

    @property
    def active(self) -> int:
        """Requests that are being relayed."""

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""


class EngineFigures(Protocol):
    """
    What the metrics ask of the engine's status, at every scrape.
    """

    @property
    def state(self) -> str:
        """One of L{exposition.ENGINE_STATES}."""

    @property
    def restarts(self) -> int:
        """How often it was started again after a crash."""

    @property
    def model(self) -> str | None:
        """The file name of its model."""


class LimitsFigures(Protocol):
    """
    What the metrics ask of limits that several gateways share.
    """

    @property
    def fallbacks(self) -> int:
        """Decisions made locally because the shared store was out of reach."""


class Metrics:
    """
    Count finished exchanges and show the counts.

    @param monotonic: the present time in seconds, C{IReactorTime.seconds}.
    @param gate: read at every scrape, like the following.
    @param engine: gives the engine's status.
    @param limits: shared limits, if there are any.
    @param lost_log_lines: how many lines the logs lost so far.
    """

    _log = Logger()

    def __init__(
        self,
        monotonic: Callable[[], float],
        gate: GateFigures,
        engine: Callable[[], EngineFigures],
        limits: LimitsFigures | None = None,
        lost_log_lines: Callable[[], int] | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._started = monotonic()
        self._registry: CollectorRegistry | None = None
        self.tallies = Tallies()
        self.gate = gate
        self.engine = engine
        self.limits = limits
        self.lost_log_lines = lost_log_lines

    def observe(self, exchanges: Sequence[Exchange]) -> None:
        """
        Count finished exchanges.
        """
        add = self.tallies.add
        for exchange in exchanges:
            try:
                add(exchange)
            except Exception:
                # A defect in counting one must not cost the others.
                self._log.failure("While counting {exchange}", exchange=exchange)

    @property
    def uptime_seconds(self) -> float:
        """
        Seconds since these metrics began.
        """
        return self._monotonic() - self._started

    @staticmethod
    def content_type(openmetrics: bool) -> bytes:
        """
        The C{Content-Type} of L{render_prometheus}.
        """
        return _OPENMETRICS_TYPE if openmetrics else _TEXT_TYPE

    def render_prometheus(self, openmetrics: bool) -> bytes:
        """
        Show everything in a text format of Prometheus.

        @param openmetrics: in OpenMetrics 1.0, not in the older format 0.0.4.
        """
        # Imported here, since a gateway that nobody scrapes need not hold it.
        from .exposition import make_registry, render

        if self._registry is None:
            self._registry = make_registry(self)
        return render(self._registry, openmetrics)

    def render_json(self) -> dict[str, dict[str, object]]:
        """
        Show the gateway's own figures as the object that C{GET /metrics} answers.
        """
        tallies = self.tallies
        return {
            "gateway": {
                "total_requests": tallies.requests_total,
                "active_requests": self.gate.active,
                "requests_by_path": {
                    label: sum(tally.statuses.values())
                    for label, tally in sorted(tallies.endpoints.items())
                },
                "errors_by_type": dict(sorted(tallies.errors.items())),
                "requests_success": tallies.requests_success,
                "requests_error": tallies.requests_total - tallies.requests_success,
                "requests_authenticated": tallies.requests_authenticated,
                "requests_unauthorized": tallies.requests_unauthorized,
                "bytes_sent": tallies.bytes_sent,
                "queue_depth": self.gate.waiting,
                "queue_rejections": sum(tallies.rejections.values()),
                "queue_wait_seconds_total": round(tallies.queue_wait.total, 6),
                "uptime_seconds": round(self.uptime_seconds, 3),
            }
        }
