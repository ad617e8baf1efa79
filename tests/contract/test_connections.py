"""
How many connections there may be, who is at their other end, and how long one may be slow.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.contract.conftest import PROXY
from tests.gateway.running import PATIENCE_SECONDS, Gateway, running, until
from tests.gateway.scripted_engine import Asked, ScriptedEngine
from tests.gateway.talking import Client, ask, fresh_id, named, request_bytes

PER_ADDRESS = 3
ALTOGETHER = 8
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory, engine: ScriptedEngine) -> Iterator[Gateway]:
    """
    A gateway for few connections.
    """
    settings = {
        "ENGINE": "external",
        "PORT_BACKEND": engine.port,
        "MAX_CONNECTIONS": ALTOGETHER,
        "MAX_CONNECTIONS_PER_IP": PER_ADDRESS,
        "TRUSTED_PROXIES": PROXY,
        "MAX_CONCURRENT_REQUESTS": 8,
    }
    with running(Gateway(tmp_path_factory.mktemp("crowded"), settings)) as gateway:
        yield gateway


def enter(stack: contextlib.ExitStack, gateway: Gateway, source: str, lines: str = "") -> Client:
    """
    Connect, ask for a public page, and stay.
    """
    client = stack.enter_context(Client.connected(gateway.port, source))
    with contextlib.suppress(ConnectionError):
        client.send(request_bytes("GET", "/ping", None, None, lines))
    return client


def serves(client: Client) -> bool:
    """
    Whether the gateway has answered as if nothing was the matter.
    """
    with contextlib.suppress(ConnectionError):
        return client.begin("GET").status == 200
    return False


def test_connections_of_one_address(crowded: Gateway) -> None:
    """No more than MAX_CONNECTIONS_PER_IP; others are not concerned; who leaves makes room."""
    with contextlib.ExitStack() as stack:
        clients = [enter(stack, crowded, "127.0.0.2") for _ in range(PER_ADDRESS)]
        assert all(serves(client) for client in clients)
        assert not serves(enter(stack, crowded, "127.0.0.2"))
        assert serves(enter(stack, crowded, "127.0.0.3"))
        clients[0].close()
        until(lambda: serves(enter(stack, crowded, "127.0.0.2")), "there is room again", 5)


def test_connections_altogether(crowded: Gateway) -> None:
    """No more than MAX_CONNECTIONS."""
    with contextlib.ExitStack() as stack:
        sources = [f"127.0.1.{1 + at // 2}" for at in range(ALTOGETHER)]
        clients = [enter(stack, crowded, source) for source in sources]
        assert all(serves(client) for client in clients)
        assert not serves(enter(stack, crowded, "127.0.1.99"))
        clients[0].close()
        until(lambda: serves(enter(stack, crowded, "127.0.1.99")), "there is room again", 5)


def test_connections_of_a_proxy_are_not_one_clients(crowded: Gateway) -> None:
    """Behind a trusted proxy the forwarded address counts."""
    with contextlib.ExitStack() as stack:
        for at in range(PER_ADDRESS + 2):
            line = f"X-Forwarded-For: 203.0.113.{at}\r\n"
            assert serves(enter(stack, crowded, PROXY, line))


def forwarded(gateway: Gateway, source: str) -> dict[str, str]:
    """
    What the engine hears of where a request came from.
    """
    request_id = fresh_id("forwarded")
    lines = (
        "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
        f"X-Forwarded-Host: public.test\r\nX-Request-Id: {request_id}\r\nConnection: close\r\n"
    )
    with Client.connected(gateway.port, source) as client:
        client.send(request_bytes("GET", "/v1/models", gateway.key, None, lines))
        return dict(client.read("GET").json["fields"])


def test_what_a_trusted_proxy_says_is_added_to(front: Gateway) -> None:
    """Its X-Forwarded-For is kept and its own address appended; so is how it was asked."""
    fields = forwarded(front, PROXY)
    assert fields["X-Forwarded-For"] == f"203.0.113.9, {PROXY}"
    assert fields["X-Forwarded-Proto"] == "https"


def test_what_others_say_is_replaced(front: Gateway) -> None:
    """Even where some proxy is trusted."""
    fields = forwarded(front, "127.0.0.4")
    assert fields["X-Forwarded-For"] == "127.0.0.4"
    assert fields["X-Forwarded-Proto"] == "http"
    assert fields["X-Forwarded-Host"] == "gateway.test"


def test_a_reader_that_stops(front: Gateway, engine: ScriptedEngine) -> None:
    """After CLIENT_WRITE_TIMEOUT without progress it is left, and so is the engine."""
    request_id = fresh_id("stops")
    wanted_bytes = 100_000_000

    left = threading.Event()

    def pour(asked: Asked) -> None:
        try:
            asked.connection.sendall(_HEAD % wanted_bytes)
            for _ in range(wanted_bytes // 65536):
                asked.connection.sendall(b"x" * 65536)
        except OSError:
            left.set()

    engine.script(request_id, pour)
    with Client.connected(front.port) as client:
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        lines = f"X-Request-Id: {request_id}\r\n"
        client.send(request_bytes("GET", "/v1/files", front.key, None, lines))
        assert client.begin("GET").status == 200
        assert front.access_status(request_id) == 499
        assert left.wait(PATIENCE_SECONDS)
        assert len(client.rest()) < wanted_bytes
    assert front.queue() == (0, 0)


def test_a_reader_that_is_slow_but_goes_on(front: Gateway, engine: ScriptedEngine) -> None:
    """It gets every byte, though it takes longer than CLIENT_WRITE_TIMEOUT."""
    request_id = fresh_id("slow")
    body = bytes(range(256)) * 40_000

    def pour(asked: Asked) -> bool:
        asked.connection.sendall(_HEAD % len(body) + body)
        return True

    engine.script(request_id, pour)
    with Client.connected(front.port) as client:
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        lines = f"Connection: close\r\nX-Request-Id: {request_id}\r\n"
        client.send(request_bytes("GET", "/v1/files", front.key, None, lines))
        pause = threading.Event()
        received, paused_at = b"", 0
        for piece in client.reads():
            received += piece
            if len(received) > paused_at:
                pause.wait(0.4)
                paused_at = len(received) + len(body) // 4
    assert received.endswith(body)
    assert front.access_status(request_id) == 200


@pytest.mark.slow
def test_a_reader_that_is_slower_than_the_kernel_thinks(
    front: Gateway, engine: ScriptedEngine
) -> None:
    """It is not left while it goes on, however much the kernel would take for it."""
    request_id = fresh_id("slower")
    body = bytes(range(256)) * 32_000

    def pour(asked: Asked) -> bool:
        asked.connection.sendall(_HEAD % len(body) + body)
        return True

    engine.script(request_id, pour)
    with Client.connected(front.port) as client:
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        lines = f"Connection: close\r\nX-Request-Id: {request_id}\r\n"
        client.send(request_bytes("GET", "/v1/files", front.key, None, lines))
        pause = threading.Event()
        received = b""
        # Three times CLIENT_WRITE_TIMEOUT.
        for _ in range(60):
            pause.wait(0.05)
            received += client.connection.recv(20_000)
        received += b"".join(iter(lambda: client.connection.recv(65536), b""))
    assert received.endswith(body)
    assert front.access_status(request_id) == 200


def test_metrics_may_need_a_key(front: Gateway) -> None:
    """METRICS_AUTH_ENABLED=true; the other public pages stay public."""
    refused = front.ask("GET", "/metrics", key=None)
    assert refused.status == 401
    assert refused.error["code"] == "invalid_api_key"
    assert front.ask("GET", "/metrics").status == 200
    assert front.ask("GET", "/metrics?x", headers={"Accept": "text/plain"}).status == 200
    for path in ("/ping", "/health", "/ready"):
        assert ask(front.port, "GET", path).status == 200


@pytest.mark.parametrize("path", ["/ping", "/health", "/ready", "/metrics"])
def test_head_of_the_public_pages(front: Gateway, path: str) -> None:
    """As for GET, without the body."""
    page = front.ask("GET", path)
    head = front.ask("HEAD", f"{path}?again")
    assert (head.status, head.body) == (200, b"")
    assert head["Content-Type"] == page["Content-Type"]
    assert head["Content-Length"] is not None


def test_more_paths_are_opened(front: Gateway) -> None:
    """PROXY_EXTRA_PATHS: prefixes by whole segments."""
    statuses = {
        path: front.ask("GET", path, headers=named(fresh_id("extra"))).status
        for path in ("/slots", "/slots/0", "/extra/a/b", "/extras", "/lora-adapters")
    }
    assert list(statuses.values()) == [200, 200, 200, 404, 404]


def test_lines_that_keep_a_stream_alive(front: Gateway, engine: ScriptedEngine) -> None:
    """Comments and other fields of an event stream arrive as they were sent, byte by byte."""
    request_id = fresh_id("comments")
    pieces = [
        b": ping\n\n",
        b":\n\n",
        b"event: x\r\nid: 7\r\ndata: {}\r\n\r\n",
        b"data: [DONE]\n\n",
    ]
    stream = b"".join(pieces)

    def speak(asked: Asked) -> None:
        asked.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for piece in pieces:
            asked.connection.sendall(piece)

    engine.script(request_id, speak)
    answer = front.ask("POST", "/v1/chat/completions", body={}, headers=named(request_id))
    assert answer.body == stream
    assert answer["X-Accel-Buffering"] == "no"
    assert answer["Cache-Control"] is None
