"""
How long the gateway waits, and what it says then.
"""

from __future__ import annotations

from tests.gateway.running import Gateway
from tests.gateway.scripted_engine import Asked, Gate, ScriptedEngine, begin_stream, event
from tests.gateway.talking import CHAT, Client, Stream, chat, fresh_id, named, request_bytes


def test_a_slow_head(impatient: Gateway) -> None:
    """408 when it does not come to its end, however it trickles."""
    with Client.connected(impatient.port) as client:
        client.send(b"GET /ping HTTP/1.1\r\nHost: a\r\n")
        answer = client.read("GET")
        assert answer.status == 408
        assert answer.error["code"] == "request_timeout"
        assert answer.error["type"] == "timeout_error"
        assert "headers" in answer.error["message"]
        assert client.rest() == b""


def test_a_slow_body(impatient: Gateway) -> None:
    """408 when it stops coming."""
    with Client.connected(impatient.port) as client:
        lines = "Content-Length: 100\r\n"
        client.send(request_bytes("POST", CHAT, impatient.key, lines=lines) + b"{")
        answer = client.read()
        assert answer.status == 408
        assert "body" in answer.error["message"]
        assert client.rest() == b""


def test_an_idle_connection(impatient: Gateway) -> None:
    """It is closed without a word."""
    with Client.connected(impatient.port) as client:
        client.send(request_bytes("GET", "/ping"))
        assert client.read("GET").status == 200
        assert client.rest() == b""


def test_a_silent_engine(impatient: Gateway, engine: ScriptedEngine) -> None:
    """504 before its first byte."""
    gate = Gate()
    request_id = fresh_id("silent")
    engine.script(request_id, lambda asked: gate.wait())
    answer = impatient.ask("POST", CHAT, body=chat(), headers=named(request_id))
    gate.open()
    assert answer.status == 504
    assert answer.error["code"] == "engine_timeout"
    assert answer.error["type"] == "timeout_error"
    assert impatient.access_status(request_id) == 504


def test_an_engine_silent_in_a_stream(impatient: Gateway, engine: ScriptedEngine) -> None:
    """An event that says so after it, and no end."""
    gate = Gate()

    def fall_silent(asked: Asked) -> None:
        begin_stream(asked)
        event(asked, b"{}")
        gate.wait()

    request_id = fresh_id("silent")
    engine.script(request_id, fall_silent)
    with Client.connected(impatient.port) as client:
        client.post(CHAT, chat(stream=True), impatient.key, f"X-Request-Id: {request_id}\r\n")
        stream = Stream.of(client.rest())
    gate.open()
    assert stream.events[0] == {}
    assert stream.error["code"] == "engine_timeout"
    assert impatient.access_status(request_id) == 504


def test_a_queue_that_does_not_move(impatient: Gateway, engine: ScriptedEngine) -> None:
    """503 with the time to ask again, when a request has waited too long."""
    gate = Gate()
    holder, waiter = fresh_id("holder"), fresh_id("waiter")
    engine.script(holder, lambda asked: gate.wait())
    with Client.connected(impatient.port) as client:
        client.post(CHAT, chat(), impatient.key, f"X-Request-Id: {holder}\r\n")
        engine.wait(holder)
        answer = impatient.ask("POST", CHAT, body=chat(), headers=named(waiter))
    gate.open()
    assert answer.status == 503
    assert answer.error["code"] == "queue_timeout"
    assert int(answer["Retry-After"] or 0) >= 1
    assert engine.find(waiter) is None
    assert impatient.access_status(waiter) == 503
    impatient.wait_queue(0, 0)
