"""
One client's connection: C{twisted.web}'s channel, on llhttp.

It stands where C{twisted.web.http.HTTPChannel} stands, between a transport and
C{twisted.web.server.Request}, and differs from it in this: heads are parsed by
llhttp and judged strictly; the request is handed on when its head is there and
its body is read when somebody asks for it, so that a stranger's body is never
stored; time-outs are absolute, so that a byte now and then holds nothing; and
an error says in the product's own form what was wrong.

Requests are served one at a time; what a client sends ahead waits in the
kernel's buffers but for a few bytes.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProducer, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from twisted_llama.errors import Draining, GatewayError, PayloadTooLarge, RequestTimeout
from twisted_llama.http.body import RequestBody
from twisted_llama.http.head import read_request_head
from twisted_llama.http.head_reader import HeadReader
from twisted_llama.http.outlet import Outlet, make_outlet
from twisted_llama.http.production import Production
from twisted_llama.http.request import GatewayRequest
from twisted_llama.http.stall import Stall

if TYPE_CHECKING:
    from twisted_llama.http.site import GatewaySite

#: How much is read at a time: a long prompt in one go, and still below what malloc
#: fetches from the system and gives back each time.
READ_BYTES = 122880
#: How much a client may send ahead before it is no longer read.
AHEAD_BYTES = 65536
#: The largest rest of a body nobody wanted that is read to keep a connection.
SKIP_BYTES = 65536
#: How long, and how much, a client may go on sending after its last answer.
LINGER_SECONDS = 2.0
LINGER_BYTES = 1048576
#: How long an idle connection stays open when the gateway ends: a request may be
#: on its way, and shall get an answer.
LEAVE_SECONDS = 1.0


class GatewayChannel(Protocol):
    """
    See the module.

    @ivar outlet: the way out to the client.
    @ivar deadline: when what is waited for is late.
    """

    log = Logger()
    outlet: Outlet

    def __init__(
        self, site: GatewaySite, counted_as: str = "", peer: IAddress | None = None
    ) -> None:
        """
        @param counted_as: the address under which the connection is counted.
        @param peer: who has connected, perhaps for others.
        """
        self.site = site
        self.counted_as = counted_as
        self._peer = peer
        self._host: IAddress | None = None
        self.factory = site
        self._limits = site.limits
        self._now = site.deadlines.clock.seconds
        self._reader = HeadReader(site.limits.head)
        self._input = b""
        self._request: GatewayRequest | None = None
        self._advancing = False
        self.deadline = inf
        # How much is still to come of the body of the request under way, as far as
        # is known before it is read (None: in chunks); its reading; who wants it.
        self._length_bytes: int | None = 0
        self._body: RequestBody | None = None
        self._wanted: Deferred[list[bytes]] | None = None
        # How this ends.
        self._must_close = False
        self._more_may_come = False
        self._closing = False
        self._lingered = False
        self._lingered_bytes = 0
        self._reading_paused = False
        # A producer of ordinary resources, and a client that does not read.
        self._production: Production | None = None
        self._stall: Stall | None = None

    # -- the connection ------------------------------------------------------

    def connectionMade(self) -> None:
        """
        A client has connected.
        """
        assert self.transport is not None
        if isinstance(self.transport, Connection):
            self.transport.bufferSize = READ_BYTES
        else:
            # Behind a haproxy: endpoint the client is not known before it has spoken.
            self._peer = None
        self.outlet = make_outlet(self.transport, self.site.turn, self._blocked, self._drained)
        self._secure = ISSLTransport.providedBy(self.transport)
        self.deadline = self._now() + self._limits.header_timeout_seconds
        self.site.deadlines.add(self)
        self.site.remember(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The client has gone; who works for it is told.
        """
        self._closing = True
        self._input = b""
        self.outlet.lost()
        self.site.deadlines.discard(self)
        self._forget_stall()
        self.site.forget(self)
        self._wanted = self._body = None
        production, self._production = self._production, None
        request, self._request = self._request, None
        if request is None:
            return
        try:
            try:
                if production is not None:
                    production.stop()
            finally:
                request.connectionLost(reason)
        except Exception:
            # Who counts requests is told of this one all the same.
            self.log.failure("While giving up a request whose client has left")
        self._tell_finished(request, False)

    def dataReceived(self, data: bytes) -> None:
        """
        The client has sent something.
        """
        if self._closing:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > LINGER_BYTES:
                self.abortConnection()
        elif self._body is not None:
            self._feed_body(self._body, data)
        else:
            self._input = self._input + data if self._input else data
            if self._request is None:
                self._advance()
            if len(self._input) > AHEAD_BYTES:
                self._pause_reading()

    def check_deadline(self, now: float) -> None:
        """
        See L{twisted_llama.http.deadlines.Timed}.
        """
        self.deadline = inf
        if self._closing:
            self._linger_no_more(now)
        elif self._request is None and self._length_bytes == 0:
            if self.outlet.blocked:
                # It is still taking the last answer, and may have sent more.
                self.deadline = now + self._limits.keepalive_timeout_seconds
            elif self._reader.begun:
                self._refuse(RequestTimeout("headers", self._limits.header_timeout_seconds))
            else:
                self._end()
        else:
            self._body_failed(RequestTimeout("body", self._limits.body_timeout_seconds))

    def close_if_idle(self) -> None:
        """
        Close the connection unless a request is under way on it; one that has
        come in part is refused.
        """
        if self._request is not None or self._closing:
            return
        if self._reader.begun:
            self._refuse(Draining(1))
        else:
            self._end()

    def abortConnection(self) -> None:
        """
        Cut the connection now; what the client has not taken is lost.
        """
        transport = self.transport
        if transport is not None:
            getattr(transport, "abortConnection", transport.loseConnection)()

    def _pause_reading(self) -> None:
        if not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pauseProducing()  # type: ignore[attr-defined]  # IPushProducer

    def _resume_reading(self) -> None:
        if self._reading_paused and self.transport is not None:
            self._reading_paused = False
            self.transport.resumeProducing()  # type: ignore[attr-defined]  # IPushProducer

    # -- heads ---------------------------------------------------------------

    def _advance(self) -> None:
        """
        Serve the requests that are there, one after the other.
        """
        if self._advancing:
            return
        self._advancing = True
        try:
            # Who does not take the answers does not get the next one, however
            # many requests were sent ahead.
            while (
                self._input
                and self._request is None
                and not self._closing
                and not self.outlet.blocked
            ):
                data, self._input = self._input, b""
                self._take_head(data)
        finally:
            self._advancing = False
        if len(self._input) <= AHEAD_BYTES:
            self._resume_reading()

    def _take_head(self, data: bytes) -> None:
        waiting = self._reader.begun
        try:
            raw = self._reader.feed(data)
            if raw is None:
                if self._reader.begun and not waiting:
                    self.deadline = self._now() + self._limits.header_timeout_seconds
                return
            head, self._length_bytes, authorization = read_request_head(raw)
        except GatewayError as error:
            self._refuse(error)
            return
        self._input, self._reader.excess = self._reader.excess, b""
        self.deadline = inf
        request = self._request = self.site.requestFactory(self)
        request.begin(head, self._length_bytes, authorization)
        self.site.begun(request)
        request.process()

    def _refuse(self, error: GatewayError) -> None:
        """
        Answer bytes that are no request, and read nothing more as one.
        """
        answer = self.site.render_error(None, error)
        self.site.refused(error, self.getPeer())
        self._must_close = self._more_may_come = True
        self.writeHeaders(b"HTTP/1.1", b"%d" % answer.status, answer.reason, answer.headers)
        self.outlet.write(answer.body)
        self._end()

    # -- bodies --------------------------------------------------------------

    def read_body(self) -> list[bytes] | Deferred[list[bytes]]:
        """
        See L{GatewayRequest.read_body}.
        """
        length_bytes = self._length_bytes
        if length_bytes == 0:
            return []
        if length_bytes is not None and length_bytes > self._limits.max_body_bytes:
            raise PayloadTooLarge(self._limits.max_body_bytes)
        data, self._input = self._input, b""
        if len(data) == length_bytes:
            # All of it came with the head.
            self._length_bytes = 0
            return [data]
        assert self._request is not None
        if self._request.head.expects_continue and not data:
            self.outlet.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        wanted: Deferred[list[bytes]] = Deferred()
        self._wanted = wanted
        self._read_body(data, kept=True)
        return wanted

    def _read_body(self, data: bytes, kept: bool) -> None:
        body = self._body = RequestBody(self._length_bytes, self._limits, self._now(), kept)
        self.deadline = body.deadline
        if data:
            self._feed_body(body, data)
        if self._body is body:
            self._resume_reading()

    def _feed_body(self, body: RequestBody, data: bytes) -> None:
        try:
            body.feed(data, self._now())
        except GatewayError as error:
            self._body_failed(error)
            return
        if not body.finished:
            self.deadline = body.deadline
            return
        self._input = body.excess
        self._body = None
        self._length_bytes = 0
        self.deadline = inf
        wanted, self._wanted = self._wanted, None
        if self._request is None:
            # That was the rest of a body nobody wanted; its request is answered.
            self._await_request()
        elif wanted is not None:
            wanted.callback(body.pieces)

    def _body_failed(self, error: GatewayError) -> None:
        """
        Nothing that follows can be read as a body or a request any more.
        """
        self._must_close = self._more_may_come = True
        self._body = None
        self._length_bytes = 0
        self._input = b""
        self.deadline = inf
        wanted, self._wanted = self._wanted, None
        if self._request is None:
            self._end()
        elif wanted is not None:
            wanted.errback(error)

    # -- what twisted.web.http.Request asks of its channel ---------------------

    def getPeer(self) -> IAddress:
        """
        The client's address.
        """
        if self._peer is None:
            assert self.transport is not None
            self._peer = self.transport.getPeer()
        return self._peer

    def getHost(self) -> IAddress:
        """
        The address that the client has reached.
        """
        if self._host is None:
            assert self.transport is not None
            self._host = self.transport.getHost()
        return self._host

    def isSecure(self) -> bool:
        """
        Whether the client came by TLS.
        """
        return self._secure

    def decide_closing(self) -> bool:
        """
        Decide, once its head is written, whether the connection ends with the
        answer to the request under way.

        @return: whether to tell the client so.
        """
        if not self._must_close:
            self._must_close = self._cannot_go_on()
        return self._must_close

    def _cannot_go_on(self) -> bool:
        request = self._request
        if self.site.draining or request is None:
            return True
        if not request.head.keep_alive or request.head.version == b"HTTP/1.0":
            return True
        length_bytes = self._length_bytes
        if length_bytes == 0:
            return False
        # A body that was not asked for has to be got out of the way.
        return length_bytes is None or length_bytes > SKIP_BYTES or request.head.expects_continue

    def writeHeaders(
        self,
        version: bytes,
        code: bytes,
        reason: bytes,
        headers: Headers | list[tuple[bytes, bytes]],
    ) -> None:
        """
        Send the head of an answer that is made here.
        """
        if isinstance(headers, Headers):
            headers = [(n, v) for n, values in headers.getAllRawHeaders() for v in values]
        # Our own version, as RFC 9110, section 6.2, has it; not the client's.
        lines = [b"HTTP/1.1 %b %b\r\n" % (code, reason)]
        lines += [b"%b: %b\r\n" % field for field in headers]
        lines.append(self.site.date_line())
        if self._request is not None:
            lines.append(self._request.common_lines)
        lines.append(b"Connection: close\r\n\r\n" if self.decide_closing() else b"\r\n")
        self.outlet.write(b"".join(lines))

    def write(self, data: bytes) -> None:
        """
        Send some of the body of an ordinary answer.
        """
        if not self.outlet.write(data) and self._production is not None:
            self._production.written()

    def writeSequence(self, pieces: list[bytes]) -> None:
        """
        Send some of the body of an ordinary answer.
        """
        self.write(b"".join(pieces))

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Let a producer of an ordinary answer be stopped by a slow client.
        """
        production = self._production = Production(
            producer, not streaming, self.outlet, self.site.deadlines.clock, self.abortConnection
        )
        production.begin()

    def unregisterProducer(self) -> None:
        """
        The producer has produced everything.
        """
        production, self._production = self._production, None
        if production is not None:
            production.end()

    def _blocked(self) -> None:
        self._stall = Stall(self.outlet, self._limits.write_timeout_seconds, self.abortConnection)
        self.site.deadlines.add(self._stall)

    def _forget_stall(self) -> None:
        stall, self._stall = self._stall, None
        if stall is not None:
            self.site.deadlines.discard(stall)

    def _drained(self) -> None:
        self._forget_stall()
        if self._closing:
            self.deadline = self._now() + LINGER_SECONDS
        elif self._production is not None:
            self._production.drained()
        elif self._request is None:
            self._advance()
        elif self._request.on_drained is not None:
            self._request.on_drained()

    def fail(self, request: GatewayRequest, error: BaseException) -> None:
        """
        Answer with an error, or, if the answer has begun, cut it off.
        """
        if request.startedWriting:
            self.abortConnection()
            return
        answer = self.site.render_error(request, error)
        self._must_close = self._must_close or answer.close
        request.setResponseCode(answer.status, answer.reason)
        # What was said of the answer that it was to be does not hold for this one.
        request.responseHeaders = Headers()
        request.etag = request.lastModified = None
        request.cookies = []
        for name, value in answer.headers:
            request.responseHeaders.addRawHeader(name, value)
        request.write(answer.body)
        request.finish()

    def requestDone(self, request: GatewayRequest) -> None:
        """
        The answer is written; go on with the next request.
        """
        if not request.startedWriting or request is not self._request:
            return
        self._request = None
        request.on_gone = request.on_drained = None
        self._tell_finished(request, True)
        if self._must_close:
            self._end()
        elif self._length_bytes == 0:
            self._await_request()
        elif self._body is None:
            data, self._input = self._input, b""
            self._read_body(data, kept=False)
        else:
            # It is being read, and nobody wants it any more.
            self._body.kept = False

    def _await_request(self) -> None:
        self.deadline = self._now() + self._limits.keepalive_timeout_seconds
        if self.site.draining:
            # The head of the last answer did not say that this is the end.
            self.site.close_idle_soon()
        self._advance()

    def _tell_finished(self, request: GatewayRequest, whole: bool) -> None:
        try:
            self.site.finished(request, whole)
        except Exception:
            # A defect in counting must not cost the connection.
            self.log.failure("While noting the end of a request")

    def cut(self, gently: bool) -> None:
        """
        End the answer under way where it is.

        @param gently: whether what was written shall still get through; the
            missing end of the body then shows that it is not whole.
        """
        if gently and not self._closing:
            self._close(half=False)
        else:
            self.abortConnection()

    def loseConnection(self) -> None:
        """
        Close when all that was written has got through.
        """
        self._must_close = True
        self._end()

    def _end(self) -> None:
        """
        Close.  A client that may still be sending is given time to read its
        answer: closing in its face would destroy that on the way.
        """
        if not self._closing:
            self._close(
                half=self._more_may_come
                or self._length_bytes != 0
                or bool(self._input)
                or self._reader.begun
            )

    def _close(self, half: bool) -> None:
        """
        Close when what was written has got through, however long a client
        takes that does read; one that does not is cut off as always.
        """
        self._closing = True
        self._input = b""
        # What is read now is no request, but its end is the end of the connection.
        self._resume_reading()
        if half:
            self.outlet.half_close()
        else:
            self.outlet.close()
        self.deadline = inf if self.outlet.blocked else self._now() + LINGER_SECONDS

    def _linger_no_more(self, now: float) -> None:
        """
        The client has its answer, or the kernel has it, and has not closed its
        side of the connection.  But a transport that is no plain socket may still
        have some of it: so that ends first.
        """
        if self._lingered or self.transport is None:
            self.abortConnection()
        else:
            self._lingered = True
            self.deadline = now + self._limits.write_timeout_seconds
            self.transport.loseConnection()
