"""
Passing the engine's answer on to the client.

A L{Relay} lives for one exchange.  It is told by the engine's connection what
comes, writes it out at once, and keeps the two in step: a client that does not
read stops the engine's connection, a client that leaves closes it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_llama.errors import GatewayError
from twisted_llama.http.framing import BodyFraming
from twisted_llama.http.headers import client_response_lines
from twisted_llama.http.outlet import Outlet
from twisted_llama.http.request import GatewayRequest
from twisted_llama.http.response_head import ResponseHead
from twisted_llama.http.sse import ENDING, TOKEN_ENDS, UsageTap
from twisted_llama.http.upstream import EngineConnection

_AS_CAME, _CHUNKED, _PAYLOAD = range(3)


class Relay:
    """
    One answer on its way from the engine to a client.

    @ivar begun: whether the client has got anything.
    @ivar status: the engine's status, 0 before it is known.
    @ivar first_byte_at: the clock when the head came, C{None} before.
    @ivar first_body_at: the same for the first byte of the body.
    @ivar body_bytes: how much of the body was written.
    """

    __slots__ = (
        "_connection",
        "_event_ended",
        "_form",
        "_now",
        "_on_end",
        "_outlet",
        "_request",
        "_stream",
        "begun",
        "body_bytes",
        "first_body_at",
        "first_byte_at",
        "status",
        "tap",
    )

    def __init__(
        self,
        request: GatewayRequest,
        connection: EngineConnection,
        now: Callable[[], float],
        on_end: Callable[[GatewayError | None], None],
    ) -> None:
        """
        @param now: the clock, in seconds.
        @param on_end: called once, with C{None} when the answer is passed on
            whole, else with what went wrong; not after L{stop}.
        """
        self._request = request
        # Found once, for a token that looks for it by request and channel waits for the
        # memory of both.
        self._outlet: Outlet
        self._connection = connection
        self._now = now
        self._form = _AS_CAME
        self._stream = False
        # Not yet: the first one is remembered in any case, for it names the model.
        self._event_ended = False
        self._on_end = on_end
        self.begun = False
        self.status = 0
        self.first_byte_at: float | None = None
        self.first_body_at: float | None = None
        self.body_bytes = 0
        self.tap = UsageTap()
        request.on_drained = connection.resume

    def stop(self) -> None:
        """
        Nobody wants the rest: close the engine's connection, so that it stops.
        """
        self._connection.abort()

    # -- told by the engine's connection ---------------------------------------

    def begins(
        self, head: ResponseHead, length_bytes: int | None, framing: BodyFraming | None
    ) -> None:
        """
        See L{twisted_llama.http.upstream.Answer.begins}.
        """
        request = self._request
        channel = request.channel
        self._outlet = channel.outlet
        self.first_byte_at = self._now()
        self.status = head.status
        self._stream = head.event_stream
        line = b""
        if framing is None or length_bytes is not None:
            if length_bytes is not None and head.status != 204:
                line = b"Content-Length: %d\r\n" % length_bytes
        elif request.clientproto == b"HTTP/1.0":
            self._form = _PAYLOAD
        else:
            self._form = _CHUNKED
            line = b"Transfer-Encoding: chunked\r\n"
        self.begun = True
        if not request.begin_relay(
            head.status,
            b"%b%b%b%b%b"
            % (
                client_response_lines(head),
                request.common_lines,
                line,
                b"" if head.dated else channel.site.date_line(),
                b"Connection: close\r\n\r\n" if channel.decide_closing() else b"\r\n",
            ),
        ):
            self._connection.pause()

    def continues(self, data: bytes, payload: bytes) -> None:
        """
        See L{twisted_llama.http.upstream.Answer.continues}.
        """
        if not payload:
            return
        first = self.first_body_at is None
        if first:
            self.first_body_at = self._now()
        # A tap that remembers no token leaves the memory of each, which is still in the
        # processor's caches, to the next.
        if not self._event_ended or payload[ENDING] != TOKEN_ENDS:
            self._event_ended = self.tap.feed(payload)
        self.body_bytes += len(payload)
        framing = self._connection.framing
        if self._form == _CHUNKED:
            if framing is None or not framing.verbatim:
                data = b"%x\r\n%b\r\n" % (len(payload), payload)
        else:
            data = payload
        more = self._outlet.write(data)
        if first and self._stream:
            # For the first token somebody waits; those that follow can wait for each other.
            more = self._outlet.flush()
        if not more:
            self._connection.pause()

    def ended(self) -> None:
        """
        See L{twisted_llama.http.upstream.Answer.ended}.
        """
        if self._form == _CHUNKED:
            self._outlet.write(b"0\r\n\r\n")
        self._on_end(None)

    def failed(self, error: GatewayError) -> None:
        """
        See L{twisted_llama.http.upstream.Answer.failed}.
        """
        self._on_end(error)

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
