"""
The request as the gateway's own resources see it.
"""

from __future__ import annotations

from twisted_llama.auth.realm import Principal
from twisted_llama.http.request import GatewayRequest
from twisted_llama.telemetry.exchange import Exchange


class ApiRequest(GatewayRequest):
    """
    A request with what is known about it.

    @ivar exchange: its facts, for the access log and the metrics.
    @ivar client_host: the client's address; behind a trusted proxy, the one
        that it reports.
    @ivar forwarded_for: the value of C{X-Forwarded-For} for the engine.
    @ivar principal: who sent it, once that is known; C{None} with keys off.
    """

    exchange: Exchange
    client_host: str = ""
    forwarded_for: bytes = b""
    principal: Principal | None = None
