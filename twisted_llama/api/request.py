"""
The request as the gateway's own resources see it.
"""

from __future__ import annotations

from twisted.python.failure import Failure

from twisted_llama.auth.realm import Principal
from twisted_llama.errors import GatewayError, InternalError
from twisted_llama.http.channel import GatewayChannel
from twisted_llama.http.request import GatewayRequest
from twisted_llama.telemetry.exchange import Exchange


class ApiRequest(GatewayRequest):
    """
    A request with what is known about it.

    @ivar exchange: its facts, for the access log and the metrics.
    @ivar client_host: the client's address; behind a trusted proxy, the one
        that it reports.
    @ivar forwarded_for: the value of C{X-Forwarded-For} for the engine.
    @ivar forwarded_proto: how it came to a trusted proxy; empty if none said so.
    @ivar objection: why it is refused whatever it asks for, public pages apart.
    @ivar principal: who sent it, once that is known; C{None} with keys off.
    """

    exchange: Exchange
    client_host: str
    forwarded_for: bytes
    forwarded_proto: bytes
    objection: GatewayError | None
    principal: Principal | None
    __slots__ = (
        "client_host",
        "exchange",
        "forwarded_for",
        "forwarded_proto",
        "objection",
        "principal",
    )

    def __init__(self, channel: GatewayChannel) -> None:
        super().__init__(channel)
        self.client_host = ""
        self.forwarded_for = self.forwarded_proto = b""
        self.objection = self.principal = None

    def processingFailed(self, reason: Failure) -> None:
        """
        Answer with an error; our own fault is logged under the request's id,
        which is all that the client learns of it.
        """
        if self.channel is not None and not isinstance(reason.value, GatewayError):
            self.log.failure(
                "While serving {method} {path} ({request_id})",
                reason,
                method=self.method.decode("ascii"),
                path=self.path.decode("ascii"),
                request_id=self.exchange.request_id.decode("ascii"),
            )
            reason = Failure(InternalError())
        super().processingFailed(reason)
