"""
Reading from engines that speak, end, break, and are not to be heard for a while.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import ClientFactory
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from tests.http.bench import NO_EPOLL
from tests.http.lines import End, Lines, closed
from twisted_llama.http.epoll import Epoll
from twisted_llama.http.inlet import SocketInlet, TransportInlet, make_inlet


class Ours(End):
    """
    One that reads through an inlet.
    """

    def __init__(self, epoll: Epoll) -> None:
        super().__init__()
        self._epoll = epoll
        self.inlet: Any = None
        self.ends = 0

    def connectionMade(self) -> None:
        self.inlet = make_inlet(self._epoll, self.transport, self.dataReceived, self._ends, 16)

    def _ends(self) -> None:
        assert self.reason is None
        self.ends += 1

    def connectionLost(  # type: ignore[override]  # no default is a Failure
        self, reason: Failure | None = None
    ) -> None:
        self.inlet.close()
        super().connectionLost(reason)


class EngineLines(Lines[Ours]):
    """
    As those to an engine.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listener = socket.create_server(("127.0.0.1", 0))

    async def connect(self) -> tuple[Ours, socket.socket]:
        ours = Ours(self.epoll)
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda addr: ours  # type: ignore[method-assign]  # for this one
        host, port = self._listener.getsockname()
        self.reactor.connectTCP(host, port, factory)
        await self.until(lambda: ours.inlet is not None)
        theirs, _ = self._listener.accept()
        self.ours.append(ours)
        self.theirs.append(theirs)
        return ours, theirs

    async def close(self) -> None:
        for ours in self.ours:
            ours.inlet.close()
        await super().close()
        self._listener.close()


@pytest.fixture
def lines() -> Iterator[EngineLines]:
    with closed(EngineLines()) as lines:
        yield lines


@pytest_twisted.ensureDeferred
async def test_what_is_sent_is_read(lines: EngineLines) -> None:
    """In pieces of the size that was asked for, each connection its own."""
    pairs = [await lines.connect() for _ in range(3)]
    assert all(isinstance(ours.inlet, SocketInlet) for ours, _ in pairs)
    assert len(lines.epoll) == 3
    for number, (_, theirs) in enumerate(pairs):
        theirs.sendall(b"%d" % number * 100)
    await lines.until(lambda: all(len(ours.received) == 100 for ours, _ in pairs))
    assert [ours.received[:1] for ours, _ in pairs] == [b"0", b"1", b"2"]


@pytest.mark.parametrize(("how", "reason"), [("close", ConnectionDone), ("reset", ConnectionLost)])
@pytest_twisted.ensureDeferred
async def test_an_end_is_told_as_the_transport_tells_it(
    lines: EngineLines, how: str, reason: type[Exception]
) -> None:
    """And at once, before anybody could use the connection again."""
    ours, theirs = await lines.connect()
    theirs.sendall(b"last words")
    await lines.until(lambda: ours.received == b"last words")
    if how == "reset":
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    await lines.until(lambda: ours.reason is not None)
    assert ours.ends == 1
    assert ours.reason is not None
    assert ours.reason.check(reason)
    assert len(lines.epoll) == 0


@pytest_twisted.ensureDeferred
async def test_one_that_is_paused_is_not_read(lines: EngineLines) -> None:
    """Not even when its peer breaks off, which C{epoll} tells unasked."""
    ours, theirs = await lines.connect()
    other, _ = await lines.connect()
    ours.inlet.pause()
    ours.inlet.pause()
    theirs.sendall(b"wait")
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    await lines.turn()
    assert ours.received == b""
    assert ours.ends == 0
    assert len(lines.epoll) == 1
    ours.inlet.resume()
    await lines.until(lambda: ours.reason is not None)
    assert other.reason is None


@pytest_twisted.ensureDeferred
async def test_one_that_is_lent_is_read_by_the_transport(lines: EngineLines) -> None:
    ours, theirs = await lines.connect()
    ours.inlet.lend()
    assert len(lines.epoll) == 0
    theirs.sendall(b"one")
    await lines.until(lambda: ours.received == b"one")
    ours.inlet.pause()
    theirs.sendall(b"two")
    await lines.turn()
    assert ours.received == b"one"
    ours.inlet.resume()
    await lines.until(lambda: ours.received == b"onetwo")
    ours.inlet.take_back()
    assert len(lines.epoll) == 1
    theirs.sendall(b"three")
    await lines.until(lambda: ours.received == b"onetwothree")


@pytest_twisted.ensureDeferred
async def test_paused_and_lent(lines: EngineLines) -> None:
    """Whichever comes first, nothing is read before the one is over, and by us only after both."""
    ours, theirs = await lines.connect()
    ours.inlet.pause()
    ours.inlet.lend()
    theirs.sendall(b"x")
    await lines.turn()
    assert ours.received == b""
    ours.inlet.take_back()
    await lines.turn()
    assert ours.received == b""
    assert len(lines.epoll) == 0
    ours.inlet.resume()
    assert len(lines.epoll) == 1
    await lines.until(lambda: ours.received == b"x")


@pytest_twisted.ensureDeferred
async def test_a_defect_costs_one_connection(lines: EngineLines) -> None:
    bad, their_bad = await lines.connect()
    good, their_good = await lines.connect()
    bad.act = lambda: 1 / 0
    with capturedLogs() as logged:
        their_bad.sendall(b"x")
        their_good.sendall(b"x")
        await lines.until(lambda: bad.reason is not None and good.received)
    failures = [event["log_failure"].type for event in logged if "log_failure" in event]
    assert failures == [ZeroDivisionError]
    assert good.reason is None


@pytest_twisted.ensureDeferred
async def test_one_may_end_another_that_is_to_be_read_too(lines: EngineLines) -> None:
    """Of both only the first is read."""
    pairs = [await lines.connect() for _ in range(2)]
    one, other = (ours for ours, _ in pairs)
    one.act = other.inlet.close
    other.act = one.inlet.close
    for _, theirs in pairs:
        theirs.sendall(b"x")
    await lines.until(lambda: one.received or other.received)
    await lines.turn()
    assert sorted([one.received, other.received]) == [b"", b"x"]


def test_transports_that_are_no_sockets() -> None:
    """They read themselves, and are told when not to."""
    transport = StringTransport()
    inlet = make_inlet(NO_EPOLL, transport, lambda data: None, lambda: None, 16)
    assert isinstance(inlet, TransportInlet)
    inlet.pause()
    assert transport.producerState == "paused"
    inlet.lend()
    inlet.take_back()
    assert transport.producerState == "paused"
    inlet.resume()
    assert transport.producerState == "producing"
    inlet.close()


@pytest_twisted.ensureDeferred
async def test_a_system_without_epoll(lines: EngineLines, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.delattr(select, "epoll")
        ours, theirs = await lines.connect()
    assert isinstance(ours.inlet, TransportInlet)
    theirs.sendall(b"x")
    await lines.until(lambda: ours.received == b"x")


@pytest_twisted.ensureDeferred
async def test_no_descriptor_is_left(lines: EngineLines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the first connection; those that come later are read directly again."""

    def full() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as without:
        without.setattr(select, "epoll", full)
        ours, _ = await lines.connect()
    assert isinstance(ours.inlet, TransportInlet)
    other, _ = await lines.connect()
    assert isinstance(other.inlet, SocketInlet)
    other.inlet.pause()
    assert lines.epoll.fileno() >= 0
    other.inlet.resume()
