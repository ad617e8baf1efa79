"""
The factory of the gateway's channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from typing import Protocol as TypingProtocol

from attrs import field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Protocol
from twisted.web.http import Request, datetimeToString
from twisted.web.resource import IResource
from twisted.web.server import Site

from twisted_llama.errors import GatewayError
from twisted_llama.http.channel import LEAVE_SECONDS, GatewayChannel
from twisted_llama.http.deadlines import Deadlines
from twisted_llama.http.head_reader import HeadLimits
from twisted_llama.http.headers import Networks, trusts
from twisted_llama.http.request import GatewayRequest
from twisted_llama.http.turn import Turn


@frozen
class ClientLimits:
    """
    What a client may ask of the gateway, in bytes and seconds.

    @ivar trusted_proxies: whose connections are those of many clients, and so
        not counted as one's.
    """

    head: HeadLimits = field(factory=HeadLimits)
    max_body_bytes: int = 10485760
    header_timeout_seconds: float = 30.0
    body_timeout_seconds: float = 60.0
    write_timeout_seconds: float = 60.0
    keepalive_timeout_seconds: float = 75.0
    max_connections: int = 10000
    max_connections_per_address: int = 1000
    trusted_proxies: Networks = ()


@frozen
class ErrorAnswer:
    """
    An error as it is sent.

    @ivar close: whether the connection ends with it.
    """

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    close: bool


RequestT = TypeVar("RequestT", bound=GatewayRequest, contravariant=True)


class Watcher(TypingProtocol[RequestT]):
    """
    What the rest of the gateway does with requests as they come and go.
    """

    def begun(self, request: RequestT) -> None:
        """
        A request's head is there; its resource is looked for next.
        """

    def finished(self, request: RequestT, whole: bool) -> None:
        """
        A request is over.

        @param whole: whether its answer was written to the end.
        """

    def refused(self, error: GatewayError, peer: IAddress) -> None:
        """
        A client sent what is no request, and got an error.
        """

    def render_error(self, request: RequestT | None, error: BaseException) -> ErrorAnswer:
        """
        Put an error into the product's own form.
        """


class OneTooMany(Protocol):
    """
    A connection beyond the limits, closed as soon as it is there.  (C{None} in
    its place is not understood by the factories that wrap this one, such as
    that of TLS.)
    """

    def connectionMade(self) -> None:
        """
        Close.
        """
        assert self.transport is not None
        self.transport.loseConnection()


class GatewaySite(Site):
    """
    C{twisted.web.server.Site} with L{GatewayChannel}s.

    @ivar draining: whether connections end with the answer under way.
    @ivar channels: the connections that are open.
    """

    noisy = False
    # GatewayChannel stands where twisted.web's own channel stands, under the
    # same Site and Request, but is no subclass of it.
    requestFactory: Callable[[GatewayChannel], GatewayRequest]  # type: ignore[assignment]

    def __init__(
        self,
        resource: IResource,
        watcher: Watcher[Any],
        limits: ClientLimits,
        deadlines: Deadlines,
        turn: Turn,
        wall_clock: Callable[[], float],
        request_factory: Callable[[GatewayChannel], GatewayRequest] = GatewayRequest,
    ) -> None:
        """
        @param wall_clock: seconds since the epoch, for the C{Date} header.
        """
        super().__init__(resource, request_factory, reactor=deadlines.clock)
        self.limits = limits
        self.deadlines = deadlines
        self.turn = turn
        self.draining = False
        self.channels: set[GatewayChannel] = set()
        self.begun = watcher.begun
        self.finished = watcher.finished
        self.refused = watcher.refused
        self.render_error = watcher.render_error
        self._wall_clock = wall_clock
        self._date = (0, b"")
        self._open: dict[str, int] = {}
        self._leaving: IDelayedCall | None = None
        self._when_none: list[Deferred[None]] = []

    def buildProtocol(  # type: ignore[override]  # see requestFactory
        self, addr: IAddress | None
    ) -> GatewayChannel | OneTooMany:
        """
        Make the channel of a new connection, unless there are too many.
        """
        host = getattr(addr, "host", "")
        count = self._open.get(host, 0)
        if len(self.channels) >= self.limits.max_connections or (
            host
            and count >= self.limits.max_connections_per_address
            and not trusts(self.limits.trusted_proxies, host)
        ):
            return OneTooMany()
        return GatewayChannel(self, host, addr)

    def remember(self, channel: GatewayChannel) -> None:
        """
        A connection is there.  Not every one for which a channel was made comes to
        be: the system may run out of something in between.
        """
        self.channels.add(channel)
        host = channel.counted_as
        self._open[host] = self._open.get(host, 0) + 1

    def forget(self, channel: GatewayChannel) -> None:
        """
        A connection has ended.
        """
        self.channels.discard(channel)
        if not self.channels:
            if self._leaving is not None:
                self._leaving.cancel()
                self._leaving = None
            waiting, self._when_none = self._when_none, []
            for deferred in waiting:
                deferred.callback(None)
        host = channel.counted_as
        count = self._open.get(host, 0) - 1
        if count > 0:
            self._open[host] = count
        else:
            self._open.pop(host, None)

    def drain(self) -> None:
        """
        Close the connections that wait for a request, in a moment, and all
        others as soon as they have their answer.
        """
        self.draining = True
        self.close_idle_soon()

    def close_idle_soon(self) -> None:
        """
        Close the connections that wait for a request, in a moment.
        """
        if self.channels and self._leaving is None:
            self._leaving = self.deadlines.clock.callLater(LEAVE_SECONDS, self._close_idle)

    def _close_idle(self) -> None:
        self._leaving = None
        for channel in tuple(self.channels):
            channel.close_if_idle()

    def when_no_channels(self) -> Deferred[None]:
        """
        Fires when no connection is open.
        """
        if not self.channels:
            return succeed(None)
        none: Deferred[None] = Deferred(self._when_none.remove)
        self._when_none.append(none)
        return none

    def date_line(self) -> bytes:
        """
        The C{Date} header line of now.
        """
        second = int(self._wall_clock())
        if self._date[0] != second:
            self._date = (second, b"Date: %b\r\n" % datetimeToString(second))
        return self._date[1]

    def startFactory(self) -> None:
        """
        Nothing to open: the access log is written by those who watch.
        """

    def stopFactory(self) -> None:
        """
        Nothing to close.
        """

    def log(self, request: Request) -> None:
        """
        Nothing to write: see L{startFactory}.
        """
