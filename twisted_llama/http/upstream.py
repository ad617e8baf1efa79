"""
Asking the engine: connections that carry one exchange at a time.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING
from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from twisted_llama.errors import EngineTimeout, EngineUnavailable, GatewayError
from twisted_llama.http.framing import (
    BodyFraming,
    ChunkedFraming,
    CloseFraming,
    FramingError,
    LengthFraming,
)
from twisted_llama.http.inlet import make_inlet
from twisted_llama.http.outlet import Outlet, make_outlet
from twisted_llama.http.response_head import ResponseHead, read_response_head

if TYPE_CHECKING:
    from twisted_llama.http.pool import EnginePool

#: The largest head of an answer.
MAX_HEAD_BYTES = 65536


class Answer(TypingProtocol):
    """
    Who gets what the engine answers.  After L{ended} or L{failed} nothing
    more is called.
    """

    def begins(
        self, head: ResponseHead, length_bytes: int | None, framing: BodyFraming | None
    ) -> None:
        """
        The head is there.

        @param length_bytes: the length of the body, C{None} if it is not announced.
        @param framing: how the body is read, C{None} if there is none.
        """

    def continues(self, data: bytes, payload: bytes) -> None:
        """
        Some of the body is there.

        @param data: the bytes as they were read.
        @param payload: what of the body is in them.
        """

    def ended(self) -> None:
        """
        The answer is whole.
        """

    def failed(self, error: GatewayError) -> None:
        """
        The answer will never be whole.
        """


class EngineConnection(Protocol):
    """
    One connection to the engine.

    @ivar used: whether it has carried an exchange before.
    @ivar after_stream: whether the last one was an event stream.
    @ivar framing: the reading of the body under way, if there is one.
    """

    outlet: Outlet
    used = False
    after_stream = False
    deadline = inf

    def __init__(
        self, pool: EnginePool, connected: Deferred[EngineConnection] | None = None
    ) -> None:
        """
        @param connected: fired with this connection once it is open.
        """
        self._pool = pool
        self._connected = connected
        self._answer: Answer | None = None
        self.framing: BodyFraming | None = None
        self._buffer = b""
        self._head_bytes = 0
        self._head: ResponseHead | None = None
        self._to_head_request = False
        self._late_at = inf
        self._heard = False
        self._paused = False
        self._closed = False

    def connectionMade(self) -> None:
        """
        The engine has accepted the connection.
        """
        assert self.transport is not None
        if isinstance(self.transport, Connection):
            self.transport.setTcpNoDelay(True)
            self.transport.bufferSize = self._pool.read_bytes
        self._inlet = make_inlet(
            self._pool.epoll, self.transport, self.dataReceived, self._ends, self._pool.read_bytes
        )
        self.outlet = make_outlet(
            self.transport, self._pool.turn, self._inlet.lend, self._inlet.take_back
        )
        self._pool.deadlines.add(self)
        connected, self._connected = self._connected, None
        if connected is not None:
            connected.callback(self)

    def ask(self, head: bytes, body: list[bytes], to_head_request: bool, answer: Answer) -> None:
        """
        Send a request.

        @param head: the bytes from the request line through the empty line.
        @param body: the pieces of the body.
        @param to_head_request: whether the method is C{HEAD}, to which the
            answer has no body.
        """
        self._answer = answer
        self._to_head_request = to_head_request
        self._heard = False
        self._head_bytes = 0
        self._await_more(self._pool.now())
        if len(body) == 1:
            self.outlet.write(head + body[0])
            return
        self.outlet.write(head)
        for piece in body:
            self.outlet.write(piece)

    def dataReceived(self, data: bytes) -> None:
        """
        The engine has sent something.
        """
        framing, answer = self.framing, self._answer
        if framing is None or answer is None:
            self._take_head(data)
            return
        self._heard = True
        try:
            payload = framing.feed(data)
        except FramingError as error:
            self._fail(EngineUnavailable(f"The engine's answer is broken: {error}."))
            return
        answer.continues(data, payload)
        if framing.finished and self._answer is answer:
            self._finish(framing.excess)

    def _take_head(self, data: bytes) -> None:
        if self._answer is None:
            # Nothing was asked.
            self.abort()
            return
        self._heard = True
        buffer = self._buffer + data if self._buffer else data
        self._buffer = b""
        # Interim answers count too: an engine that sends nothing else must not
        # keep a request for ever.
        while buffer:
            end = buffer.find(b"\r\n\r\n") + 4
            if end <= 3 or self._head_bytes + end > MAX_HEAD_BYTES:
                if (
                    self._head_bytes + len(buffer) > MAX_HEAD_BYTES
                    or b"HTTP/1."[: len(buffer)] != buffer[:7]
                ):
                    self._fail(EngineUnavailable("The engine's answer is not valid HTTP."))
                else:
                    self._buffer = buffer
                return
            try:
                head, length_bytes = read_response_head(buffer[:end])
            except EngineUnavailable as error:
                self._fail(error)
                return
            buffer = buffer[end:]
            if head.status == 101:
                self._fail(EngineUnavailable("The engine switched protocols unasked."))
                return
            if head.status >= 200:
                self._begin(head, length_bytes, buffer)
                return
            self._head_bytes += end

    def _begin(self, head: ResponseHead, length_bytes: int | None, rest: bytes) -> None:
        answer = self._answer
        assert answer is not None
        framing: BodyFraming | None
        self._head = head
        if self._to_head_request or head.status in (204, 304) or length_bytes == 0:
            framing = None
        elif length_bytes is not None:
            framing = LengthFraming(length_bytes)
        elif head.chunked:
            framing = ChunkedFraming()
        else:
            framing = CloseFraming()
        self.framing = framing
        answer.begins(head, length_bytes, framing)
        if framing is None:
            self._finish(rest)
        elif rest and self._answer is answer:
            self.dataReceived(rest)

    def _finish(self, excess: bytes) -> None:
        answer, self._answer = self._answer, None
        head, self._head = self._head, None
        framing, self.framing = self.framing, None
        if answer is None or head is None:
            return
        reusable = (
            head.keep_alive
            and not excess
            and not self.outlet.blocked
            and not self._closed
            and not isinstance(framing, CloseFraming)
        )
        self.resume()
        if reusable:
            self.used = True
            self._heard = False
            self.after_stream = head.event_stream
            self._wait_for_use(self._pool.now())
        else:
            self.abort()
        answer.ended()

    def _fail(self, error: GatewayError) -> None:
        answer, self._answer = self._answer, None
        self.framing = None
        self.abort()
        if answer is not None:
            answer.failed(error)

    def _ends(self) -> None:
        """
        The engine is closing the connection: it must not be used again.
        """
        self._pool.closed_by_engine(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection has ended.
        """
        self._closed = True
        self._inlet.close()
        self.outlet.lost()
        self._pool.closed_by_engine(self)
        framing, answer = self.framing, self._answer
        if answer is None:
            return
        if framing is not None:
            try:
                framing.feed_eof()
                if isinstance(framing, CloseFraming) and reason.check(ConnectionDone) is None:
                    raise FramingError("the connection broke, and nothing else shows its end")
            except FramingError as error:
                self._fail(EngineUnavailable(f"The engine's answer is not whole: {error}."))
            else:
                self._finish(b"")
        else:
            self._fail(EngineUnavailable("The engine closed the connection without an answer."))

    def abort(self) -> None:
        """
        Close the connection at once; whoever waits for the answer is not told.
        """
        self._answer = self.framing = None
        self._pool.forget(self)
        transport = self.transport
        if transport is not None and not self._closed:
            self._closed = True
            self._inlet.close()
            getattr(transport, "abortConnection", transport.loseConnection)()

    def pause(self) -> None:
        """
        Read no more until L{resume}: the client does not keep up.
        """
        if not self._paused and not self._closed and self.transport is not None:
            self._paused = True
            self._inlet.pause()

    def resume(self) -> None:
        """
        Read on.
        """
        if self._paused and self.transport is not None:
            self._paused = False
            self._heard = True
            if not self._closed:
                self._inlet.resume()

    def check_deadline(self, now: float) -> None:
        """
        See L{twisted_llama.http.deadlines.Timed}.
        """
        if self._heard or self._paused:
            self._heard = False
            self._await_more(now)
        elif now < self._late_at:
            self.deadline = min(self._late_at, now + self._pool.look_seconds)
        elif self._answer is not None:
            self._fail(EngineTimeout(self._pool.silence_seconds))
        elif self._pool.settled(self):
            self._wait_for_use(now)
        else:
            self.abort()

    def _await_more(self, now: float) -> None:
        self._late_at = now + self._pool.silence_seconds
        self.deadline = now + self._pool.look_seconds

    def _wait_for_use(self, now: float) -> None:
        self._late_at = self.deadline = now + self._pool.give_back(self)
