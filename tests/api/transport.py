"""
A connection in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer


class World(Protocol):
    """
    Where connections are closed.

    @ivar closings: what is still to be told of it.
    """

    closings: list[Callable[[], None]]


@implementer(ITCPTransport)
class MemoryTransport:
    """
    A connection as the gateway has it.  It is stricter than a socket: nothing may be written
    after it was closed, and no producer registered twice.

    @ivar written: what the gateway has sent.
    @ivar closed: C{"loseConnection"} or C{"abortConnection"}, once one of them was called.
    @ivar paused: whether the gateway reads no more.
    """

    disconnecting = False

    def __init__(self, world: World, protocol: Any, peer: IPv4Address) -> None:
        self._world = world
        self._protocol = protocol
        self._peer = peer
        self._producer: Any = None
        self.written = b""
        self.closed = ""
        self.lost = False
        self.paused = False

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        if not self.closed and not self.lost:
            self.written += data

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        self._close("loseConnection")

    def loseWriteConnection(self) -> None:
        self._close("loseConnection")

    def abortConnection(self) -> None:
        self._close("abortConnection")

    def _close(self, how: str) -> None:
        if not self.closed and not self.lost:
            self.closed = how
            self.disconnecting = True
            self._world.closings.append(lambda: self.lose(ConnectionDone()))

    def lose(self, reason: Exception) -> None:
        """
        The connection is no more, and the gateway is told.
        """
        if not self.lost:
            self.lost = True
            self._producer = None
            self._protocol.connectionLost(Failure(reason))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self._producer is None
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.loseConnection()

    def fill(self) -> None:
        """
        The peer takes no more.
        """
        self._producer.pauseProducing()

    def drain(self) -> None:
        """
        The peer has taken everything.
        """
        self._producer.resumeProducing()

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
