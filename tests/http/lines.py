"""
Connections that are real, and read through an L{Epoll}: ours at one end, plain
sockets at the other.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from twisted_llama.http.epoll import Epoll


class End(Protocol):
    """
    Our end of a connection.

    @ivar act: what is done when something was received.
    """

    transport: Any
    reason: Failure | None = None

    def __init__(self) -> None:
        self.received = b""
        self.act: Callable[[], object] = lambda: None

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.act()

    def connectionLost(  # type: ignore[override]  # no default is a Failure
        self, reason: Failure | None = None
    ) -> None:
        assert self.reason is None
        self.reason = reason


EndT = TypeVar("EndT", bound=End)


class Lines(Generic[EndT]):
    """
    Several connections, and the plain sockets at their other ends.
    """

    def __init__(self) -> None:
        self.reactor: Any = reactor
        self.epoll = Epoll(self.reactor)
        self.ours: list[EndT] = []
        self.theirs: list[socket.socket] = []

    async def connect(self) -> tuple[EndT, socket.socket]:
        """One more."""
        raise NotImplementedError

    async def until(self, condition: Callable[[], object]) -> None:
        for _ in range(2000):
            if condition():
                return
            # Between two looks at the condition, so that the reactor gets on.
            await deferLater(self.reactor, 0.005)
        raise AssertionError("it never came about")

    async def turn(self) -> None:
        """What was there to be read has been read, for something later has."""
        ours, theirs = await self.connect()
        theirs.sendall(b".")
        await self.until(lambda: ours.received == b".")
        theirs.close()
        await self.until(lambda: ours.reason is not None)

    async def close(self) -> None:
        """Leave nothing open."""
        for theirs in self.theirs:
            theirs.close()
        connected = [ours for ours in self.ours if ours.transport is not None]
        for ours in connected:
            if ours.reason is None:
                ours.transport.abortConnection()
        await self.until(lambda: all(ours.reason is not None for ours in connected))


LinesT = TypeVar("LinesT", bound=Lines[Any])


@contextmanager
def closed(lines: LinesT) -> Iterator[LinesT]:
    """
    At the end none of them is open, and none watched.
    """
    yield lines
    pytest_twisted.blockon(Deferred.fromCoroutine(lines.close()))
    assert len(lines.epoll) == 0
    assert lines.epoll.fileno() == -1
