"""
Listening, and what is said when that is not possible.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactor

from tests.conftest import Require
from twisted_llama.assembly.listener import BACKLOG, UNSENT_BYTES, Listener, tcp_description
from twisted_llama.errors import StartupError


class FullReactor(MemoryReactor):
    """
    One on which nothing can listen.
    """

    def listenTCP(self, port: int, *args: object, **named: object) -> None:  # type: ignore[override]
        raise CannotListenError(
            "0.0.0.0", port, OSError(errno.EADDRINUSE, "Address already in use")
        )


@pytest.mark.parametrize(
    ("host", "port", "description"),
    [
        ("0.0.0.0", 8000, r"tcp:8000:interface=0.0.0.0:backlog=4096"),
        ("127.0.0.1", 0, r"tcp:0:interface=127.0.0.1:backlog=4096"),
        ("::1", 8000, r"tcp6:8000:interface=\:\:1:backlog=4096"),
    ],
)
def test_description(host: str, port: int, description: str) -> None:
    """
    Of a port of this machine.
    """
    assert tcp_description(host, port) == description


def test_listens() -> None:
    """
    Where it is told to, with a long queue in the kernel.
    """
    world, factory = MemoryReactor(), Factory()
    listener = Listener(world, tcp_description("127.0.0.1", 8000), factory, "PORT=8000")
    assert world.tcpServers == []
    assert listener.where == "nowhere"
    listener.privilegedStartService()
    assert world.tcpServers == [(8000, factory, BACKLOG, "127.0.0.1")]
    assert listener.where == "0.0.0.0:8000"


def test_stops() -> None:
    """
    Whether it has begun or not.
    """
    listener = Listener(MemoryReactor(), "tcp:8000", Factory(), "PORT=8000")
    assert listener.stopService().called
    listener.privilegedStartService()
    listener.stopService()
    assert listener.port is None


def test_a_taken_port_is_named() -> None:
    """
    The setting, its value, and what to do.
    """
    listener = Listener(FullReactor(), "tcp:8000", Factory(), "PORT=8000")
    with pytest.raises(StartupError) as caught:
        listener.privilegedStartService()
    message = str(caught.value)
    assert message.startswith("PORT=8000: ")
    assert "Address already in use" in message
    assert "choose another port" in message
    assert "\n" not in message


@pytest.mark.parametrize("description", ["nonsense:1", "tcp:x", "tcp", "", "ssl:1:privateKey=/no"])
def test_what_is_no_endpoint(description: str) -> None:
    """
    Known before anything is started.
    """
    with pytest.raises(StartupError, match=r"^GATEWAY_ENDPOINT=x is not an endpoint"):
        Listener(reactor, description, Factory(), "GATEWAY_ENDPOINT=x")


@pytest_twisted.ensureDeferred
async def test_a_socket_of_the_file_system(tmp_path: Path) -> None:
    """
    Its path is where it is.
    """
    path = tmp_path / "gateway.sock"
    listener = Listener(reactor, f"unix:{path}", Factory(), "GATEWAY_ENDPOINT=…")
    listener.privilegedStartService()
    assert str(path) in listener.where
    assert path.is_socket()
    await listener.stopService()
    assert not path.exists()


def test_a_failure_without_an_error_of_the_system(tmp_path: Path) -> None:
    """
    Whatever it is, it is told.
    """
    listener = Listener(reactor, f"unix:{tmp_path}/no/such/folder", Factory(), "GATEWAY_ENDPOINT=x")
    with pytest.raises(StartupError, match="GATEWAY_ENDPOINT=x: cannot listen there"):
        listener.privilegedStartService()


@pytest_twisted.ensureDeferred
async def test_clients_that_do_not_read_cost_the_kernel_little(require: Require) -> None:
    """
    Every connection inherits the bound, set once.
    """
    require(hasattr(socket, "TCP_NOTSENT_LOWAT"), "the kernel here has no TCP_NOTSENT_LOWAT")
    accepted: Deferred[int] = Deferred()

    class Looking(Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            handle = self.transport.getHandle()  # type: ignore[attr-defined]  # ISystemHandle
            accepted.callback(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT))
            self.transport.abortConnection()  # type: ignore[attr-defined]  # ITCPTransport

    listener = Listener(
        reactor, tcp_description("127.0.0.1", 0), Factory.forProtocol(Looking), "PORT=0"
    )
    listener.privilegedStartService()
    assert listener.port is not None
    with socket.create_connection(("127.0.0.1", listener.port.getHost().port)):
        assert await accepted == UNSENT_BYTES
    await listener.stopService()
