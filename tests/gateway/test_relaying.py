"""
What reaches the engine, and what comes back.
"""

from __future__ import annotations

import socket
import threading

import psutil
import pytest

from tests.gateway.running import Gateway, until
from tests.gateway.scripted_engine import (
    Asked,
    Gate,
    ScriptedEngine,
    begin_stream,
    end_stream,
    event,
    is_left,
    say,
)
from tests.gateway.talking import CHAT, Client, Stream, chat, fresh_id, named, request_bytes


def test_the_request_is_passed_on(relay: Gateway) -> None:
    """Method, path, query, body, and repeated header fields in their order."""
    headers = {"X-One": "1", "Accept": "text/event-stream", "x-one": "2"}
    answer = relay.ask("POST", "/v1/embeddings?a=1&a=%20b&c", headers=headers, body=b"\0\xff{")
    asked = answer.json
    assert asked["line"] == "POST /v1/embeddings?a=1&a=%20b&c HTTP/1.1"
    assert asked["body"] == "\0\xff{"
    fields = [(name.lower(), value) for name, value in asked["fields"]]
    assert [value for name, value in fields if name == "x-one"] == ["1", "2"]
    assert ("accept", "text/event-stream") in fields


def test_what_concerns_the_connection_is_not(relay: Gateway) -> None:
    """Hop-by-hop fields, ambiguous names and the client's key stay here."""
    headers = {
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "secret",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Proxy-Authorization": "Basic eA==",
        "X_Under": "score",
        "X-Conversation-Id": "7",
        "X-Kept": "yes",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with Client.connected(relay.port) as client:
        client.post("/v1/embeddings", {}, relay.key, lines)
        asked = client.read().json
    names = {name.lower() for name, _ in asked["fields"]}
    assert "x-kept" in names
    assert not names & {
        "x-hop",
        "keep-alive",
        "te",
        "proxy-authorization",
        "x_under",
        "x-conversation-id",
        "authorization",
        "x-api-key",
        "via",
    }
    assert relay.key not in str(asked)


def test_the_engine_hears_who_asked(relay: Gateway) -> None:
    """Forwarding fields are the gateway's own; a client's are not believed."""
    request_id = fresh_id()
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", **named(request_id)}
    asked = dict(relay.ask("GET", "/v1/models", headers=headers).json["fields"])
    assert asked["X-Forwarded-For"] == "127.0.0.1"
    assert asked["X-Forwarded-Proto"] == "http"
    assert asked["X-Forwarded-Host"] == "gateway.test"
    assert asked["X-Request-Id"] == request_id


def test_the_answer_is_passed_on(relay: Gateway, engine: ScriptedEngine) -> None:
    """Status, repeated fields and body; not the engine's CORS fields and hop-by-hop ones."""
    request_id = fresh_id()
    engine.script(
        request_id,
        lambda asked: say(
            asked,
            b"\0short and stout",
            "X-Two: a",
            "X-Two: b",
            "Access-Control-Allow-Origin: *",
            "Connection: close, X-Hop",
            "X-Hop: 1",
            "X-Request-Id: the-engines",
            status="418 I am a teapot",
        ),
    )
    answer = relay.ask("GET", "/v1/models", headers=named(request_id))
    assert (answer.status, answer.body) == (418, b"\0short and stout")
    assert [value for name, value in answer.headers if name == "x-two"] == ["a", "b"]
    assert answer["X-Request-Id"] == request_id
    assert answer["Access-Control-Allow-Origin"] is None
    assert answer["X-Hop"] is None


TOKENS = 100


def test_no_event_waits_for_the_next(relay: Gateway, engine: ScriptedEngine) -> None:
    """The engine makes an event when the client has the one before: none is ever held back."""
    heard = threading.Semaphore(0)

    def in_step(asked: Asked) -> None:
        begin_stream(asked)
        for number in range(TOKENS):
            event(asked, b'{"n":%d}' % number)
            assert heard.acquire(timeout=10)
        end_stream(asked)

    request_id = fresh_id()
    engine.script(request_id, in_step)
    with Client.connected(relay.port) as client:
        client.post(CHAT, chat(stream=True), relay.key, f"X-Request-Id: {request_id}\r\n")
        received = b""
        for number in range(TOKENS):
            while b'{"n":%d}\n\n' % number not in received:
                received += client.hear(1)
            heard.release()
        while b"[DONE]" not in received or not received.endswith(b"0\r\n\r\n"):
            received += client.hear(0) or client.connection.recv(65536)
    stream = Stream.of(received)
    assert stream.whole
    assert [one["n"] for one in stream.events[:-1]] == list(range(TOKENS))
    assert b"x-accel-buffering: no" in stream.head.lower()


def test_tokens_come_one_by_one(mocked: Gateway) -> None:
    """At least four of five gaps between events are those that the engine made."""
    with Client.connected(mocked.port) as client:
        client.post(CHAT, chat(50, stream=True), mocked.key, "Connection: close\r\n")
        reads = list(client.reads())
    assert Stream.of(b"".join(reads)).events[-1] == "[DONE]"
    assert sum(b"data: " in data for data in reads) >= 0.8 * 50


def test_a_connection_closed_after_a_stream_is_not_used_again(
    relay: Gateway, engine: ScriptedEngine
) -> None:
    """llama-server closes it although it has promised to keep it; no request may be lost by it."""
    gate = Gate()

    def speak(asked: Asked) -> None:
        begin_stream(asked)
        end_stream(asked)
        # What the gateway sends meanwhile is never read.
        gate.wait()

    request_id = fresh_id()
    engine.script(request_id, speak)
    with Client.connected(relay.port) as client:
        client.post(CHAT, chat(stream=True), relay.key, f"X-Request-Id: {request_id}\r\n")
        assert client.read().body == b"data: [DONE]\n\n"
        client.post(CHAT, chat(), relay.key)
        answer = client.read()
        gate.open()
    assert answer.status == 200, answer


def test_a_client_that_leaves_frees_the_engine(relay: Gateway, engine: ScriptedEngine) -> None:
    """Its engine connection is closed at once, before the first byte and in a stream."""
    gate = Gate()
    request_id = fresh_id("early")
    engine.script(request_id, lambda asked: gate.wait())
    with Client.connected(relay.port) as client:
        client.post(CHAT, chat(), relay.key, f"X-Request-Id: {request_id}\r\n")
        asked = engine.wait(request_id)
    until(lambda: is_left(asked), "the gateway has left", 5)
    gate.open()
    assert relay.access_status(request_id) == 499


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_ways_to_leave_a_stream(relay: Gateway, engine: ScriptedEngine, how: str) -> None:
    """However a client goes."""
    gate = Gate()

    def speak(asked: Asked) -> None:
        begin_stream(asked)
        event(asked, b"{}")
        gate.wait()

    request_id = fresh_id(how)
    engine.script(request_id, speak)
    with Client.connected(relay.port) as client:
        client.post(CHAT, chat(stream=True), relay.key, f"X-Request-Id: {request_id}\r\n")
        client.hear(1)
        asked = engine.wait(request_id)
        if how == "half-close":
            client.connection.shutdown(socket.SHUT_WR)
            until(lambda: is_left(asked), "the gateway has left", 5)
        elif how == "reset":
            client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    until(lambda: is_left(asked), "the gateway has left", 5)
    gate.open()
    assert relay.access_status(request_id) == 499


def test_a_client_that_does_not_read_stops_the_engine(
    relay: Gateway, engine: ScriptedEngine
) -> None:
    """What it has not read waits in the engine, not in the gateway's memory."""
    sent_bytes = 0
    piece = b"x" * 65536
    wanted_bytes = 200_000_000

    def pour(asked: Asked) -> None:
        nonlocal sent_bytes
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % wanted_bytes
        asked.connection.sendall(head)
        while sent_bytes < wanted_bytes:
            asked.connection.sendall(piece)
            sent_bytes += len(piece)

    def stands_still() -> bool:
        before = sent_bytes
        threading.Event().wait(0.25)
        return before > 0 and sent_bytes == before

    process = psutil.Process(relay.process.pid)
    memory_before = process.memory_info().rss
    request_id = fresh_id()
    engine.script(request_id, pour)
    with Client.connected(relay.port) as client:
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(
            request_bytes("GET", "/v1/files", relay.key, None, f"X-Request-Id: {request_id}\r\n")
        )
        assert client.begin().status == 200
        until(stands_still, "the engine is stopped")
        assert sent_bytes < wanted_bytes / 4
        assert process.memory_info().rss - memory_before < 8_000_000
    assert relay.access_status(request_id) == 499


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
    ],
    ids=["nothing", "not HTTP", "two lengths", "long head", "bad status"],
)
def test_an_engine_that_gives_no_valid_answer(
    relay: Gateway, engine: ScriptedEngine, answer: bytes
) -> None:
    """502 in the gateway's own words."""
    request_id = fresh_id()
    engine.script(request_id, lambda asked: asked.connection.sendall(answer))
    refused = relay.ask("POST", CHAT, body=chat(), headers=named(request_id))
    assert refused.status == 502
    assert refused.error["code"] == "engine_unavailable"
    assert refused.error["type"] == "server_error"
    assert relay.access_status(request_id) == 502


def test_an_engine_that_dies_in_an_answer(relay: Gateway, engine: ScriptedEngine) -> None:
    """A body of known length is cut, with no second status and no error in it."""
    request_id = fresh_id()
    engine.script(
        request_id,
        lambda asked: asked.connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly so much"
        ),
    )
    with Client.connected(relay.port) as client:
        client.post(CHAT, chat(), relay.key, f"X-Request-Id: {request_id}\r\n")
        received = client.rest()
    assert received.endswith(b"\r\n\r\nonly so much")
    assert received.count(b"HTTP/1.1") == 1
    assert relay.access_status(request_id) == 502


def test_an_engine_that_dies_in_a_stream(relay: Gateway, engine: ScriptedEngine) -> None:
    """One event says so, in the middle of an event too, and the stream has no end."""

    def die(asked: Asked) -> None:
        begin_stream(asked)
        event(asked, b'{"n":1}')
        half = b'data: {"n":'
        asked.connection.sendall(b"%x\r\n%b\r\n" % (len(half), half))

    request_id = fresh_id()
    engine.script(request_id, die)
    with Client.connected(relay.port) as client:
        client.post(CHAT, chat(stream=True), relay.key, f"X-Request-Id: {request_id}\r\n")
        received = client.rest()
    framed = received.partition(b"\r\n\r\n")[2]
    assert b'data: {"n":1}\n\n' in framed
    assert b'data: {"error": {' in framed
    assert b"\n\ndata: {" in framed.partition(b'data: {"n":\r\n')[2]
    assert b"[DONE]" not in framed
    assert not framed.endswith(b"0\r\n\r\n")
    assert relay.access_status(request_id) == 502


def test_an_answer_framed_by_its_end(relay: Gateway, engine: ScriptedEngine) -> None:
    """A body without a length is passed on in chunks, so that the client knows its end."""
    request_id = fresh_id()
    engine.script(
        request_id, lambda asked: asked.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    )
    answer = relay.ask("GET", "/v1/models", headers=named(request_id))
    assert answer.body == b"all of it"
    assert answer["Transfer-Encoding"] == "chunked"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/slots"),
        ("POST", "/slots/0?action=save"),
        ("POST", "/props"),
        ("POST", "/lora-adapters"),
        ("POST", "/models/load"),
        ("DELETE", "/models"),
        ("GET", "/"),
        ("GET", "/index.html"),
        ("POST", "/tools"),
        ("GET", "/cors-proxy?url=http://example.test"),
        ("GET", "/v1"),
        ("GET", "/ping/x"),
    ],
)
def test_paths_that_are_never_relayed(relay: Gateway, method: str, path: str) -> None:
    """404 with a key, 401 without: nothing is said about paths to strangers."""
    body = b"" if method == "POST" else None
    answer = relay.ask(method, path, body=body)
    assert answer.status == 404
    assert answer.error["code"] == "not_found"
    assert answer.error["type"] == "invalid_request_error"
    assert relay.ask(method, path, key=None, body=body).status == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/completion"),
        ("POST", "/chat/completions"),
        ("POST", "/tokenize"),
        ("POST", "/infill"),
        ("POST", "/rerank"),
        ("POST", "/apply-template"),
        ("GET", "/props"),
        ("GET", "/models"),
        ("GET", "/v1/anything/else"),
        ("PUT", "/v1/anything"),
    ],
)
def test_paths_that_are_relayed(relay: Gateway, method: str, path: str) -> None:
    """The engine's own paths for inference, and all of /v1."""
    answer = relay.ask(method, path, body=None if method == "GET" else b"{}")
    assert answer.json["line"] == f"{method} {path} HTTP/1.1"


@pytest.mark.parametrize(
    "path",
    ["//v1/models", "/v1/../ping", "/v1/%2e%2e/slots", "/v1/./x", "/v1\\x", "/v1/%00", "/v1;x/y"],
)
def test_a_path_means_one_thing(relay: Gateway, engine: ScriptedEngine, path: str) -> None:
    """A path that could be read in two ways is refused before the key is looked at."""
    before = len(engine.asked())
    answers = [relay.ask("GET", path), relay.ask("GET", path, key=None)]
    assert [answer.status for answer in answers] == [400, 400]
    assert answers[0].error["code"] == "bad_request"
    assert len(engine.asked()) == before
