"""
Writing to peers that read, that read slowly, and that do not read.
"""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Iterator
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs

from tests.http.bench import Bench, get
from twisted_llama.http.outlet import (
    PIECE_BYTES,
    SOON_BYTES,
    SocketOutlet,
    TransportOutlet,
    make_outlet,
)
from twisted_llama.http.turn import Turn

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
        self.outlet = make_outlet(self.transport, Turn(reactor), lambda: None, self.on_drained)

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


@pytest.mark.parametrize("size", [10, SOON_BYTES - 1, SOON_BYTES, 3 * SOON_BYTES, len(BIG)])
@pytest_twisted.ensureDeferred
async def test_the_last_bytes_and_the_end(ends: Ends, size: int) -> None:
    """All arrives, and the end behind it."""
    await ends.connect()
    ends.outlet.write(BIG[:size])
    ends.outlet.close()
    await ends.reader.lost
    ends.reader.lost = succeed(None)
    assert ends.reader.received == BIG[:size]


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


class Sent:
    """
    A socket that notes what it was given, and takes so much of it.
    """

    def __init__(self, takes: int = 1 << 20) -> None:
        self.takes = takes
        self.pieces: list[bytes] = []
        self.flags: list[int] = []
        self.shut = False

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR
        self.shut = True

    def send(self, data: bytes, flags: int = 0) -> int:
        self.flags.append(flags)
        if not self.takes:
            raise BlockingIOError
        self.pieces.append(data[: self.takes])
        return len(self.pieces[-1])


def outlet_on(handle: Any, turn: Turn) -> SocketOutlet:
    return SocketOutlet(StringTransport(), handle, turn, lambda: None, lambda: None)


def test_one_turn_is_one_send() -> None:
    """And the sends of all connections are made together, at the end of it."""
    clock, one, two = Clock(), Sent(), Sent()
    turn = Turn(clock)
    outlets = [outlet_on(one, turn), outlet_on(two, turn)]
    for outlet in outlets:
        assert outlet.write(b"a") is True
        assert outlet.write(b"b") is True
    assert (one.pieces, two.pieces) == ([], [])
    clock.advance(0)
    assert (one.pieces, two.pieces) == ([b"ab"], [b"ab"])
    assert not clock.getDelayedCalls()
    outlets[0].write(b"c")
    clock.advance(0)
    assert (one.pieces, two.pieces) == ([b"ab", b"c"], [b"ab"])


def test_much_is_sent_at_once() -> None:
    clock, sent = Clock(), Sent()
    outlet = outlet_on(sent, Turn(clock))
    outlet.write(b"first")
    assert outlet.write(b"x" * SOON_BYTES) is True
    assert sent.pieces == [b"first" + b"x" * SOON_BYTES]
    assert outlet.write(b"y" * SOON_BYTES) is True
    assert len(sent.pieces) == 2
    clock.advance(0)
    assert len(sent.pieces) == 2


def test_a_peer_that_is_found_full_at_the_end_of_the_turn() -> None:
    """The next write says so, and nothing is lost or overtaken."""
    clock, sent = Clock(), Sent(takes=0)
    outlet = outlet_on(sent, Turn(clock))
    assert outlet.write(b"one") is True
    clock.advance(0)
    assert outlet.blocked
    assert outlet.write(b"two") is False
    sent.takes = 1 << 20
    clock.advance(0)
    assert sent.pieces == []


def test_what_was_written_in_this_turn_is_sent_before_the_end() -> None:
    clock, transport, sent = Clock(), StringTransport(), Sent()
    outlet = SocketOutlet(transport, cast(Any, sent), Turn(clock), lambda: None, lambda: None)
    outlet.write(b"last words")
    outlet.close()
    assert not sent.shut
    clock.advance(0)
    assert sent.pieces == [b"last words"]
    assert sent.shut
    # Both in one packet, where the system can do that.
    assert sent.flags == [getattr(socket, "MSG_MORE", 0)]
    outlet.close()


def test_one_that_fails_does_not_keep_the_others() -> None:
    class Broken(Sent):
        def send(self, data: bytes, flags: int = 0) -> int:
            raise RuntimeError("a defect")

    clock, sent = Clock(), Sent()
    turn = Turn(clock)
    for handle in (Broken(), sent):
        outlet_on(handle, turn).write(b"x")
    with capturedLogs() as logged:
        clock.advance(0)
    assert sent.pieces == [b"x"]
    assert [str(event["log_failure"].value) for event in logged] == ["a defect"]


def test_what_is_written_while_a_turn_ends_is_sent_too() -> None:
    clock = Clock()
    turn = Turn(clock)
    flushed: list[str] = []

    class Writing:
        """Writes once more when it is flushed."""

        def flush(self) -> None:
            flushed.append("flushed")
            if len(flushed) == 1:
                turn.add(self)

    turn.add(Writing())
    clock.pump([0, 0])
    assert flushed == ["flushed", "flushed"]
    assert not clock.getDelayedCalls()


def test_transports_that_are_no_sockets() -> None:
    """They say themselves when they are full."""
    transport = StringTransport()
    drained: list[None] = []
    outlet = make_outlet(transport, Turn(Clock()), lambda: None, lambda: drained.append(None))
    assert isinstance(outlet, TransportOutlet)
    assert outlet.write(b"one") is True
    assert outlet.flush() is True
    transport.producer.pauseProducing()
    assert outlet.write(b"two") is False
    assert outlet.flush() is False
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

    assert isinstance(
        make_outlet(Wrapped(), Turn(Clock()), lambda: None, lambda: None), TransportOutlet
    )


class Owner:
    """
    Whose outlet it is, and who is told.
    """

    outlet: SocketOutlet | TransportOutlet
    told = 0

    def hear(self) -> None:
        self.told += 1


@pytest.fixture
def no_collector() -> Iterator[None]:
    """
    Only what nobody refers to any more is freed.
    """
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("kind", [SocketOutlet, TransportOutlet])
def test_a_lost_connection_leaves_no_cycle_behind(kind: type, no_collector: None) -> None:
    """And nobody is told of it any more, nor is anything kept."""
    owner, transport = Owner(), StringTransport()
    told = (owner.hear, owner.hear)
    if kind is SocketOutlet:
        sent = Sent(takes=0)
        owner.outlet = SocketOutlet(transport, cast(Any, sent), Turn(Clock()), *told)
        owner.outlet.write(b"x" * SOON_BYTES)
    else:
        owner.outlet = TransportOutlet(transport, *told)
        owner.outlet.pauseProducing()
    del told
    assert owner.told == 1
    owner.outlet.lost()
    owner.outlet.resumeProducing()
    assert owner.told == 1
    gone = weakref.ref(owner)
    del owner
    transport.unregisterProducer()
    assert gone() is None


@pytest_twisted.ensureDeferred
async def test_a_client_that_has_left_is_freed_at_once(no_collector: None) -> None:
    """A real connection, with an answer: nothing of it waits for the collector."""
    bench = Bench()
    port = reactor.listenTCP(0, bench.site, interface="127.0.0.1")
    try:
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
        client.setblocking(False)
        client.send(get(b"/page"))
        while not bench.watcher.over:
            await deferLater(reactor, 0.005)
        bench.clock.advance(0)
        (channel,) = [weakref.ref(channel) for channel in bench.site.channels]
        client.close()
        while bench.site.channels:
            await deferLater(reactor, 0.005)
        bench.watcher.begun_requests.clear()
        await deferLater(reactor, 0)
        assert channel() is None
    finally:
        await port.stopListening()
