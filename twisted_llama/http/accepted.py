"""
Reading what clients send.

A port's connections are Twisted's own, but are read through an L{Epoll} of ours.
C{Port} offers the place for that: its C{transport}, which makes them.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Port, Server
from twisted.python.failure import Failure

from twisted_llama.http.epoll import Epoll

# As in the reactor, one of each is enough.
_DONE = Failure(CONNECTION_DONE)
_LOST = Failure(CONNECTION_LOST)


class AcceptedConnection(Server):
    """
    A client's connection of which the reactor hears only when it has to wait for
    leave to write.
    """

    _watched = _ended = False

    def __init__(self, epoll: Epoll, *details: Any) -> None:
        """
        @param epoll: one that has begun with it.
        @param details: what C{Server} takes.
        """
        self._epoll = epoll
        super().__init__(*details)

    def startReading(self) -> None:
        """
        See C{FileDescriptor}.
        """
        if not self._watched:
            self._epoll.watch(self.fileno(), self)
            self._watched = True

    def stopReading(self) -> None:
        """
        See C{FileDescriptor}.
        """
        if self._watched:
            self._watched = False
            # By its number, before that can be another's.
            self._epoll.forget(self.fileno())

    def read(self) -> None:
        """
        See L{twisted_llama.http.epoll.Reader}.
        """
        why = self.doRead()
        if why is not None:
            # What the reactor would do.
            self.stopReading()
            if why is CONNECTION_DONE:
                self.readConnectionLost(_DONE)
            else:
                self.connectionLost(_LOST)

    def cut(self) -> None:
        """
        See L{twisted_llama.http.epoll.Reader}.
        """
        self.abortConnection()

    def lost(self, reason: Failure) -> None:
        """
        See L{twisted_llama.http.epoll.Reader}.
        """
        self.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        """
        See C{Connection}.
        """
        try:
            super().connectionLost(reason)
        finally:
            if not self._ended:
                self._ended = True
                self._epoll.end()


def read_directly(port: Port, epoll: Epoll) -> None:
    """
    Have the connections of a port read through C{epoll}, those that are plain TCP:
    a port that makes others is left alone.
    """
    if port.transport is not Server:
        return

    def accept(*details: Any) -> Server:
        if not epoll.begin():
            return Server(*details)
        try:
            return AcceptedConnection(epoll, *details)
        except OSError:
            # It cannot be watched; who accepts says so and lets it go.
            epoll.end()
            raise

    # Here Twisted says that another may be put.
    port.transport = accept  # type: ignore[assignment]  # it is called, no more
