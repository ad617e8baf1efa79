"""
Passing the engine's answer on to the client.

A L{Relay} lives for one exchange.  It is told by the engine's connection what
comes, writes it out at once, and keeps the two in step: a client that does not
read stops the engine's connection, a client that leaves closes it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from twisted_llama.errors import GatewayError
from twisted_llama.http.framing import BodyFraming
from twisted_llama.http.head import ResponseHead
from twisted_llama.http.headers import client_response_lines
from twisted_llama.http.request import GatewayRequest
from twisted_llama.http.sse import UsageTap
from twisted_llama.http.upstream import EngineConnection

_AS_CAME, _CHUNKED, _PAYLOAD = range(3)


class Relay:
    """
    One answer on its way from the engine to a client.

    @ivar done: fires with C{None} when the answer is passed on whole; fails
        with what went wrong otherwise.  Cancelling it closes the engine's
        connection.
    @ivar begun: whether the client has got anything.
    @ivar status: the engine's status, 0 before it is known.
    @ivar first_byte_at: the clock when the head came, C{None} before.
    @ivar first_body_at: the same for the first byte of the body.
    @ivar body_bytes: how much of the body was written.
    """

    __slots__ = (
        "_connection",
        "_form",
        "_now",
        "_request",
        "_stream",
        "begun",
        "body_bytes",
        "done",
        "first_body_at",
        "first_byte_at",
        "status",
        "tap",
    )

    def __init__(
        self, request: GatewayRequest, connection: EngineConnection, now: Callable[[], float]
    ) -> None:
        """
        @param now: the clock, in seconds.
        """
        self._request = request
        self._connection = connection
        self._now = now
        self._form = _AS_CAME
        self._stream = False
        self.done: Deferred[None] = Deferred(self._cancel)
        self.begun = False
        self.status = 0
        self.first_byte_at: float | None = None
        self.first_body_at: float | None = None
        self.body_bytes = 0
        self.tap = UsageTap()
        request.on_drained = connection.resume

    def _cancel(self, _: Deferred[None]) -> None:
        self._connection.abort()

    # -- told by the engine's connection ---------------------------------------

    def begins(self, head: ResponseHead, framing: BodyFraming | None) -> None:
        """
        See L{twisted_llama.http.upstream.Answer.begins}.
        """
        request = self._request
        self.first_byte_at = self._now()
        self.status = head.status
        self._stream = head.event_stream
        lines = [client_response_lines(head), request.common_lines]
        if framing is None or head.length_bytes is not None:
            if head.length_bytes is not None and head.status != 204:
                lines.append(b"Content-Length: %d\r\n" % head.length_bytes)
        elif request.clientproto == b"HTTP/1.0":
            self._form = _PAYLOAD
        else:
            self._form = _CHUNKED
            lines.append(b"Transfer-Encoding: chunked\r\n")
        if not head.dated:
            lines.append(request.channel.site.date_line())
        lines.append(b"Connection: close\r\n\r\n" if request.channel.decide_closing() else b"\r\n")
        self.begun = True
        if not request.begin_relay(head.status, b"".join(lines)):
            self._connection.pause()

    def continues(self, data: bytes, payload: bytes) -> None:
        """
        See L{twisted_llama.http.upstream.Answer.continues}.
        """
        if self.first_body_at is None:
            self.first_body_at = self._now()
        if not payload:
            return
        self.tap.feed(payload)
        self.body_bytes += len(payload)
        framing = self._connection.framing
        if self._form == _CHUNKED:
            if framing is None or not framing.verbatim:
                data = b"%x\r\n%b\r\n" % (len(payload), payload)
        else:
            data = payload
        if not self._request.relay(data):
            self._connection.pause()

    def ended(self) -> None:
        """
        See L{twisted_llama.http.upstream.Answer.ended}.
        """
        if self._form == _CHUNKED:
            self._request.relay(b"0\r\n\r\n")
        self.done.callback(None)

    def failed(self, error: GatewayError) -> None:
        """
        See L{twisted_llama.http.upstream.Answer.failed}.
        """
        self.done.errback(error)

    # -- told by who serves the request -------------------------------------------

    def break_off(self, error_json: bytes) -> None:
        """
        End an answer that has begun and cannot be made whole, so that no
        client takes it for whole: an event stream with an event that says
        why, and all of them without their proper end.

        @param error_json: the error in OpenAI's shape, on one line.
        """
        channel = self._request.channel
        if channel is None:
            return
        # In a body of known length the event could stand for the missing rest.
        if self._stream and self._form != _AS_CAME:
            # An event that came in part is ended first.
            event = b"" if self.tap.ends_event() else b"\n\n"
            event += b"data: %b\n\n" % error_json
            if self._form == _CHUNKED:
                event = b"%x\r\n%b\r\n" % (len(event), event)
            channel.outlet.write(event)
            channel.cut(gently=True)
        else:
            channel.cut(gently=self._form != _PAYLOAD)
