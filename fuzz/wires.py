"""
Connections in memory, as strict as sockets: what is closed is told in the next
turn, a side that is not read is not read, and a peer that takes nothing stops
the producer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    UserError,
)
from twisted.internet.interfaces import IConnector, ITCPTransport
from twisted.internet.protocol import ClientFactory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

#: How much a socket gives at once.
READ_BYTES = 65536

_ENGINE = IPv4Address("TCP", "127.0.0.1", 8080)

Turns = deque[Callable[[], None]]


@implementer(ITCPTransport)
class Wire:
    """
    One connection as the gateway has it.

    @ivar sent: what the gateway has written.
    @ivar ended: how the gateway has ended it: nothing yet, C{"close"}, C{"half"} or
        C{"abort"}.
    @ivar finished: whether the peer was told that nothing follows, and so has got everything.
    @ivar lost: whether the gateway has been told of the end.
    @ivar read: all that the gateway has read.
    @ivar full: whether the peer takes nothing.
    @ivar blocked_bytes: what was written since it takes nothing.
    """

    disconnecting = False

    def __init__(self, turns: Turns, protocol: Any, host: str, port: int) -> None:
        self._turns = turns
        self._protocol = protocol
        self._peer = IPv4Address("TCP", host, port)
        self._producer: Any = None
        self._streaming = True
        self._producer_paused = False
        self._inbox: deque[bytes] = deque()
        self._pumping = False
        self._closing_when_drained: Callable[[], None] | None = None
        self.sent = bytearray()
        self.read = bytearray()
        self.ended = ""
        self.finished = False
        self.lost = False
        self.paused = False
        self.full = False
        self.blocked_bytes = 0

    # -- what the peer does

    def give(self, octets: bytes) -> None:
        """
        The peer sends.
        """
        if not self.lost and self.ended in ("", "half"):
            for at in range(0, len(octets), READ_BYTES):
                self._inbox.append(octets[at : at + READ_BYTES])
            self._pump()

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._inbox and not self.paused and not self.lost and self.ended in ("", "half"):
                octets = self._inbox.popleft()
                self.read += octets
                self._protocol.dataReceived(octets)
        finally:
            self._pumping = False

    def fill(self) -> None:
        """
        The peer takes no more.
        """
        self.full = True

    def drain(self) -> None:
        """
        The peer has taken everything.
        """
        if not self.full:
            return
        self.full = False
        self.blocked_bytes = 0
        if self.lost:
            return
        if self._producer is not None and (self._producer_paused or not self._streaming):
            self._producer_paused = False
            self._producer.resumeProducing()
        if self._closing_when_drained is not None and not self.full:
            closing, self._closing_when_drained = self._closing_when_drained, None
            closing()

    def leave(self, cleanly: bool = False) -> None:
        """
        The peer ends the connection.
        """
        self._lose(ConnectionDone() if cleanly else ConnectionLost())

    def _lose(self, reason: Exception) -> None:
        if not self.lost:
            self.lost = True
            self._inbox.clear()
            producer, self._producer = self._producer, None
            if producer is not None:
                producer.stopProducing()
            self._protocol.connectionLost(Failure(reason))

    # -- what the gateway does

    def write(self, octets: bytes) -> None:
        assert type(octets) is bytes, type(octets)
        if self.lost or self.ended:
            return
        self.sent += octets
        if self.full:
            self.blocked_bytes += len(octets)
            if self._producer is not None and self._streaming and not self._producer_paused:
                self._producer_paused = True
                self._producer.pauseProducing()
        elif self._producer is not None and not self._streaming:
            self._turns.append(self._ask_for_more)

    def _ask_for_more(self) -> None:
        if self._producer is not None and not self._streaming and not self.full:
            self._producer.resumeProducing()

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        self._end("close", lambda: self._turns.append(lambda: self._lose(ConnectionDone())))

    def loseWriteConnection(self) -> None:
        self._end("half", lambda: None)

    def abortConnection(self) -> None:
        if not self.lost and self.ended != "abort":
            self.ended = "abort"
            self.disconnecting = True
            self._closing_when_drained = None
            self._turns.append(lambda: self._lose(ConnectionAborted()))

    def _end(self, how: str, closing: Callable[[], None]) -> None:
        if self.lost or self.ended in ("close", "abort") or self.ended == how:
            return
        self.ended = how
        self.disconnecting = True

        def finish() -> None:
            self.finished = True
            closing()

        if self.full:
            self._closing_when_drained = finish
        else:
            finish()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self._producer is None, "a producer is registered twice"
        if self.lost:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._producer_paused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        if self.paused:
            self.paused = False
            self._turns.append(self._pump)

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 8000)

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing to do."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nothing to do."""


@implementer(IConnector)
class Attempt:
    """
    One attempt of the gateway to connect to the engine.
    """

    def __init__(self, reactor: StillReactor, factory: ClientFactory) -> None:
        self._reactor = reactor
        self._factory = factory
        factory.startedConnecting(self)

    def stopConnecting(self) -> None:
        """
        The gateway has given up.
        """
        self._reactor.attempts.remove(self)
        self._factory.clientConnectionFailed(self, Failure(UserError()))

    def getDestination(self) -> IPv4Address:
        return _ENGINE

    def connect(self) -> None:
        """It is made at once."""

    def disconnect(self) -> None:
        self.stopConnecting()

    def accept(self) -> None:
        """
        The engine accepts.
        """
        reactor = self._reactor
        reactor.attempts.remove(self)
        protocol = self._factory.buildProtocol(_ENGINE)
        wire = Wire(reactor.turns, protocol, "127.0.0.1", 8080)
        reactor.engine_wires.append(wire)
        assert protocol is not None
        protocol.makeConnection(wire)

    def refuse(self) -> None:
        """
        Nothing listens there.
        """
        self._reactor.attempts.remove(self)
        self._factory.clientConnectionFailed(self, Failure(ConnectionRefusedError("refused")))


class StillReactor(Clock):
    """
    As much of a reactor as a gateway needs that never listens.

    @ivar accepts: whether the engine accepts at once.
    @ivar attempts: connections that it has neither accepted nor refused.
    @ivar engine_wires: the ones that it has accepted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turns: Turns = deque()
        self.accepts = True
        self.attempts: list[Attempt] = []
        self.engine_wires: list[Wire] = []

    def connectTCP(
        self, host: str, port: int, factory: ClientFactory, timeout: float = 30, **_: object
    ) -> Attempt:
        """
        See C{IReactorTCP}.
        """
        attempt = Attempt(self, factory)
        self.attempts.append(attempt)
        if self.accepts:
            attempt.accept()
        return attempt
