"""
How a gateway ends: in order, in time, and at once when it must.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.testing import StringTransport

from tests.api.ends import chunk
from tests.assembly.conftest import MakeLife
from tests.assembly.life import SECRET
from twisted_llama.assembly.gateway import FLUSH_SECONDS
from twisted_llama.errors import StartupError
from twisted_llama.http.channel import LEAVE_SECONDS


def test_an_orderly_end(make_life: MakeLife) -> None:
    """
    No new work, then the work under way, then the gateway's port, then the engine, and last
    the health port.
    """
    life = make_life(max_concurrent_requests=1)
    life.start()
    idle = life.client()
    stream = life.stream()
    waiting = life.client().ask(b"POST", b"/v1/x", key=SECRET, body=b"{}")
    ended = life.stop()
    assert not idle.closed, "a request may be on its way"
    life.reactor.advance(LEAVE_SECONDS)
    assert idle.closed
    assert waiting.answer.code == "draining"
    assert not stream.closed
    assert life.listens == [True, True]
    late = life.client().ask(b"POST", b"/v1/x", key=SECRET, body=b"{}")
    assert (late.answer.status, late.answer.code) == (503, "draining")
    assert life.client().ask(b"GET", b"/health", key=None).answer.json["status"] == "draining"
    life.engine_ends[0].answer(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    life.settle()
    assert stream.answer.whole
    life.reactor.advance(LEAVE_SECONDS)
    life.settle()
    assert stream.closed
    assert life.listens == [True, False]
    assert life.engine.calls == ["start", "stop"]
    assert not ended.called
    life.engine.stopped.callback(None)
    assert ended.called
    assert life.listens == [False, False]


def test_an_end_when_nothing_is_under_way(make_life: MakeLife) -> None:
    """
    It waits for nothing.
    """
    life = make_life()
    life.start()
    life.engine.stopped.callback(None)
    assert life.stop().called


def test_the_drain_has_its_time(make_life: MakeLife) -> None:
    """
    DRAIN_TIMEOUT; then streams are told and ended.
    """
    life = make_life(drain_timeout=30)
    life.start()
    stream = life.stream()
    life.stop()
    life.reactor.advance(29)
    life.settle()
    assert not stream.closed
    life.reactor.advance(1)
    life.settle()
    assert stream.closed
    assert b'"draining"' in stream.received
    assert not stream.answer.whole
    assert life.engine.calls == ["start", "stop"]


def test_a_client_that_does_not_take_its_end(make_life: MakeLife) -> None:
    """
    It is waited for a little, and cut off.
    """
    life = make_life()
    life.start()
    idle = life.client()
    stream = life.stream()
    closings = life.closings = NeverSettled()
    life.stop()
    life.engine_ends[0].answer(b"0\r\n\r\n")
    assert life.engine.calls == ["start"]
    life.reactor.advance(FLUSH_SECONDS)
    assert life.engine.calls == ["start", "stop"]
    life.closings = list(closings.kept)
    life.settle()
    assert stream.transport.lost
    assert idle.transport.lost


class NeverSettled(list[Any]):
    """
    Closings that nobody is told of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def append(self, closing: Any) -> None:
        self.kept.append(closing)


def test_a_client_on_the_health_port(make_life: MakeLife) -> None:
    """
    It is cut off at the very end.
    """
    life = make_life()
    life.start()
    channel = life.graph.health_site.buildProtocol(None)
    assert channel is not None
    transport = StringTransport()
    channel.makeConnection(transport)
    life.stop()
    assert not transport.disconnecting
    life.engine.stopped.callback(None)
    assert transport.disconnecting or transport.disconnected


def test_signals_end_it(make_life: MakeLife, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The first one in good order, the second at once.
    """
    installed: dict[int, Callable[..., Any]] = {}
    monkeypatch.setattr(signal, "signal", lambda number, act: installed.update({number: act}))
    life = make_life()
    life.start()
    for call, args, named in life.reactor.whenRunningHooks:
        call(*args, **named)
    stream = life.stream()
    installed[signal.SIGTERM](signal.SIGTERM, None)
    assert life.reactor.stops == 1
    life.stop()
    assert not stream.closed
    installed[signal.SIGINT](signal.SIGINT, None)
    life.settle()
    assert "SIGINT again" in life.log
    assert stream.transport.lost
    assert life.engine.calls == ["start", "kill_now", "stop"]
    installed[signal.SIGHUP](signal.SIGHUP, None)


def test_an_engine_that_must_not_run(make_life: MakeLife, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The gateway ends with exit status 1, once all is put away.
    """
    life = make_life()
    life.start()
    triggers: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        life.reactor, "addSystemEventTrigger", lambda *args: triggers.append(args), raising=False
    )
    life.service._fatal(StartupError("it is open to everybody"))
    assert triggers == [("after", "shutdown", os._exit, 1)]
    assert life.reactor.stops == 1
    assert "FATAL: it is open to everybody" in life.log
    life.stop()
    life.service._fatal(StartupError("again"))
    assert life.reactor.stops == 1
