"""
The pages that say how the gateway is.  They tell what is known here and ask
the engine nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, Protocol

from twisted.web.resource import Resource

from twisted_llama import __version__
from twisted_llama.api.request import ApiRequest
from twisted_llama.api.tree import require_method
from twisted_llama.engine.status import EngineStatus
from twisted_llama.errors import GatewayError, NotAdmitted


class Page(Resource):
    """
    A small page that is made at once.
    """

    isLeaf = True
    reads_own_body = True

    def render(self, request: ApiRequest) -> bytes:
        """
        Answer C{GET} and C{HEAD}.

        @raise MethodNotAllowed: for other methods.
        """
        require_method(request, "GET", "HEAD")
        content = self.content(request)
        request.setHeader(b"Content-Length", b"%d" % len(content))
        return b"" if request.method == b"HEAD" else content

    def content(self, request: ApiRequest) -> bytes:
        """
        Make the page; status and content type are set on the request.
        """
        raise NotImplementedError


class PingPage(Page):
    """
    Whether anybody is there.
    """

    def content(self, request: ApiRequest) -> bytes:
        """
        Nothing; the status says it all.
        """
        return b""


class Queue(Protocol):
    """
    What the status pages want to know of the queue.
    """

    max_concurrent: int
    max_queue_size: int

    @property
    def active(self) -> int:
        """
        Requests that hold a slot.
        """

    @property
    def waiting(self) -> int:
        """
        Requests that wait for one.
        """

    def would_refuse(self) -> GatewayError | None:
        """
        Why a request would be refused now, if it would.
        """


class Health:
    """
    What is known of the gateway's state.
    """

    def __init__(
        self,
        queue: Queue,
        engine: Callable[[], EngineStatus],
        key_count: Callable[[], int] | None,
        uptime_seconds: Callable[[], float],
        draining: Callable[[], bool],
    ) -> None:
        """
        @param key_count: how many keys are loaded; C{None} with keys off.
        """
        self._queue = queue
        self._engine = engine
        self._key_count = key_count
        self._uptime_seconds = uptime_seconds
        self._draining = draining

    def refusal(self) -> GatewayError | None:
        """
        Why a request would be refused now; C{None} if it would be served or
        queued.
        """
        return self._queue.would_refuse()

    def not_ready(self) -> bool:
        """
        Whether C{/ready} says no: a request would be refused, or the engine
        could not serve it yet.
        """
        return self._draining() or self._engine().state != "ready" or self.refusal() is not None

    def report(self) -> dict[str, Any]:
        """
        The content of C{/health}.
        """
        engine = self._engine()
        if self._draining():
            status = "draining"
        elif engine.state == "ready":
            status = "ok"
        elif engine.state in ("starting", "loading") and engine.last_exit is None:
            status = "loading"
        else:
            status = "degraded"
        last = engine.last_exit
        last_exit: dict[str, Any] | None = None
        if last is not None:
            last_exit = {"reason": last.reason}
            if last.signal is not None:
                last_exit["signal"] = last.signal
            else:
                last_exit["code"] = last.code
        return {
            "status": status,
            "uptime_seconds": round(self._uptime_seconds(), 3),
            "engine": {
                "state": engine.state,
                "model": engine.model,
                "pid": engine.pid,
                "restarts": engine.restarts,
                "ready_since": engine.ready_since,
                "last_exit": last_exit,
                "reason": engine.reason or None,
            },
            "queue": {
                "max_concurrent": self._queue.max_concurrent,
                "max_queue_size": self._queue.max_queue_size,
                "active": self._queue.active,
                "waiting": self._queue.waiting,
            },
            "authentication": {
                "enabled": self._key_count is not None,
                "keys": self._key_count() if self._key_count is not None else 0,
            },
            "version": __version__,
        }


class HealthPage(Page):
    """
    How the gateway is, for people and dashboards: always 200.
    """

    def __init__(self, health: Health) -> None:
        super().__init__()
        self._health = health

    def content(self, request: ApiRequest) -> bytes:
        """
        The report.
        """
        request.setHeader(b"Content-Type", b"application/json")
        return json.dumps(self._health.report()).encode("ascii")


class ReadyPage(HealthPage):
    """
    Whether to send requests here, for load balancers.
    """

    def content(self, request: ApiRequest) -> bytes:
        """
        The report, with 503 if requests should go elsewhere.
        """
        if self._health.not_ready():
            refusal = self._health.refusal()
            wait = refusal.retry_after_seconds if isinstance(refusal, NotAdmitted) else 5.0
            request.setResponseCode(503)
            request.setHeader(b"Retry-After", b"%d" % max(1, ceil(wait)))
        return super().content(request)


class Figures(Protocol):
    """
    What the metrics page shows.
    """

    def render_json(self) -> Mapping[str, object]:
        """
        The figures as one JSON object.
        """

    def render_prometheus(self, openmetrics: bool) -> bytes:
        """
        The figures in Prometheus' text format, or OpenMetrics'.
        """

    def content_type(self, openmetrics: bool) -> bytes:
        """
        The media type of L{render_prometheus}.
        """


class MetricsPage(Page):
    """
    The figures, in the form that C{Accept} asks for.
    """

    def __init__(self, figures: Figures, catch_up: Callable[[], object]) -> None:
        """
        @param catch_up: lets the figures hear of all that was until now.
        """
        super().__init__()
        self._figures = figures
        self._catch_up = catch_up

    def content(self, request: ApiRequest) -> bytes:
        """
        JSON unless a text format is asked for.
        """
        self._catch_up()
        accept = request.head.first.get(b"accept", b"").lower()
        openmetrics = b"application/openmetrics-text" in accept
        if openmetrics or b"text/plain" in accept:
            request.setHeader(b"Content-Type", self._figures.content_type(openmetrics))
            return self._figures.render_prometheus(openmetrics)
        request.setHeader(b"Content-Type", b"application/json")
        return json.dumps(self._figures.render_json()).encode("ascii")
