"""
A site of GatewayChannels with a clock, a transport that keeps what it is sent, and the watcher
that the rest of the gateway would be.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from twisted_llama.errors import GatewayError
from twisted_llama.http.channel import GatewayChannel
from twisted_llama.http.deadlines import Deadlines
from twisted_llama.http.epoll import Epoll
from twisted_llama.http.request import GatewayRequest
from twisted_llama.http.site import ClientLimits, ErrorAnswer, GatewaySite
from twisted_llama.http.turn import Turn

#: Statuses by the codes of errors, as far as the tests come across them.
STATUS = {
    "bad_request": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "payload_too_large": 413,
    "uri_too_long": 414,
    "header_fields_too_large": 431,
    "not_implemented": 501,
    "engine_unavailable": 502,
    "draining": 503,
    "engine_timeout": 504,
    "http_version_not_supported": 505,
}

#: For what is connected in memory, where there is nothing to poll.
NO_EPOLL = Epoll(cast(Any, None))


class PlainWatcher:
    """
    Notes what it is told.

    @ivar over: method, path, and whether the answer was whole, of each request.
    @ivar broken: whether noting fails.
    """

    def __init__(self) -> None:
        self.begun_requests: list[GatewayRequest] = []
        self.over: list[tuple[bytes, bytes, bool]] = []
        self.refusals: list[str] = []
        self.broken = False

    def begun(self, request: GatewayRequest) -> None:
        self.begun_requests.append(request)
        request.common_lines = b"X-Number: %d\r\n" % len(self.begun_requests)

    def finished(self, request: GatewayRequest, whole: bool) -> None:
        self.over.append((request.method, request.path, whole))
        if self.broken:
            raise ZeroDivisionError

    def refused(self, error: GatewayError, peer: IAddress) -> None:
        self.refusals.append(error.code)

    def render_error(self, request: GatewayRequest | None, error: BaseException) -> ErrorAnswer:
        code = error.code if isinstance(error, GatewayError) else "internal_error"
        status = STATUS.get(code, 500)
        body = code.encode()
        headers = [(b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(body))]
        close = status in (400, 408, 413, 414, 431, 501, 503, 505)
        return ErrorAnswer(status, b"Refused", headers, body, close)


@implementer(ITCPTransport)
class Wire:
    """
    One end of a connection in memory.

    @ivar sent: what was written to it.
    @ivar ended: how it was closed: C{"close"}, C{"half"}, C{"abort"} or, while it is open, C{""}.
    """

    disconnecting = False

    def __init__(self, host: str = "192.0.2.7") -> None:
        self.sent = b""
        self.ended = ""
        self.paused = False
        self.producer: Any = None
        self.peer = IPv4Address("TCP", host, 4711)
        self.protocol: Any = None

    def connect(self, protocol: Any) -> Any:
        self.protocol = protocol
        protocol.makeConnection(self)
        return protocol

    def lose(self, clean: bool = False) -> None:
        """
        The connection is gone.
        """
        self.protocol.connectionLost(Failure(ConnectionDone() if clean else ConnectionLost()))

    def fill(self) -> None:
        """
        The peer reads no more.
        """
        self.producer.pauseProducing()

    def drain(self) -> None:
        """
        The peer has read everything.
        """
        self.producer.resumeProducing()

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        if not self.ended:
            self.sent += data

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        if self.ended != "abort":
            self.ended = "close"

    def loseWriteConnection(self) -> None:
        self.ended = self.ended or "half"

    def abortConnection(self) -> None:
        self.ended = "abort"

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        return self.peer

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 8000)

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing to do."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nothing to do."""


class Page(Resource):
    """
    Says what was asked for.
    """

    isLeaf = True
    reads_own_body = True

    def render_GET(self, request: GatewayRequest) -> bytes:
        return b"<" + request.path + request.query + b">"


class Echo(Resource):
    """
    An ordinary resource: gives back the body.
    """

    isLeaf = True

    def render_POST(self, request: GatewayRequest) -> bytes:
        return bytes(request.content.read())  # type: ignore[union-attr]


class Later(Resource):
    """
    Answers when the test does.

    @ivar waiting: the requests.
    @ivar gone: how many clients left.
    """

    isLeaf = True
    reads_own_body = True

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[GatewayRequest] = []
        self.gone = 0

    def _left(self) -> None:
        self.gone += 1

    def render(self, request: GatewayRequest) -> int:  # type: ignore[override]
        self.waiting.append(request)
        request.on_gone = self._left
        return NOT_DONE_YET


class Bench:
    """
    A site and its surroundings.
    """

    def __init__(self, resource: IResource | None = None, **limits: Any) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.watcher = PlainWatcher()
        self.later = Later()
        if resource is None:
            resource = Resource()
            for name, child in (("page", Page()), ("echo", Echo()), ("later", self.later)):
                resource.putChild(name.encode(), child)
        self.site = GatewaySite(
            resource,
            self.watcher,
            ClientLimits(**limits),
            self.deadlines,
            Turn(self.clock),
            lambda: 0.0,
        )
        self.wires: list[Wire] = []

    def connect(self, *pieces: bytes, host: str = "192.0.2.7") -> Wire:
        """
        A client connects and sends C{pieces}, one read each.
        """
        wire = Wire(host)
        self.wires.append(wire)
        wire.connect(self.site.buildProtocol(wire.peer))
        self.send(wire, *pieces)
        return wire

    def send(self, wire: Wire, *pieces: bytes) -> None:
        """
        A client sends C{pieces}, as long as the gateway reads.
        """
        for piece in pieces:
            if wire.ended in ("", "half"):
                wire.protocol.dataReceived(piece)

    def pass_time(self, seconds: float) -> None:
        """
        Let time pass in small steps.
        """
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(0.25, end - self.clock.seconds()))


def channel_of(wire: Wire) -> GatewayChannel:
    """
    The channel at this end of a connection.
    """
    assert isinstance(wire.protocol, GatewayChannel)
    return wire.protocol


def get(path: bytes, *fields: bytes, version: bytes = b"HTTP/1.1", method: bytes = b"GET") -> bytes:
    """
    A request without a body.
    """
    lines = b"".join(field + b"\r\n" for field in (b"Host: gateway", *fields))
    return b"%b %b %b\r\n%b\r\n" % (method, path, version, lines)


def post(path: bytes, body: bytes, *fields: bytes) -> bytes:
    """
    A request with a body of known length.
    """
    return get(path, b"Content-Length: %d" % len(body), *fields, method=b"POST") + body


def post_chunks(path: bytes, *pieces: bytes) -> bytes:
    """
    A request with a body in chunks.
    """
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return get(path, b"Transfer-Encoding: chunked", method=b"POST") + chunks + b"0\r\n\r\n"


def statuses(stream: bytes) -> list[int]:
    """
    The statuses of the answers in a stream, whose bodies say nothing like them.
    """
    return [int(part[:3]) for part in stream.split(b"HTTP/1.1 ")[1:]]


class logged:
    """
    Collects the failures that are logged.
    """

    def __enter__(self) -> list[LogEvent]:
        self._events: list[LogEvent] = []
        globalLogPublisher.addObserver(self._observe)
        return self._events

    def _observe(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self._events.append(event)

    def __exit__(self, *_: object) -> None:
        globalLogPublisher.removeObserver(self._observe)
