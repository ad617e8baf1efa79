"""
Clients as they are outside: blocking sockets, and no more than needed on them.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from typing import Any

from attrs import field, frozen

#: No answer in these tests takes longer.
TIMEOUT_SECONDS = 30.0


@frozen
class Answer:
    """
    One answer.

    @ivar headers: fields in order, names in lower case.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        """
        The only field of a name; C{None} if there is none.
        """
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) < 2, f"{name} comes twice: {values}"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """
        The body, read as JSON.
        """
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """
        The error that the body tells of, in OpenAI's shape.
        """
        assert self["content-type"] == "application/json"
        assert self["x-request-id"]
        content = self.json
        assert content.keys() == {"error"}
        assert content["error"].keys() == {"message", "type", "param", "code"}
        return dict(content["error"])


class _Kept:
    """
    The one buffered file of a connection, lent to each answer in turn.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.file = connection.makefile("rb")

    def makefile(self, *_: object) -> _Kept:
        return self

    def flush(self) -> None:
        return

    def close(self) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@frozen
class Client:
    """
    One connection.
    """

    connection: socket.socket
    _kept: Any = field(init=False)

    @_kept.default
    def _keep(self) -> _Kept:
        return _Kept(self.connection)

    @classmethod
    @contextlib.contextmanager
    def connected(cls, port: int, source: str | None = None) -> Iterator[Client]:
        """
        Connect for as long as a C{with} statement.
        """
        address = None if source is None else (source, 0)
        client = cls(socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS, address))
        try:
            yield client
        finally:
            client.close()

    def close(self) -> None:
        """
        Close the connection.
        """
        # The socket stays open as long as its file is.
        self._kept.file.close()
        self.connection.close()

    def send(self, data: bytes) -> None:
        """
        Send bytes as they are.
        """
        self.connection.sendall(data)

    def post(self, path: str, content: object, key: str | None = None, lines: str = "") -> None:
        """
        Send a request with a JSON body.
        """
        self.send(request_bytes("POST", path, key, json.dumps(content).encode(), lines))

    def begin(self, method: str = "POST") -> HTTPResponse:
        """
        Read the head of an answer.
        """
        response = HTTPResponse(self._kept, method=method)
        response.begin()
        return response

    def read(self, method: str = "POST") -> Answer:
        """
        Read an answer whole.
        """
        return whole(self.begin(method))

    def rest(self) -> bytes:
        """
        Read all that comes until the other side closes.
        """
        received = []
        with contextlib.suppress(ConnectionResetError):
            while data := self._kept.read1(65536):
                received.append(data)
        return b"".join(received)

    def hear(self, events: int) -> bytes:
        """
        Read as it comes, until so many events of a stream are there.

        @return: everything, the head and the framing too.
        """
        heard = b""
        while heard.count(b"data: ") < events:
            data = self._kept.read1(65536)
            assert data, f"the stream ended too soon: {heard!r}"
            heard += data
        return heard

    def reads(self) -> Iterator[bytes]:
        """
        The pieces in which the rest comes, until the other side closes.
        """
        while data := self.connection.recv(65536):
            yield data


def whole(response: HTTPResponse) -> Answer:
    """
    Read the body of an answer.
    """
    fields = tuple((name.lower(), value) for name, value in response.getheaders())
    return Answer(response.status, fields, response.read())


def request_bytes(
    method: str,
    path: str,
    key: str | None = None,
    body: bytes | None = None,
    lines: str = "",
) -> bytes:
    """
    A request of HTTP/1.1.

    @param lines: more header lines, each with its CRLF.
    """
    head = f"{method} {path} HTTP/1.1\r\nHost: gateway.test\r\n{lines}"
    if key is not None:
        head += f"Authorization: Bearer {key}\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode("latin-1") + b"\r\n" + (body or b"")


def ask(
    port: int,
    method: str,
    path: str,
    *,
    key: str | None = None,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """
    Ask one thing on a connection of its own.

    @param body: sent as JSON, bytes as they are.
    """
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    with Client.connected(port) as client:
        client.send(request_bytes(method, path, key, content, lines + "Connection: close\r\n"))
        return client.read(method)


def chat(max_tokens: int = 3, **more: object) -> dict[str, Any]:
    """
    What asks for a chat completion, a short one.
    """
    messages = [{"role": "user", "content": "Say something."}]
    return {"messages": messages, "max_tokens": max_tokens, **more}


CHAT = "/v1/chat/completions"


def fresh_id(word: str = "test") -> str:
    """
    A request id that was not used before.
    """
    return f"{word}-{secrets.token_hex(6)}"


def named(request_id: str) -> dict[str, str]:
    """
    The header that gives a request its id.
    """
    return {"X-Request-Id": request_id}


@frozen
class Stream:
    """
    What came of an event stream.

    @ivar head: its head.
    @ivar events: see L{events}.
    @ivar whole: whether it has its proper end.
    """

    head: bytes
    events: list[Any]
    whole: bool

    @classmethod
    def of(cls, received: bytes) -> Stream:
        """
        Read what came on a connection.
        """
        head, _, framed = received.partition(b"\r\n\r\n")
        assert b"text/event-stream" in head, received
        body, is_whole = unchunked(framed)
        return cls(head, events(body), is_whole)

    @property
    def error(self) -> dict[str, Any]:
        """
        The error that has ended it, which nothing follows and no client takes for its end.
        """
        assert not self.whole
        assert "[DONE]" not in self.events
        assert self.events[-1].keys() == {"error"}
        return dict(self.events[-1]["error"])


def events(body: bytes) -> list[Any]:
    """
    The events of a stream, C{[DONE]} as it is, the others read as JSON.
    """
    pieces = body.replace(b"\r\n", b"\n").split(b"\n\n")
    told = [piece.removeprefix(b"data: ") for piece in pieces if piece.startswith(b"data: ")]
    return ["[DONE]" if one == b"[DONE]" else json.loads(one) for one in told]


def unchunked(data: bytes) -> tuple[bytes, bool]:
    """
    Read a chunked body that may have been cut off.

    @return: what is in its whole chunks, and whether it has its proper end.
    """
    body = b""
    while line := re.match(rb"([0-9a-fA-F]+)\r\n", data):
        length = int(line[1], 16)
        if length == 0:
            return body, data[line.end() :] == b"\r\n"
        if len(data) < line.end() + length + 2:
            break
        body += data[line.end() : line.end() + length]
        data = data[line.end() + length + 2 :]
    return body, False
