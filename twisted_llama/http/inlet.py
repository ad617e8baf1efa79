"""
Reading what engines send.

An engine's connection is read through an L{Epoll} of our own.  Only the reading
of bytes is taken over.  Connecting, closing and noticing an end stay with
Twisted's transport: when a read says that nothing more will come, that is left
to it again.  Transports that are no plain sockets, and systems without C{epoll},
take the ordinary way, L{TransportInlet}.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ITransport
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from twisted_llama.http.epoll import Epoll


class Inlet(Protocol):
    """
    The way in of one connection.
    """

    def pause(self) -> None:
        """
        Read nothing until L{resume}.
        """

    def resume(self) -> None:
        """
        Read on.
        """

    def lend(self) -> None:
        """
        Leave it to the transport until L{take_back}: it is writing, and one that
        finds that the peer has gone must first read what that has said.
        """

    def take_back(self) -> None:
        """
        See L{lend}.
        """

    def close(self) -> None:
        """
        Read nothing any more; the transport is about to be closed, or was.
        """


class TransportInlet:
    """
    An L{Inlet} that leaves everything to the transport.
    """

    __slots__ = ("_transport",)

    def __init__(self, transport: Any) -> None:
        """
        @param transport: an C{IPushProducer}.
        """
        self._transport = transport

    def pause(self) -> None:
        """
        See L{Inlet.pause}.
        """
        self._transport.pauseProducing()

    def resume(self) -> None:
        """
        See L{Inlet.resume}.
        """
        self._transport.resumeProducing()

    def lend(self) -> None:
        """
        It has it already.
        """

    take_back = close = lend


def make_inlet(
    epoll: Epoll,
    transport: ITransport,
    receive: Callable[[bytes], None],
    ends: Callable[[], None],
    read_bytes: int,
) -> Inlet:
    """
    The quickest way in that C{transport} allows.

    @param receive: called with what was read.
    @param ends: called when nothing more will come, before the protocol hears
        it from the transport.
    @param read_bytes: the most that is read at a time.
    """
    if isinstance(transport, Connection) and not transport.TLS:
        handle = transport.getHandle()
        if isinstance(handle, socket.socket) and epoll.begin():
            return SocketInlet(epoll, transport, handle, receive, ends, read_bytes)
    return TransportInlet(transport)


class SocketInlet:
    """
    An L{Inlet} that reads the socket itself.
    """

    __slots__ = (
        "_descriptor",
        "_ends",
        "_epoll",
        "_lent",
        "_open",
        "_paused",
        "_read_bytes",
        "_receive",
        "_recv",
        "_transport",
        "_watched",
    )

    def __init__(
        self,
        epoll: Epoll,
        transport: Connection,
        handle: socket.socket,
        receive: Callable[[bytes], None],
        ends: Callable[[], None],
        read_bytes: int,
    ) -> None:
        self._epoll = epoll
        self._transport = transport
        self._descriptor = handle.fileno()
        self._recv = handle.recv
        self._receive = receive
        self._ends = ends
        self._read_bytes = read_bytes
        self._open = True
        self._lent = self._paused = self._watched = False
        self.take_back()

    def read(self) -> None:
        """
        There is something to read.
        """
        try:
            data = self._recv(self._read_bytes)
        except BlockingIOError:
            return
        except OSError:
            # The system says it once; so this is what the reactor would do.
            self.lost(Failure(ConnectionLost()))
            return
        if data:
            self._receive(data)
        else:
            self.close()
            self._ends()
            # It reads the same again, and says what it means.
            self._transport.resumeProducing()

    def pause(self) -> None:
        """
        See L{Inlet.pause}.
        """
        self._paused = True
        if self._lent:
            self._transport.pauseProducing()
        self._watch()

    def resume(self) -> None:
        """
        See L{Inlet.resume}.
        """
        self._paused = False
        if self._lent:
            self._transport.resumeProducing()
        self._watch()

    def lend(self) -> None:
        """
        See L{Inlet.lend}.
        """
        self._lent = True
        self._watch()
        if not self._paused:
            self._transport.resumeProducing()

    def take_back(self) -> None:
        """
        See L{Inlet.lend}.
        """
        self._lent = False
        if self._open:
            self._transport.pauseProducing()
        self._watch()

    def close(self) -> None:
        """
        See L{Inlet.close}.
        """
        if self._open:
            self._open = False
            self._watch()
            self._epoll.end()

    def _watch(self) -> None:
        watched = self._open and not self._lent and not self._paused
        if watched != self._watched:
            self._watched = watched
            if watched:
                self._epoll.watch(self._descriptor, self)
            else:
                # By its number, before that can be another's.
                self._epoll.forget(self._descriptor)

    def cut(self) -> None:
        """
        Give the connection up.
        """
        self.close()
        self._transport.abortConnection()

    def lost(self, reason: Failure) -> None:
        """
        The connection is gone.
        """
        self.close()
        self._ends()
        self._transport.connectionLost(reason)
