"""
Reading from clients that come through a port of which the reactor reads nothing.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import socket
from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port, Server
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.http.lines import End, Lines, closed
from twisted_llama.http.accepted import AcceptedConnection, read_directly
from twisted_llama.http.epoll import Epoll

RESET = b"\1\0\0\0\0\0\0\0"


@implementer(IHalfCloseableProtocol)
class HalfCloseable(End):
    """
    One that may still be written to when the client has said everything.
    """

    half_closed = False

    def readConnectionLost(self) -> None:
        self.half_closed = True

    def writeConnectionLost(self) -> None:
        """Nobody asks."""


class World(Lines[End]):
    """
    A port, what it is read through, and its clients.
    """

    def __init__(self) -> None:
        super().__init__()
        self.protocol: type[End] = End
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = self._build  # type: ignore[method-assign]  # keeps them
        self.port: Port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        read_directly(self.port, self.epoll)

    def _build(self, addr: object) -> End:
        self.ours.append(self.protocol())
        return self.ours[-1]

    async def connect(self) -> tuple[End, socket.socket]:
        count = len(self.ours)
        theirs = socket.create_connection(("127.0.0.1", self.port.getHost().port))
        self.theirs.append(theirs)
        await self.until(lambda: len(self.ours) > count and self.ours[-1].transport)
        return self.ours[-1], theirs

    async def close(self) -> None:
        await super().close()
        await self.port.stopListening()


@pytest.fixture
def world() -> Iterator[World]:
    with closed(World()) as world:
        yield world


@pytest_twisted.ensureDeferred
async def test_what_is_sent_is_read(world: World) -> None:
    """By none of the reactor's readers."""
    pairs = [await world.connect() for _ in range(3)]
    assert all(isinstance(ours.transport, AcceptedConnection) for ours, _ in pairs)
    assert len(world.epoll) == 3
    assert not {ours.transport for ours, _ in pairs} & set(world.reactor.getReaders())
    for number, (_, theirs) in enumerate(pairs):
        theirs.sendall(b"%d" % number * 100)
    await world.until(lambda: all(len(ours.received) == 100 for ours, _ in pairs))
    assert [ours.received[:1] for ours, _ in pairs] == [b"0", b"1", b"2"]


@pytest.mark.parametrize(("how", "reason"), [("close", ConnectionDone), ("reset", ConnectionLost)])
@pytest_twisted.ensureDeferred
async def test_an_end_is_told_as_the_reactor_tells_it(
    world: World, how: str, reason: type[Exception]
) -> None:
    ours, theirs = await world.connect()
    theirs.sendall(b"last words")
    await world.until(lambda: ours.received == b"last words")
    if how == "reset":
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    theirs.close()
    await world.until(lambda: ours.reason is not None)
    assert ours.reason is not None
    assert ours.reason.check(reason)
    assert len(world.epoll) == 0


@pytest_twisted.ensureDeferred
async def test_half_of_a_connection_may_end(world: World) -> None:
    """If the protocol can do with it, it may go on to write."""
    world.protocol = HalfCloseable
    ours, theirs = await world.connect()
    assert isinstance(ours, HalfCloseable)
    theirs.shutdown(socket.SHUT_WR)
    await world.until(lambda: ours.half_closed)
    assert ours.reason is None
    assert len(world.epoll) == 0
    ours.transport.write(b"so be it")
    ours.transport.loseConnection()
    await world.until(lambda: ours.reason is not None)
    assert theirs.recv(100) == b"so be it"


@pytest_twisted.ensureDeferred
async def test_one_that_is_paused_is_not_read(world: World) -> None:
    """Not even when its peer breaks off, which C{epoll} tells unasked."""
    ours, theirs = await world.connect()
    ours.transport.pauseProducing()
    ours.transport.pauseProducing()
    assert len(world.epoll) == 0
    theirs.sendall(b"wait")
    await world.turn()
    assert ours.received == b""
    ours.transport.resumeProducing()
    ours.transport.resumeProducing()
    await world.until(lambda: ours.received == b"wait")
    ours.transport.pauseProducing()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    theirs.close()
    await world.turn()
    assert ours.reason is None
    ours.transport.resumeProducing()
    await world.until(lambda: ours.reason is not None)


@pytest_twisted.ensureDeferred
async def test_a_client_that_breaks_off_while_it_is_written_to(world: World) -> None:
    """The reactor hears of it, or we do, and it is told once."""
    ours, theirs = await world.connect()
    ours.transport.write(b"x" * 50_000_000)
    await world.until(lambda: ours.transport in world.reactor.getWriters())
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    theirs.close()
    await world.until(lambda: ours.reason is not None)
    assert ours.reason is not None
    assert ours.reason.check(ConnectionLost)
    await world.turn()


@pytest_twisted.ensureDeferred
async def test_a_defect_costs_one_connection(world: World) -> None:
    bad, their_bad = await world.connect()
    good, their_good = await world.connect()
    bad.act = lambda: 1 / 0
    with capturedLogs() as logged:
        their_bad.sendall(b"x")
        their_good.sendall(b"x")
        await world.until(lambda: bad.reason is not None and good.received)
    failures = [event["log_failure"].type for event in logged if "log_failure" in event]
    assert failures == [ZeroDivisionError]
    assert bad.reason is not None
    assert bad.reason.check(ConnectionAborted)
    assert good.reason is None


@pytest_twisted.ensureDeferred
async def test_a_protocol_that_cannot_even_end(world: World) -> None:
    """It is logged, and nothing stays open because of it."""
    ours, theirs = await world.connect()

    def fail(reason: Failure) -> None:
        ours.reason = reason
        raise ZeroDivisionError

    ours.connectionLost = fail  # type: ignore[method-assign,assignment]  # a defect
    with capturedLogs() as logged:
        theirs.close()
        await world.until(lambda: ours.reason is not None)
        await world.turn()
    assert ZeroDivisionError in [e["log_failure"].type for e in logged if "log_failure" in e]
    assert world.epoll.fileno() == -1


@pytest_twisted.ensureDeferred
async def test_one_may_end_another_that_is_to_be_read_too(world: World) -> None:
    """Of both only the first is read."""
    pairs = [await world.connect() for _ in range(2)]
    one, other = (ours for ours, _ in pairs)
    one.act = other.transport.abortConnection
    other.act = one.transport.abortConnection
    for _, theirs in pairs:
        theirs.sendall(b"x")
    await world.until(lambda: one.received or other.received)
    await world.turn()
    assert sorted([one.received, other.received]) == [b"", b"x"]


@pytest_twisted.ensureDeferred
async def test_the_end_of_the_reactor(world: World) -> None:
    """All hear of it, as of any reader's."""
    pairs = [await world.connect() for _ in range(2)]
    reason = Failure(ConnectionLost())
    world.epoll.connectionLost(reason)
    assert [ours.reason for ours, _ in pairs] == [reason, reason]
    assert world.epoll.fileno() == -1


@pytest_twisted.ensureDeferred
async def test_no_descriptor_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the first: it is the reactor's, as any other.  Those that come later are not."""

    def full() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as without:
        without.setattr(select, "epoll", full)
        ours, theirs = await world.connect()
    assert type(ours.transport) is Server
    theirs.sendall(b"x")
    await world.until(lambda: ours.received == b"x")
    other, _ = await world.connect()
    assert type(other.transport) is AcceptedConnection


@pytest_twisted.ensureDeferred
async def test_one_that_cannot_be_watched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port says so, and accepts the next one."""

    def full(descriptor: int, reader: object) -> None:
        raise OSError(errno.ENOSPC, "No more watches")

    with monkeypatch.context() as without, capturedLogs() as logged:
        without.setattr(world.epoll, "watch", full)
        theirs = socket.create_connection(("127.0.0.1", world.port.getHost().port))
        world.theirs.append(theirs)
        await world.until(lambda: any("failure" in event for event in logged))
    assert [e["failure"].value.errno for e in logged if "failure" in e] == [errno.ENOSPC]
    assert world.epoll.fileno() == -1
    assert isinstance((await world.connect())[0].transport, AcceptedConnection)


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_open(world: World) -> None:
    """Not one descriptor, after many connections."""
    await world.turn()
    # What other tests have left to the collector must not go in the middle of this one.
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        await world.turn()
    assert len(os.listdir("/proc/self/fd")) == before


def test_ports_that_make_other_connections_are_left_alone() -> None:
    class Special(Server):
        """Not ours to replace."""

    port = Port(0, Factory())
    port.transport = Special
    read_directly(port, Epoll(reactor))  # type: ignore[arg-type]  # the module is the reactor
    assert port.transport is Special
