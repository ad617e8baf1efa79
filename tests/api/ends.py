"""
The two ends outside a gateway in memory: clients, and the engine.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost

from tests.api.transport import MemoryTransport

if TYPE_CHECKING:
    from tests.api.world import World

KEY = b"sk-the-key-of-tests"


@frozen
class Answer:
    """
    One response as a client reads it.

    @ivar whole: whether its body came to its proper end.
    """

    status: int
    reason: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes
    whole: bool = True
    version: bytes = field(default=b"HTTP/1.1")

    def all(self, name: bytes) -> list[bytes]:
        """
        The values of a header, as often as it came.
        """
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def __getitem__(self, name: bytes) -> bytes:
        (value,) = self.all(name)
        return value

    @property
    def json(self) -> Any:
        """
        The body, which must be JSON.
        """
        assert self[b"content-type"] == b"application/json"
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """
        The code of the error that it must be.
        """
        error = self.json["error"]
        assert set(self.json) == {"error"}
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        return str(error["code"])


def read_answers(stream: bytes, methods: list[bytes], closed: bool) -> list[Answer]:
    """
    Read responses one after the other; what is no proper response fails the test.

    @param methods: of the requests that they answer.
    @param closed: whether the connection ended behind them.
    """
    answers = []
    methods = list(methods)
    while stream:
        head, mark, rest = stream.partition(b"\r\n\r\n")
        assert mark, f"half a head: {stream!r}"
        status_line, *lines = head.split(b"\r\n")
        version, status, reason = status_line.split(b" ", 2)
        if status == b"100":
            assert not lines
            stream = rest
            continue
        fields = [(name, value) for name, value in (line.split(b": ", 1) for line in lines)]
        values = {name.lower(): value for name, value in fields}
        method = methods.pop(0) if methods else b"GET"
        body, whole = b"", True
        if method == b"HEAD" or status in (b"204", b"304"):
            stream = rest
        elif b"transfer-encoding" in values:
            assert b"content-length" not in values
            body, whole, stream = _read_chunks(rest)
        elif b"content-length" in values:
            length = int(values[b"content-length"])
            body, stream = rest[:length], rest[length:]
            whole = len(body) == length
        else:
            assert closed, f"no length, and the connection stays open: {head!r}"
            body, stream = rest, b""
        answers.append(Answer(int(status), reason, fields, body, whole, version))
    return answers


def _read_chunks(stream: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while stream:
        size, _, rest = stream.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert rest[:2] == b"\r\n"
            return body, True, rest[2:]
        body += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        stream = rest[length + 2 :]
    return body, False, b""


class Client:
    """
    Somebody outside.
    """

    def __init__(self, world: World, host: str) -> None:
        self._world = world
        self._methods: list[bytes] = []
        peer = IPv4Address("TCP", host, 54321)
        self.channel: Any = world.site.buildProtocol(peer)
        self.transport = MemoryTransport(world, self.channel, peer)
        self.channel.makeConnection(self.transport)

    @property
    def received(self) -> bytes:
        """
        All that it has got, raw.
        """
        return self.transport.written

    @property
    def closed(self) -> bool:
        """
        Whether the gateway has closed the connection.
        """
        return bool(self.transport.closed)

    def send(self, data: bytes) -> Client:
        """
        Send bytes, unless the gateway has closed.
        """
        if not self.transport.closed and not self.transport.lost:
            self.channel.dataReceived(data)
            self._world.settle()
        return self

    def ask(
        self,
        method: bytes = b"GET",
        target: bytes = b"/v1/models",
        *fields: tuple[bytes, bytes],
        key: bytes | None = KEY,
        body: bytes | None = None,
        version: bytes = b"HTTP/1.1",
    ) -> Client:
        """
        Send a request.
        """
        return self.send(self.request(method, target, *fields, key=key, body=body, version=version))

    def request(
        self,
        method: bytes = b"GET",
        target: bytes = b"/v1/models",
        *fields: tuple[bytes, bytes],
        key: bytes | None = KEY,
        body: bytes | None = None,
        version: bytes = b"HTTP/1.1",
    ) -> bytes:
        """
        The bytes of a request that is about to be sent.
        """
        self._methods.append(method)
        lines = [(b"Host", b"gateway.test"), *fields]
        if key is not None:
            lines.append((b"Authorization", b"Bearer " + key))
        if body is not None:
            lines.append((b"Content-Length", b"%d" % len(body)))
        head = b"".join(b"%b: %b\r\n" % line for line in lines)
        return b"%b %b %b\r\n%b\r\n%b" % (method, target, version, head, body or b"")

    @property
    def answers(self) -> list[Answer]:
        """
        The responses so far.
        """
        return read_answers(self.received, self._methods, self.closed)

    @property
    def answer(self) -> Answer:
        """
        The one response so far.
        """
        (answer,) = self.answers
        return answer

    def leave(self) -> None:
        """
        Close the connection.
        """
        self.transport.lose(ConnectionLost())
        self._world.settle()


class EngineEnd:
    """
    The engine's end of one connection.
    """

    def __init__(self, world: World, protocol: Any) -> None:
        self._world = world
        self.protocol = protocol
        self.transport = MemoryTransport(world, protocol, IPv4Address("TCP", "127.0.0.1", 8080))

    def connect(self) -> None:
        """
        The connection is open.
        """
        self.protocol.makeConnection(self.transport)

    @property
    def received(self) -> bytes:
        """
        All that it was sent.
        """
        return self.transport.written

    @property
    def closed(self) -> bool:
        """
        Whether the connection has ended, whoever ended it.
        """
        return self.transport.lost

    def answer(self, data: bytes) -> None:
        """
        Send bytes.
        """
        if not self.transport.closed and not self.transport.lost:
            self.protocol.dataReceived(data)
            self._world.settle()

    def close(self) -> None:
        """
        Close the connection.
        """
        self.transport.lose(ConnectionDone())
        self._world.settle()


OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"some": "x"}'
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    """
    A chunk of a stream.
    """
    return b"%x\r\n%b\r\n" % (len(data), data)
