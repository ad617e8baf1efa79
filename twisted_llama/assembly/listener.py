"""
Listening, and saying plainly when that is not possible.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorFDSet
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_llama.assembly.door import FOR_FILES, Door
from twisted_llama.assembly.open_files import file_limit
from twisted_llama.errors import StartupError
from twisted_llama.http.accepted import read_directly
from twisted_llama.http.epoll import Epoll

#: How many connections the kernel may hold for us while we are busy.
BACKLOG = 4096
#: How much the kernel takes of an answer beyond what is on its way to the client.
UNSENT_BYTES = 131072


def tcp_description(host: str, port: int) -> str:
    """
    The endpoint description for a port of this machine.
    """
    kind = "tcp6" if ":" in host else "tcp"
    return f"{kind}:{port}:interface={quoteStringArgument(host)}:backlog={BACKLOG}"


def prepare(listening: socket.socket) -> None:
    """
    Set on the socket of a port what its connections inherit: to send without
    waiting for more, and to keep little in the kernel that is not on its way.

    Left alone, the kernel takes some megabytes for every client that does not
    read: a thousand of them could use up what it has for all connections.  It
    also reports no progress before a third of that got through, which a slow
    reader may not manage in C{CLIENT_WRITE_TIMEOUT}.

    @param listening: nothing is set on it unless it is of TCP.
    """
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        listening.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)


class Listener(Service):
    """
    One port with its factory.

    It differs from C{StreamServerEndpointService} in what it says of a port
    that cannot be had: which setting asked for it.

    @ivar port: the port, once it listens.
    """

    log = Logger()
    port: IListeningPort | None = None
    _door: Door | None = None

    def __init__(
        self,
        reactor: object,
        description: str,
        factory: IProtocolFactory,
        setting: str,
        epoll: Epoll | None = None,
    ) -> None:
        """
        @param description: a server endpoint's.
        @param setting: name and value of what asked for it, for messages.
        @param epoll: what its connections are read through, if not the reactor.

        @raise StartupError: if the description is none.
        """
        try:
            self._endpoint = serverFromString(reactor, description)
        except Exception as error:
            # Endpoint parsers are plugins and raise what they like.
            raise StartupError(f"{setting} is not an endpoint to listen on: {error}") from error
        self._reactor = reactor
        self._factory = factory
        self._setting = setting
        self._epoll = epoll
        self._kept: Callable[[], int] = lambda: FOR_FILES
        self._spare = file_limit

    def keep_descriptors(
        self, kept: Callable[[], int], spare: Callable[[], int] = file_limit
    ) -> None:
        """
        Let no client in unless so many more file descriptors are left for others.

        @param kept: asked again for every client.
        @param spare: how many more clients there may be, whatever is left; likewise.
        """
        self._kept = kept
        self._spare = spare

    def privilegedStartService(self) -> None:
        """
        Listen.

        @raise StartupError: if that is not possible.
        """
        failures: list[Failure] = []
        listening = self._endpoint.listen(self._factory)
        listening.addCallbacks(self._listens, failures.append)
        if failures:
            failure = failures[0]
            reason = failure.getErrorMessage()
            if isinstance(failure.value, CannotListenError):
                reason = getattr(failure.value.socketError, "strerror", None) or reason
            raise StartupError(
                f"{self._setting}: cannot listen there ({reason}). Stop the program that uses it, "
                "or choose another port."
            )

    def _listens(self, port: IListeningPort) -> None:
        self.port = port
        if isinstance(port, Port):
            prepare(port.socket)
        # Endpoints of other makes may give a port of their own, which accepts as it likes.
        if isinstance(port, Port) and IReactorFDSet.providedBy(self._reactor):
            self._door = Door(
                self._reactor, port, lambda: self._kept(), lambda: self._spare(), self._setting
            )
            if self._epoll is not None:
                read_directly(port, self._epoll)
        self.log.info(
            "{setting}: listening on {address}", setting=self._setting, address=self.where
        )

    @property
    def where(self) -> str:
        """
        The address that can be reached, in words.
        """
        if self.port is None:
            return "nowhere"
        address = self.port.getHost()
        host, number = getattr(address, "host", None), getattr(address, "port", None)
        return f"{host}:{number}" if host is not None else str(getattr(address, "name", address))

    def stopService(self) -> Deferred[None]:
        """
        Listen no more.
        """
        super().stopService()
        port, self.port = self.port, None
        door, self._door = self._door, None
        if door is not None:
            door.close()
            # Who the kernel has let in already shall get an answer, not a reset.
            door.let_in(BACKLOG)
        stopping = None if port is None else port.stopListening()
        return stopping if isinstance(stopping, Deferred) else succeed(None)
