"""
Writing to a client or to the engine at once, and knowing when it got through.

C{ITransport.write} puts bytes aside and asks the reactor to send them when the
socket is writable: two calls of C{epoll_ctl} for every token.  Nearly always
the socket could have taken them right away.  So L{SocketOutlet} tries the
socket first, as the reactor itself would do an instant later, and hands only
what is left to the transport.  That needs a transport that is a plain socket;
TLS, wrapped and in-memory transports take the ordinary way, L{TransportOutlet}.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IPullProducer, IPushProducer, ISSLTransport, ITransport
from twisted.internet.tcp import Connection
from zope.interface import implementer

#: What is handed to the transport at a time while a peer is slow.  Each piece
#: that gets through counts as progress of that peer.
PIECE_BYTES = 16384


class Outlet(Protocol):
    """
    The way out of one connection.

    @ivar blocked: whether the peer has to take what it was sent already,
        before it should be sent more.
    @ivar progress: changes whenever a blocked peer has taken something.
    """

    blocked: bool
    progress: int

    def write(self, data: bytes) -> bool:
        """
        Send C{data}; what the peer does not take now is kept.

        @return: whether more may be written; if not, the caller is to stop
            until it is told that everything got through.
        """

    def close(self) -> None:
        """
        Close the connection as soon as all that was written got through.
        """

    def half_close(self) -> None:
        """
        Say that nothing follows, but let the peer finish what it is sending:
        closing at once could destroy the last answer on its way.
        """


def make_outlet(transport: ITransport, on_drained: Callable[[], None]) -> Outlet:
    """
    The quickest way out that C{transport} allows.

    @param on_drained: called whenever a blocked peer has taken everything.
    """
    # Only Twisted's own TCP and UNIX connections without TLS send the bytes
    # they are given as they are.
    if isinstance(transport, Connection) and not transport.TLS:
        handle = transport.getHandle()
        if isinstance(handle, socket.socket):
            return SocketOutlet(transport, handle, on_drained)
    return TransportOutlet(transport, on_drained)


@implementer(IPullProducer)
class SocketOutlet:
    """
    An L{Outlet} that tries the socket before it troubles the reactor.
    """

    __slots__ = (
        "_end",
        "_on_drained",
        "_pending",
        "_send",
        "_transport",
        "blocked",
        "progress",
    )

    def __init__(
        self, transport: ITransport, handle: socket.socket, on_drained: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._send = handle.send
        self._on_drained = on_drained
        self._pending: deque[bytes] | None = None
        self._end: Callable[[], None] | None = None
        self.blocked = False
        self.progress = 0

    def write(self, data: bytes) -> bool:
        """
        See L{Outlet.write}.
        """
        if not self.blocked:
            try:
                sent = self._send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                # The connection is gone; the reactor is about to say so.
                return True
            if sent == len(data):
                return True
            self.blocked = True
            self._pending = deque()
            self._keep(data[sent:])
            # A pull producer is asked for more whenever the transport has sent
            # all it was given, and once right now.
            self._transport.registerProducer(self, False)  # type: ignore[attr-defined]  # IConsumer
            return False
        self._keep(data)
        return False

    def _keep(self, data: bytes) -> None:
        if self._pending is not None:
            self._pending.extend(
                data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)
            )

    def resumeProducing(self) -> None:
        """
        The transport has sent what it was given: here is the next piece.
        """
        if self._pending is None:
            return
        self.progress += 1
        if self._pending:
            self._transport.write(self._pending.popleft())
            return
        self._pending = None
        self.blocked = False
        self._transport.unregisterProducer()  # type: ignore[attr-defined]  # IConsumer
        if self._end is not None:
            self._end()
        self._on_drained()

    def stopProducing(self) -> None:
        """
        The connection is gone, and with it what was kept.
        """
        self._pending = None

    def close(self) -> None:
        """
        See L{Outlet.close}.
        """
        self._end_by(self._transport.loseConnection)

    def half_close(self) -> None:
        """
        See L{Outlet.half_close}.
        """
        self._end_by(self._transport.loseWriteConnection)  # type: ignore[attr-defined]  # ITCPTransport

    def _end_by(self, end: Callable[[], None]) -> None:
        # What is pending goes on in pieces, so that its progress can be seen.
        if self.blocked:
            self._end = end
        else:
            end()


@implementer(IPushProducer)
class TransportOutlet:
    """
    An L{Outlet} that leaves everything to the transport.
    """

    __slots__ = ("_end", "_on_drained", "_transport", "blocked", "progress")

    def __init__(self, transport: ITransport, on_drained: Callable[[], None]) -> None:
        self._transport = transport
        self._on_drained = on_drained
        self._end: Callable[[], None] | None = None
        self.blocked = False
        self.progress = 0
        transport.registerProducer(self, True)  # type: ignore[attr-defined]  # IConsumer

    def write(self, data: bytes) -> bool:
        """
        See L{Outlet.write}.
        """
        self._transport.write(data)
        return not self.blocked

    def pauseProducing(self) -> None:
        """
        The transport's buffer is full.
        """
        self.blocked = True

    def resumeProducing(self) -> None:
        """
        The transport's buffer is empty.
        """
        if self.blocked:
            self.blocked = False
            self.progress += 1
            if self._end is not None:
                self._end_by(self._end)
            self._on_drained()

    def stopProducing(self) -> None:
        """
        The connection is gone; its protocol is told by C{connectionLost}.
        """

    def close(self) -> None:
        """
        See L{Outlet.close}.
        """
        self._end_by(self._transport.loseConnection)

    def half_close(self) -> None:
        """
        See L{Outlet.half_close}.
        """
        end = self._transport.loseConnection
        if not ISSLTransport.providedBy(self._transport):
            # TLS says goodbye and goes on reading until the peer has said it too.
            end = getattr(self._transport, "loseWriteConnection", end)
        self._end_by(end)

    def _end_by(self, end: Callable[[], None]) -> None:
        if self.blocked:
            self._end = end
        else:
            self._transport.unregisterProducer()  # type: ignore[attr-defined]  # IConsumer
            end()
