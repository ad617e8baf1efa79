"""
Writing to peers that read, that read slowly, and that do not read.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport

from twisted_llama.http.outlet import (
    PIECE_BYTES,
    SocketOutlet,
    TransportOutlet,
    make_outlet,
)

BIG = bytes(range(256)) * 65536


class Reader(Protocol):
    """
    A peer that reads when it is let.
    """

    def __init__(self) -> None:
        self.received = b""
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(None)


class Ends:
    """
    Both ends of a real connection.
    """

    def __init__(self) -> None:
        self.reader = Reader()
        self.drained = 0
        self.outlet: Any = None
        self.transport: Any = None

    async def connect(self) -> None:
        accepted: Deferred[Protocol] = Deferred()
        factory = Factory()
        factory.noisy = False
        ours = Protocol()
        ours.connectionMade = lambda: accepted.callback(ours)  # type: ignore[method-assign]
        factory.buildProtocol = lambda addr: ours  # type: ignore[method-assign]
        self.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        reading = Factory()
        reading.noisy = False
        reading.buildProtocol = lambda addr: self.reader  # type: ignore[method-assign]
        await TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port).connect(reading)
        await accepted
        self.transport = ours.transport
        self.outlet = make_outlet(self.transport, self.on_drained)

    def on_drained(self) -> None:
        self.drained += 1

    async def until(self, condition: Any) -> None:
        for _ in range(2000):
            if condition():
                return
            await deferLater(reactor, 0.005)
        raise AssertionError("it never came about")


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    if made.reader.transport is not None:
        made.reader.transport.abortConnection()
    pytest_twisted.blockon(made.reader.lost)
    pytest_twisted.blockon(made.port.stopListening())


@pytest_twisted.ensureDeferred
async def test_a_peer_that_reads(ends: Ends) -> None:
    await ends.connect()
    assert isinstance(ends.outlet, SocketOutlet)
    assert ends.outlet.write(b"one") is True
    assert ends.outlet.write(b"two") is True
    await ends.until(lambda: ends.reader.received == b"onetwo")
    assert ends.drained == 0


@pytest_twisted.ensureDeferred
async def test_a_peer_that_stops_and_reads_on(ends: Ends) -> None:
    await ends.connect()
    ends.reader.transport.pauseProducing()
    assert ends.outlet.write(BIG) is False
    assert ends.outlet.blocked
    assert ends.outlet.write(b"the end") is False
    before = ends.outlet.progress
    ends.reader.transport.resumeProducing()
    await ends.until(lambda: ends.drained)
    assert ends.outlet.progress > before + len(BIG) // PIECE_BYTES // 100
    assert not ends.outlet.blocked
    assert ends.outlet.write(b".") is True
    await ends.until(lambda: ends.reader.received.endswith(b"the end."))
    assert ends.reader.received == BIG + b"the end."
    assert ends.drained == 1


@pytest.mark.parametrize("end", ["close", "half_close"])
@pytest_twisted.ensureDeferred
async def test_what_was_written_comes_through_before_the_end(ends: Ends, end: str) -> None:
    await ends.connect()
    ends.reader.transport.pauseProducing()
    ends.outlet.write(BIG)
    getattr(ends.outlet, end)()
    ends.reader.transport.resumeProducing()
    await ends.until(lambda: ends.reader.lost.called)
    assert ends.reader.received == BIG


@pytest_twisted.ensureDeferred
async def test_a_peer_that_has_gone(ends: Ends) -> None:
    """Nothing is raised, and nothing is kept."""
    await ends.connect()
    ends.reader.transport.pauseProducing()
    ends.outlet.write(BIG)
    ends.reader.transport.abortConnection()
    await ends.until(lambda: ends.transport.disconnected)
    ends.outlet.write(b"more")
    ends.outlet.close()
    assert ends.drained == 0


def test_transports_that_are_no_sockets() -> None:
    """They say themselves when they are full."""
    transport = StringTransport()
    drained: list[None] = []
    outlet = make_outlet(transport, lambda: drained.append(None))
    assert isinstance(outlet, TransportOutlet)
    assert outlet.write(b"one") is True
    transport.producer.pauseProducing()
    assert outlet.write(b"two") is False
    transport.producer.resumeProducing()
    transport.producer.resumeProducing()
    assert (drained, outlet.progress) == ([None], 1)
    assert transport.value() == b"onetwo"
    outlet.half_close()
    assert transport.disconnecting
    assert transport.producer is None


def test_a_tls_transport_is_no_socket() -> None:
    """Although its handle may look like one."""

    class Wrapped(StringTransport):
        def getHandle(self) -> socket.socket:
            raise AssertionError("it must not be asked")

    assert isinstance(make_outlet(Wrapped(), lambda: None), TransportOutlet)
