"""
Reading sockets without the reactor's way to each of them.

The reactor makes some ten calls for every read that it finds possible: it looks
the connection up, sets a logging context, checks that the descriptor is valid,
asks a transport, which asks a protocol.  For tokens, which come one to a read,
that is a fifth of their price.  So sockets that are read often are watched by an
C{epoll} of our own, which the reactor watches as one descriptor, and whoever has
something to read there is asked directly, one after the other.
"""

from __future__ import annotations

import select
from typing import Protocol

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

#: How many are read before the reactor has its turn.
_AT_ONCE = 256


class Reader(Protocol):
    """
    Who reads a socket.
    """

    def read(self) -> None:
        """
        There is something to read, or an end.
        """

    def cut(self) -> None:
        """
        Give the connection up: to read it has failed in a way that it should not.
        """

    def lost(self, reason: Failure) -> None:
        """
        The reactor has ended.
        """


@implementer(IReadDescriptor)
class Epoll:
    """
    All sockets that are read directly, as one descriptor for the reactor.
    It is open while there is any of them, watched or not.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFDSet) -> None:
        self._reactor = reactor
        self._poll: select.epoll | None = None
        self._readers: dict[int, Reader] = {}
        self._open = 0

    def __len__(self) -> int:
        """
        How many sockets are watched.
        """
        return len(self._readers)

    def begin(self) -> bool:
        """
        One more socket is to be read here.

        @return: whether that is possible; if so, L{end} has to be called for it.
        """
        if self._poll is None:
            try:
                self._poll = select.epoll()
            except (AttributeError, OSError):
                # The system has no such thing, or no descriptor left.
                return False
            self._reactor.addReader(self)
        self._open += 1
        return True

    def end(self) -> None:
        """
        One less is to be read, and it is watched no more.
        """
        self._open -= 1
        if not self._open and self._poll is not None:
            self._reactor.removeReader(self)
            self._poll.close()
            self._poll = None

    def watch(self, descriptor: int, reader: Reader) -> None:
        """
        Tell C{reader} when there is something to read.

        @raise OSError: the system watches no more for this user.
        """
        assert self._poll is not None
        self._poll.register(descriptor, select.EPOLLIN)
        self._readers[descriptor] = reader

    def forget(self, descriptor: int) -> None:
        """
        The contrary of L{watch}.  Watching it for nothing would not do: C{epoll}
        tells of an end without being asked, again and again.
        """
        assert self._poll is not None
        del self._readers[descriptor]
        self._poll.unregister(descriptor)

    # -- what the reactor asks of a descriptor

    def fileno(self) -> int:
        """
        The descriptor that is readable when any socket is.
        """
        return -1 if self._poll is None else self._poll.fileno()

    def logPrefix(self) -> str:
        """
        For Twisted's own log.
        """
        return "epoll"

    def doRead(self) -> None:
        """
        Read all that can be read.
        """
        if self._poll is None:
            return
        readers = self._readers
        for descriptor, _ in self._poll.poll(0, _AT_ONCE):
            # One that was read before may have ended it.
            reader = readers.get(descriptor)
            if reader is not None:
                try:
                    reader.read()
                except Exception:
                    # As the reactor does it: a defect costs that connection only.
                    self._log.failure("While reading from a connection")
                    reader.cut()

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor has ended, and with it all that is read.
        """
        for reader in list(self._readers.values()):
            reader.lost(reason)
