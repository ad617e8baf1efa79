"""
HTTP as clients of all ages speak it.
"""

from __future__ import annotations

import json

import pytest

from tests.gateway.running import Gateway
from tests.gateway.scripted_engine import Asked, ScriptedEngine, begin_stream, end_stream, event
from tests.gateway.talking import CHAT, Client, chat, fresh_id, request_bytes


def test_a_connection_is_kept(relay: Gateway) -> None:
    """Relayed, refused and local answers on one connection."""
    with Client.connected(relay.port) as client:
        for path, status in (
            ("/v1/models", 200),
            ("/nowhere", 404),
            ("/ping", 200),
            ("/v1/models", 200),
        ):
            client.send(request_bytes("GET", path, relay.key))
            answer = client.read("GET")
            assert answer.status == status
            assert answer["Connection"] != "close"
        client.send(request_bytes("GET", "/v1/models", "sk-wrong-wrong-wrong"))
        assert client.read("GET").status == 401
        client.send(request_bytes("GET", "/v1/models", relay.key, None, "Connection: close\r\n"))
        assert client.read("GET")["Connection"] == "close"
        assert client.rest() == b""


def test_requests_sent_ahead_are_answered_in_order(relay: Gateway) -> None:
    """Whatever they are: relayed, local and refused ones."""
    body = json.dumps({"n": 1}).encode()
    with Client.connected(relay.port) as client:
        client.send(
            request_bytes("POST", "/v1/embeddings?n=1", relay.key, body)
            + request_bytes("GET", "/ping")
            + request_bytes("GET", "/v1/models?n=3", None)
            + request_bytes("GET", "/v1/models?n=4", relay.key)
        )
        first, ping, refused, last = (client.read("GET") for _ in range(4))
    assert first.json["line"].startswith("POST /v1/embeddings?n=1 ")
    assert first.json["body"] == body.decode()
    assert (ping.status, ping.body) == (200, b"")
    assert refused.status == 401
    assert last.json["line"].startswith("GET /v1/models?n=4 ")


def test_head_has_no_body(relay: Gateway) -> None:
    """On relayed and local paths, and in errors; the connection goes on."""
    with Client.connected(relay.port) as client:
        for path, status in (
            ("/v1/models", 200),
            ("/health", 200),
            ("/nowhere", 404),
            ("/ping", 200),
        ):
            client.send(request_bytes("HEAD", path, relay.key))
            answer = client.read("HEAD")
            assert (answer.status, answer.body) == (status, b"")
        client.send(request_bytes("GET", "/ping"))
        assert client.read("GET").status == 200


def test_http_1_0(relay: Gateway, engine: ScriptedEngine) -> None:
    """An old client gets a stream without chunks, and the end of the connection as its end."""
    request_id = fresh_id()

    def speak(asked: Asked) -> None:
        begin_stream(asked)
        event(asked, b"{}")
        end_stream(asked)

    engine.script(request_id, speak)
    with Client.connected(relay.port) as client:
        request = request_bytes(
            "POST",
            CHAT,
            relay.key,
            b"{}",
            f"Connection: keep-alive\r\nX-Request-Id: {request_id}\r\n",
        )
        client.send(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        received = client.rest()
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].endswith(b" 200 OK")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"data: {}\n\ndata: [DONE]\n\n"


def test_http_1_0_on_local_paths(relay: Gateway) -> None:
    """Without a Host, as load balancers ask."""
    with Client.connected(relay.port) as client:
        client.send(b"GET /ready HTTP/1.0\r\n\r\n")
        assert client.rest().split(b"\r\n")[0].endswith(b" 200 OK")


def test_a_chunked_body(relay: Gateway) -> None:
    """It is put together; extensions and trailers are dropped."""
    lines = f"Authorization: Bearer {relay.key}\r\nTransfer-Encoding: chunked\r\n"
    with Client.connected(relay.port) as client:
        client.send(request_bytes("POST", "/v1/embeddings", lines=lines))
        client.send(b"5;a=b\r\nhello\r\n")
        client.send(b"6\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n")
        asked = client.read().json
        client.send(request_bytes("GET", "/ping"))
        assert client.read("GET").status == 200
    assert asked["body"] == "hello world"
    assert "1" not in [value for name, value in asked["fields"] if name.lower() == "x-trailer"]


def test_expect_continue(relay: Gateway) -> None:
    """The client is told to go on when its key is good, and then it is served."""
    lines = "Expect: 100-continue\r\nContent-Length: 2\r\n"
    with Client.connected(relay.port) as client:
        client.send(request_bytes("POST", "/v1/embeddings", relay.key, lines=lines))
        assert client.connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"{}")
        asked = client.read().json
    assert asked["body"] == "{}"
    assert "Expect" not in dict(asked["fields"])


@pytest.mark.parametrize(
    ("key", "length", "status"), [("sk-wrong-wrong-wrong", 2, 401), (None, 99_999_999, 413)]
)
def test_expect_continue_refused(relay: Gateway, key: str | None, length: int, status: int) -> None:
    """Nobody is asked for a body that will not be read."""
    lines = f"Expect: 100-continue\r\nContent-Length: {length}\r\n"
    with Client.connected(relay.port) as client:
        client.send(request_bytes("POST", "/v1/embeddings", key or relay.key, lines=lines))
        received = client.rest()
    assert received.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("request_head", "status", "code"),
    [
        ("GARBAGE\r\n\r\n", 400, "bad_request"),
        ("GET /v1/models HTTP/1.1\r\n\r\n", 400, "bad_request"),
        ("GET /v1/models HTTP/1.1\r\nHost: a\r\nBad Name: 1\r\n\r\n", 400, "bad_request"),
        ("GET /v1/models HTTP/1.1\r\nHost: a\r\n folded: 1\r\n\r\n", 400, "bad_request"),
        (
            "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
            "bad_request",
        ),
        (
            "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
            "Transfer-Encoding: chunked\r\n\r\n",
            400,
            "bad_request",
        ),
        ("POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "bad_request"),
        (
            "POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
            "not_implemented",
        ),
        ("GET /" + "x" * 8300 + " HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri_too_long"),
        (
            "GET /v1/models HTTP/1.1\r\nHost: a\r\nX: " + "x" * 8300 + "\r\n\r\n",
            431,
            "header_fields_too_large",
        ),
        (
            "GET /v1/models HTTP/1.1\r\nHost: a\r\n" + "X: 1\r\n" * 70 + "\r\n",
            431,
            "header_fields_too_large",
        ),
    ],
)
def test_what_is_no_request(relay: Gateway, request_head: str, status: int, code: str) -> None:
    """A status in the gateway's own words, and the end of the connection."""
    with Client.connected(relay.port) as client:
        client.send(request_head.encode("latin-1"))
        answer = client.read("GET")
        assert answer.status == status
        assert answer.error["code"] == code
        assert answer["Connection"] == "close"
        assert client.rest() == b""


def test_a_body_that_is_too_large(mocked: Gateway) -> None:
    """By its length at once, by its chunks while it is read; with the way to ask for more."""
    for lines, body in (
        ("Content-Length: 100001\r\n", b"x"),
        ("Transfer-Encoding: chunked\r\n", b"1ffff\r\n" + b"x" * 100_100),
    ):
        with Client.connected(mocked.port) as client:
            client.send(request_bytes("POST", CHAT, mocked.key, lines=lines) + body)
            answer = client.read()
        assert answer.status == 413
        assert answer.error["code"] == "payload_too_large"
        assert "MAX_REQUEST_BODY_SIZE" in answer.error["message"]
        assert answer["Connection"] == "close"


def test_a_bad_chunk(mocked: Gateway) -> None:
    """What cannot be read as a body is refused, and nothing after it is read as a request."""
    lines = "Transfer-Encoding: chunked\r\n"
    with Client.connected(mocked.port) as client:
        client.send(request_bytes("POST", CHAT, mocked.key, lines=lines) + b"zz\r\n")
        client.send(request_bytes("GET", "/ping"))
        answer = client.read()
        assert answer.status == 400
        assert client.rest() == b""


def test_limits_come_before_the_body(mocked: Gateway) -> None:
    """A stranger's body is not waited for."""
    with Client.connected(mocked.port) as client:
        client.send(request_bytes("POST", CHAT, None, lines="Content-Length: 50000\r\n"))
        assert client.read().status == 401


def test_an_answer_of_the_mock_engine(mocked: Gateway) -> None:
    """The whole way through, with a body sent in pieces."""
    request = request_bytes("POST", CHAT, mocked.key, json.dumps(chat()).encode())
    with Client.connected(mocked.port) as client:
        for at in range(0, len(request), 40):
            client.send(request[at : at + 40])
        answer = client.read()
    assert answer.status == 200
    assert answer.json["usage"]["completion_tokens"] == 3
