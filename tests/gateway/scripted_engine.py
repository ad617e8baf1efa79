"""
An external engine that answers as a test tells it, and remembers what it was asked.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import Factory, define, frozen

from tests.gateway.running import PATIENCE_SECONDS, until


@frozen
class Asked:
    """
    One request that has reached the engine.

    @ivar line: its request line.
    @ivar fields: header fields in order, names as they came.
    @ivar connection: the socket that the answer goes to.
    """

    line: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    connection: socket.socket

    def values(self, name: str) -> list[str]:
        """
        The values of a header field.
        """
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def id(self) -> str:
        """
        What tells it from others; empty if it is no client's but the gateway's own.
        """
        return "".join(self.values("X-Request-Id"))


#: Answers a request; what is false in the end closes the connection.
Script = Callable[[Asked], object]


@define
class Gate:
    """
    Holds requests until the test lets them go on.
    """

    _open: threading.Event = Factory(threading.Event)

    def wait(self) -> None:
        """
        Wait for L{open}.
        """
        assert self._open.wait(PATIENCE_SECONDS), "nobody opened the gate"

    def open(self) -> None:
        """
        Let all go on.
        """
        self._open.set()


def say(asked: Asked, body: bytes, *lines: str, status: str = "200 OK") -> bool:
    """
    Answer with a body of known length.

    @return: that the connection is kept.
    """
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""]
    asked.connection.sendall("\r\n".join(head).encode("latin-1") + body)
    return True


def begin_stream(asked: Asked) -> None:
    """
    Send the head of an event stream.
    """
    asked.connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )


def event(asked: Asked, content: bytes) -> None:
    """
    Send one event of a stream in one chunk.
    """
    piece = b"data: " + content + b"\n\n"
    asked.connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))


def end_stream(asked: Asked) -> None:
    """
    End a stream in good order.
    """
    event(asked, b"[DONE]")
    asked.connection.sendall(b"0\r\n\r\n")


def is_left(asked: Asked) -> bool:
    """
    Whether the gateway has closed the connection.
    """
    with contextlib.suppress(BlockingIOError):
        try:
            return asked.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except ConnectionResetError:
            return True
    return False


class ScriptedEngine:
    """
    The engine.

    A request is answered by the script that was given for its id, else with what it asked.

    @ivar port: where it listens.
    """

    def __init__(self) -> None:
        self._asked: list[Asked] = []
        self._scripts: dict[str, Script] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        engine = self

        class Conversation(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fields = tuple(self.headers.items())
                asked = Asked(self.requestline, fields, body, self.connection)
                self.close_connection = not engine.answer(asked)

            do_GET = do_POST = do_HEAD = do_PUT = do_OPTIONS = serve

            def log_message(self, *_: object) -> None:
                return

        return Conversation

    def answer(self, asked: Asked) -> bool:
        """
        Answer a request.

        @return: whether the connection may be kept.
        """
        if asked.line.startswith("GET /health "):
            return say(asked, b'{"status":"ok"}')
        with self._lock:
            self._asked.append(asked)
            script = self._scripts.get(asked.id, echo)
        try:
            return bool(script(asked))
        except OSError:
            return False

    def script(self, request_id: str, script: Script) -> None:
        """
        Say how a request is to be answered.
        """
        with self._lock:
            self._scripts[request_id] = script

    def asked(self) -> list[Asked]:
        """
        The requests so far, in order.
        """
        with self._lock:
            return list(self._asked)

    def find(self, request_id: str) -> Asked | None:
        """
        The request with an id, if it has come.
        """
        return next((asked for asked in self.asked() if asked.id == request_id), None)

    def wait(self, request_id: str) -> Asked:
        """
        Wait for the request with an id.
        """
        asked = until(lambda: self.find(request_id), f"{request_id} reaches the engine")
        assert asked is not None
        return asked

    def close(self) -> None:
        """
        Listen no more.
        """
        self._server.shutdown()
        self._server.server_close()


def echo(asked: Asked) -> bool:
    """
    Answer with what was asked.
    """
    content: dict[str, Any] = {
        "line": asked.line,
        "fields": asked.fields,
        "body": asked.body.decode("latin-1"),
    }
    body = b"" if asked.line.startswith("HEAD ") else json.dumps(content).encode()
    return say(asked, body, "Content-Type: application/json")
