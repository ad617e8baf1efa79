"""
How a gateway ends while it is at work.
"""

from __future__ import annotations

import signal
from pathlib import Path

import psutil

from tests.gateway.running import Gateway, running, until
from tests.gateway.talking import CHAT, Client, Stream, ask, chat, fresh_id, request_bytes

ONE_AT_A_TIME = {
    "ENGINE": "mock",
    "EXTRA_ARGS": "--delay-ms 20 --tokens 1000",
    "MAX_CONCURRENT_REQUESTS": 1,
}


def test_under_load(tmp_path: Path) -> None:
    """What runs is finished, what waits and what comes is refused, and the status is 0."""
    with running(Gateway(tmp_path, ONE_AT_A_TIME)) as gateway:
        runs, waits, comes = (fresh_id(word) for word in ("runs", "waits", "comes"))
        port = gateway.port
        with (
            Client.connected(port) as running_one,
            Client.connected(port) as waiting_one,
            Client.connected(port) as idle_one,
        ):
            idle_one.send(request_bytes("GET", "/ping"))
            assert idle_one.read("GET").status == 200
            lines = f"X-Request-Id: {runs}\r\n"
            running_one.post(CHAT, chat(60, stream=True), gateway.key, lines)
            received = running_one.hear(2)
            waiting_one.post(CHAT, chat(), gateway.key, f"X-Request-Id: {waits}\r\n")
            gateway.wait_queue(1, 1)
            gateway.signal(signal.SIGTERM)
            refused = waiting_one.read()
            assert refused.status == 503
            assert refused.error["code"] == "draining"
            assert refused["Retry-After"]
            assert refused["Connection"] == "close"
            assert idle_one.rest() == b""
            assert gateway.health()["status"] == "draining"
            assert gateway.ask("GET", "/ready").status == 503
            with Client.connected(port) as late_one:
                late_one.post(CHAT, chat(), gateway.key, f"X-Request-Id: {comes}\r\n")
                answer = late_one.read()
                assert answer.error["code"] == "draining"
                assert answer["Connection"] == "close"
            assert ask(gateway.health_port, "GET", "/").status == 200
            stream = Stream.of(received + running_one.rest())
        assert stream.whole
        assert stream.events[-1] == "[DONE]"
        assert gateway.wait_ended() == 0
        assert gateway.access_status(runs) == 200
        assert gateway.access_status(waits) == gateway.access_status(comes) == 503


def test_a_second_signal(tmp_path: Path) -> None:
    """It waits for nothing any more."""
    with running(Gateway(tmp_path, ONE_AT_A_TIME)) as gateway:
        engine = psutil.Process(gateway.engine_pid())
        with Client.connected(gateway.port) as client:
            client.post(CHAT, chat(1000, stream=True), gateway.key)
            received = client.hear(2)
            gateway.signal(signal.SIGTERM)
            gateway.printed("SIGTERM: ending when")
            gateway.signal(signal.SIGINT)
            received += client.rest()
        assert not Stream.of(received).whole
        assert gateway.wait_ended(5) == 0
        until(lambda: not engine.is_running(), "the engine is gone", 2)


def test_work_that_takes_too_long(tmp_path: Path) -> None:
    """After DRAIN_TIMEOUT it is cut off, with an event that says why."""
    settings = {**ONE_AT_A_TIME, "DRAIN_TIMEOUT": 0.3}
    with running(Gateway(tmp_path, settings)) as gateway:
        request_id = fresh_id("long")
        with Client.connected(gateway.port) as client:
            lines = f"X-Request-Id: {request_id}\r\n"
            client.post(CHAT, chat(1000, stream=True), gateway.key, lines)
            received = client.hear(2)
            gateway.signal(signal.SIGTERM)
            received += client.rest()
        assert Stream.of(received).error["code"] == "draining"
        assert gateway.wait_ended(10) == 0
        assert gateway.access_status(request_id) == 503


def test_while_the_engine_loads(tmp_path: Path) -> None:
    """Who waits for it is told, and the engine is not waited for."""
    settings = {"ENGINE": "mock", "EXTRA_ARGS": "--load-seconds 60"}
    with (
        running(Gateway(tmp_path, settings), ready=False) as gateway,
        Client.connected(gateway.port) as client,
    ):
        client.post(CHAT, chat(), gateway.key)
        gateway.wait_queue(0, 1)
        gateway.signal(signal.SIGTERM)
        assert client.read().error["code"] == "draining"
        assert gateway.wait_ended(10) == 0


def test_at_once(tmp_path: Path) -> None:
    """SIGINT before anything has happened."""
    with running(Gateway(tmp_path, {"ENGINE": "mock"}), ready=False) as gateway:
        gateway.printed("has started")
        gateway.signal(signal.SIGINT)
        assert gateway.wait_ended(10) == 0
