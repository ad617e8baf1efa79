"""
Reading what engines send.

The reactor makes some ten calls for every read that it finds possible: it looks
the connection up, sets a logging context, checks that the descriptor is valid,
asks a transport, which asks a protocol.  For tokens, which come one to a read,
that is a fifth of their price.  So the connections to engines are watched by an
C{epoll} of our own, which the reactor watches as one descriptor; what is found
there is read in one loop and handed over directly.

Only the reading of bytes is taken over.  Connecting, closing and noticing an end
stay with Twisted's transport: when a read says that nothing more will come, that
is left to it again.  Transports that are no plain sockets, and
systems without C{epoll}, take the ordinary way, L{TransportInlet}.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor, ITransport
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

#: How many connections are read before the reactor has its turn.
_AT_ONCE = 256


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


@implementer(IReadDescriptor)
class Inlets:
    """
    All connections that are read directly, as one descriptor for the reactor.
    It is open while there is any of them, paused or not.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFDSet) -> None:
        self._reactor = reactor
        self._poll: select.epoll | None = None
        self._inlets: dict[int, SocketInlet] = {}
        self._open = 0

    def __len__(self) -> int:
        """
        How many connections are read.
        """
        return len(self._inlets)

    def make(
        self,
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
            if isinstance(handle, socket.socket) and self._begin():
                return SocketInlet(self, transport, handle, receive, ends, read_bytes)
        return TransportInlet(transport)

    def _begin(self) -> bool:
        """
        One more is to be read, if the system lets us.
        """
        if self._poll is None:
            try:
                self._poll = select.epoll()
            except (AttributeError, OSError):
                # It has no such thing, or no descriptor left.
                return False
            self._reactor.addReader(self)
        self._open += 1
        return True

    def end(self) -> None:
        """
        One less is to be read.
        """
        self._open -= 1
        if not self._open and self._poll is not None:
            self._reactor.removeReader(self)
            self._poll.close()
            self._poll = None

    def watch(self, descriptor: int, inlet: SocketInlet) -> None:
        """
        Tell an inlet when there is something to read.
        """
        assert self._poll is not None
        self._inlets[descriptor] = inlet
        self._poll.register(descriptor, select.EPOLLIN)

    def forget(self, descriptor: int) -> None:
        """
        The contrary of L{watch}.  Watching it for nothing would not do: C{epoll}
        tells of an end without being asked, again and again.
        """
        assert self._poll is not None
        del self._inlets[descriptor]
        self._poll.unregister(descriptor)

    # -- what the reactor asks of a descriptor

    def fileno(self) -> int:
        """
        The descriptor that is readable when any connection is.
        """
        return -1 if self._poll is None else self._poll.fileno()

    def logPrefix(self) -> str:
        """
        For Twisted's own log.
        """
        return "engine"

    def doRead(self) -> None:
        """
        Read all that can be read.
        """
        if self._poll is None:
            return
        inlets = self._inlets
        for descriptor, _ in self._poll.poll(0, _AT_ONCE):
            # One that was read before may have ended it.
            inlet = inlets.get(descriptor)
            if inlet is not None:
                try:
                    inlet.read()
                except Exception:
                    # As the reactor does it: a defect costs that connection only.
                    self._log.failure("While reading from an engine")
                    inlet.cut()

    def connectionLost(self, reason: Failure) -> None:
        """
        Our own descriptor cannot be lost.
        """


class SocketInlet:
    """
    An L{Inlet} that reads the socket itself.
    """

    __slots__ = (
        "_descriptor",
        "_ends",
        "_inlets",
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
        inlets: Inlets,
        transport: Connection,
        handle: socket.socket,
        receive: Callable[[bytes], None],
        ends: Callable[[], None],
        read_bytes: int,
    ) -> None:
        self._inlets = inlets
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
            self.close()
            self._ends()
            # The system says it once; so this is what the reactor would do.
            self._transport.connectionLost(Failure(ConnectionLost()))
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
            self._inlets.end()

    def _watch(self) -> None:
        watched = self._open and not self._lent and not self._paused
        if watched != self._watched:
            self._watched = watched
            if watched:
                self._inlets.watch(self._descriptor, self)
            else:
                # By its number, before that can be another's.
                self._inlets.forget(self._descriptor)

    def cut(self) -> None:
        """
        Give the connection up.
        """
        self.close()
        self._transport.abortConnection()
