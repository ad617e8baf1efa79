"""
Writing to a client or to the engine soon, and knowing when it got through.

C{ITransport.write} puts bytes aside and asks the reactor to send them when the
socket is writable: two calls of C{epoll_ctl} for every token.  Nearly always
the socket could have taken them right away.  So L{SocketOutlet} tries the
socket first, as the reactor itself would do an instant later, and hands only
what is left to the transport.  That needs a transport that is a plain socket;
TLS, wrapped and in-memory transports take the ordinary way, L{TransportOutlet}.

All that is written in one turn of the reactor is sent at its end, see
L{twisted_llama.http.turn.Turn}.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import (
    IPullProducer,
    IPushProducer,
    ISSLTransport,
    ITransport,
)
from twisted.internet.tcp import Connection
from zope.interface import implementer

from twisted_llama.http.turn import Turn

#: More than this is not kept for the end of the turn.
SOON_BYTES = 16384
#: What is handed to the transport at a time while a peer is slow.  Each piece
#: that gets through counts as progress of that peer.
PIECE_BYTES = 16384
#: That something follows at once, where the system can be told so.
_MORE = getattr(socket, "MSG_MORE", 0)


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

    def flush(self) -> bool:
        """
        Send what was written in this turn now, not at its end.

        @return: as L{write}.
        """

    def close(self) -> None:
        """
        Say that nothing follows, as soon as all that was written got through.
        The peer is expected to close its side; who closes must see to it that
        a peer that does not is cut off.
        """

    def half_close(self) -> None:
        """
        The same, but let the peer finish what it is sending: to stop reading at
        once could destroy the last answer on its way.
        """

    def lost(self) -> None:
        """
        The connection is gone, and with it what was kept.  Who was told of
        blocking is let go: a connection that ends leaves no cycle behind for
        the garbage collector.
        """


def _nobody() -> None:
    """
    Who is told when the connection is gone.
    """


def make_outlet(
    transport: ITransport,
    turn: Turn,
    on_blocked: Callable[[], None],
    on_drained: Callable[[], None],
) -> Outlet:
    """
    The quickest way out that C{transport} allows.

    @param on_blocked: called whenever the peer no longer takes everything.
    @param on_drained: called whenever a blocked peer has taken everything.
    """
    # Only Twisted's own TCP and UNIX connections without TLS send the bytes
    # they are given as they are.
    if isinstance(transport, Connection) and not transport.TLS:
        handle = transport.getHandle()
        if isinstance(handle, socket.socket):
            return SocketOutlet(transport, handle, turn, on_blocked, on_drained)
    return TransportOutlet(transport, on_blocked, on_drained)


@implementer(IPullProducer)
class SocketOutlet:
    """
    An L{Outlet} that tries the socket before it troubles the reactor.
    """

    __slots__ = (
        "_ending",
        "_on_blocked",
        "_on_drained",
        "_pending",
        "_send",
        "_shutdown",
        "_soon",
        "_transport",
        "_turn",
        "blocked",
        "progress",
    )

    def __init__(
        self,
        transport: ITransport,
        handle: socket.socket,
        turn: Turn,
        on_blocked: Callable[[], None],
        on_drained: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._send = handle.send
        self._shutdown = handle.shutdown
        self._turn = turn
        self._on_blocked = on_blocked
        self._on_drained = on_drained
        self._soon = b""
        self._pending: deque[bytes] | None = None
        self._ending = False
        self.blocked = False
        self.progress = 0

    def write(self, data: bytes) -> bool:
        """
        See L{Outlet.write}.
        """
        if self.blocked:
            self._keep(data)
            return False
        soon = self._soon
        if soon:
            data = soon + data
        elif len(data) < SOON_BYTES:
            self._turn.add(self)
        self._soon = data
        return len(data) < SOON_BYTES or self.flush()

    def flush(self) -> bool:
        """
        See L{Outlet.flush}.
        """
        data, self._soon = self._soon, b""
        if not data:
            return not self.blocked
        try:
            # The end goes with the last bytes, so that who reads is woken up once.
            sent = self._send(data, _MORE) if self._ending else self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The connection is gone; the reactor is about to say so.
            return True
        if sent == len(data):
            if self._ending:
                self._end()
            return True
        self.blocked = True
        self._pending = deque()
        self._keep(data[sent:])
        self._on_blocked()
        # A pull producer is asked for more whenever the transport has sent
        # all it was given, and once right now.
        self._transport.registerProducer(self, False)  # type: ignore[attr-defined]  # IConsumer
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
        if self._ending:
            self._end()
        self._on_drained()

    def stopProducing(self) -> None:
        """
        The connection is gone, and with it what was kept.
        """
        self._pending = None
        self._soon = b""

    def close(self) -> None:
        """
        See L{Outlet.close}.
        """
        # What is pending goes on in pieces, so that its progress can be seen.
        if self.blocked or self._soon:
            self._ending = True
        else:
            self._end()

    half_close = close

    def lost(self) -> None:
        """
        See L{Outlet.lost}.
        """
        self.stopProducing()
        self._on_blocked = self._on_drained = _nobody

    def _end(self) -> None:
        # The transport would ask the reactor first, twice.  It closes the socket
        # when the peer has closed its side too, or is told to.
        try:  # noqa: SIM105  # many have gone first, and a context costs more than this
            self._shutdown(socket.SHUT_WR)
        except OSError:
            pass


@implementer(IPushProducer)
class TransportOutlet:
    """
    An L{Outlet} that leaves everything to the transport.
    """

    __slots__ = ("_end", "_on_blocked", "_on_drained", "_transport", "blocked", "progress")

    def __init__(
        self,
        transport: ITransport,
        on_blocked: Callable[[], None],
        on_drained: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._on_blocked = on_blocked
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

    def flush(self) -> bool:
        """
        See L{Outlet.flush}; the transport has it all.
        """
        return not self.blocked

    def pauseProducing(self) -> None:
        """
        The transport's buffer is full.
        """
        if not self.blocked:
            self.blocked = True
            self._on_blocked()

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

    def lost(self) -> None:
        """
        See L{Outlet.lost}.
        """
        self._end = None
        self._on_blocked = self._on_drained = _nobody

    def _end_by(self, end: Callable[[], None]) -> None:
        if self.blocked:
            self._end = end
        else:
            self._transport.unregisterProducer()  # type: ignore[attr-defined]  # IConsumer
            end()
