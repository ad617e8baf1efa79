"""
The connections to one engine: new ones, and those that wait for the next
request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConnector
from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_llama.http.deadlines import Deadlines
from twisted_llama.http.epoll import Epoll
from twisted_llama.http.turn import Turn
from twisted_llama.http.upstream import EngineConnection

#: How many connections are kept while nothing is asked.
MAX_IDLE = 256
#: llama-server closes a connection that was idle for 5 s; a request sent at
#: that instant would be lost, so connections are given up well before.
IDLE_SECONDS = 3.5
#: llama-server closes a connection after each event stream, whatever its head said.
#: So the first one that has carried one must have stayed open for this long before
#: any is trusted with another request; and an engine that was seen closing one is
#: never trusted like that again, since one that is busy may close late.
SETTLING_SECONDS = 1.0
#: How often it is looked whether an engine has been silent too long, which is found later by
#: as much; where that is soon, in this part of it.
LOOK_SECONDS = 1.0
LOOK_PART = 1 / 32


class _Attempt(ClientFactory):
    """
    One attempt to connect.
    """

    noisy = False

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool
        self._connector: IConnector | None = None
        self._given_up = False
        self.connected: Deferred[EngineConnection] = Deferred(self._give_up)

    def _give_up(self, _: Deferred[EngineConnection]) -> None:
        self._given_up = True
        if self._connector is not None:
            self._connector.stopConnecting()

    def startedConnecting(self, connector: IConnector) -> None:
        """
        The attempt can be given up from now on.
        """
        self._connector = connector

    def buildProtocol(self, addr: object) -> EngineConnection:
        """
        The engine has accepted.
        """
        return EngineConnection(self._pool, self.connected)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """
        The engine cannot be reached, or the attempt was given up.
        """
        # Who gave it up is told so by the Deferred itself.
        if not self.connected.called and not self._given_up:
            self.connected.errback(reason)


class EnginePool:
    """
    The connections to one engine.

    @ivar silence_seconds: the longest pause between two reads of an answer.
    @ivar look_seconds: how often it is looked whether one was longer.
    """

    log = Logger()

    def __init__(
        self,
        connect_to: Callable[[ClientFactory], object],
        deadlines: Deadlines,
        turn: Turn,
        epoll: Epoll,
        silence_seconds: float,
        held_bytes: int = 262144,
    ) -> None:
        """
        @param connect_to: connects a factory to where the engine is now, and
            bounds the time that takes: C{reactor.connectTCP} with its other
            arguments given.  Not an endpoint: those put a protocol of their
            own between the socket and ours, which every read passes.
        @param held_bytes: the most that is held of an answer.  When a client
            stops reading, so does the engine's connection, with what was read
            last in hand, and perhaps as much again in the transport; a quarter
            for each read keeps that well below.
        """
        self.read_bytes = min(65536, held_bytes // 4)
        self._connect_to = connect_to
        self.deadlines = deadlines
        self.turn = turn
        self.epoll = epoll
        self.now = deadlines.clock.seconds
        self.silence_seconds = silence_seconds
        self.look_seconds = min(LOOK_SECONDS, silence_seconds * LOOK_PART)
        self._idle: deque[EngineConnection] = deque()
        self._settling: set[EngineConnection] = set()
        # Unknown (None) until the first one has stayed open, or has not.
        self._keeps_after_streams: bool | None = None

    @property
    def idle(self) -> int:
        """
        How many connections wait for the next exchange.
        """
        return len(self._idle)

    @property
    def settling(self) -> int:
        """
        How many connections may be used again if they stay open.
        """
        return len(self._settling)

    def take(self) -> EngineConnection | None:
        """
        A connection that is open already, if there is one.
        """
        return self._idle.pop() if self._idle else None

    def connect(self) -> Deferred[EngineConnection]:
        """
        Open a connection.

        @return: fails with why that was not possible.
        """
        attempt = _Attempt(self)
        self._connect_to(attempt)
        return attempt.connected

    def give_back(self, connection: EngineConnection) -> float:
        """
        Keep a connection whose exchange has ended cleanly; after an event stream
        perhaps only until it is known whether the engine closes it.

        @return: for how many seconds, unless it is taken before.
        """
        if connection.after_stream and not self._keeps_after_streams:
            if self._keeps_after_streams is None:
                self._settling.add(connection)
                return SETTLING_SECONDS
            connection.abort()
        elif len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.abort()
        return IDLE_SECONDS

    def settled(self, connection: EngineConnection) -> bool:
        """
        The time is over for which a connection was kept.

        @return: whether it may be used from now on.
        """
        if connection not in self._settling:
            return False
        self._settling.remove(connection)
        self._keeps_after_streams = True
        return True

    def closed_by_engine(self, connection: EngineConnection) -> None:
        """
        The engine has closed a connection.
        """
        if connection.after_stream and (connection in self._settling or connection in self._idle):
            self._keeps_after_streams = False
            for other in (*self._settling, *self._idle):
                if other.after_stream and other is not connection:
                    other.abort()
        self.forget(connection)

    def forget(self, connection: EngineConnection) -> None:
        """
        A connection is no longer to be used.
        """
        self.deadlines.discard(connection)
        self._settling.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """
        Close all connections that wait, as when the engine has gone; the next one
        may be another.
        """
        self._keeps_after_streams = None
        for connection in (*self._idle, *self._settling):
            connection.abort()
