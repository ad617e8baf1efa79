"""
Who is let in while descriptors are scarce.
"""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Callable, Iterator

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Port
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from twisted_llama.assembly import door as door_module
from twisted_llama.assembly.door import (
    LOOK_SECONDS,
    WARNING_SECONDS,
    Door,
    kept_for_engine,
    next_descriptor,
)
from twisted_llama.assembly.listener import Listener, tcp_description
from twisted_llama.assembly.open_files import file_limit

LIMIT = 100
KEPT = 40


class Watching(Clock):
    """
    A reactor of which the test itself is the loop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []

    def addReader(self, reader: object) -> None:
        """
        Watch one.
        """
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        """
        Watch one no more.
        """
        if reader in self.readers:
            self.readers.remove(reader)

    # A connection of this reactor is closed in its next turn, which is never.
    addWriter = removeWriter = addReader


class World:
    """
    A port, its door, and clients.

    @ivar most: how many clients there may be.
    @ivar next: the number of the next descriptor, or why there is none; each
        client that is let in takes one.
    """

    def __init__(self) -> None:
        self.next: int | OSError = LIMIT - KEPT - 2
        self.inside: list[Protocol] = []
        self.events: list[LogEvent] = []
        self.reactor = Watching()
        self.port = Port(0, Factory.forProtocol(Protocol), 200, "127.0.0.1")
        self.port.factory.buildProtocol = self.build  # type: ignore[union-attr,method-assign]  # a Factory
        self.port.reactor = self.reactor
        self.port.startListening()
        self.most = LIMIT
        self.door = Door(
            self.reactor,
            self.port,
            lambda: KEPT,
            lambda: self.most - len(self.inside),
            "PORT=1",
        )
        self.clients: list[socket.socket] = []

    def build(self, addr: object) -> Protocol:
        """
        Somebody is let in.
        """
        protocol = Protocol()
        self.inside.append(protocol)
        if isinstance(self.next, int):
            self.next += 1
        return protocol

    def next_descriptor(self) -> int:
        """
        In place of the kernel's.
        """
        if isinstance(self.next, OSError):
            raise self.next
        return self.next

    def come(self, count: int) -> None:
        """
        Clients connect.
        """
        for _ in range(count):
            self.clients.append(socket.create_connection(("127.0.0.1", self.port.getHost().port)))

    @property
    def watched(self) -> bool:
        """
        Whether the loop looks at the door.
        """
        return self.door in self.reactor.readers

    def turn(self) -> None:
        """
        One turn of the loop.
        """
        if self.watched:
            self.door.doRead()

    def close(self) -> None:
        """
        Leave nothing open.
        """
        self.door.close()
        for client in self.clients:
            client.close()
        for protocol in self.inside:
            assert protocol.transport is not None
            protocol.transport.getHandle().close()  # type: ignore[attr-defined]  # ISystemHandle
        self.port.socket.close()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """
    Room for two.
    """
    world = World()
    monkeypatch.setattr(door_module, "next_descriptor", world.next_descriptor)
    monkeypatch.setattr(door_module, "file_limit", lambda: LIMIT)

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace", "").endswith("Door"):
            world.events.append(event)

    globalLogPublisher.addObserver(observe)
    yield world
    globalLogPublisher.removeObserver(observe)
    world.close()


def test_the_reactor_watches_the_door_and_not_the_port(world: World) -> None:
    """With the descriptor of the port."""
    assert world.reactor.readers == [world.door]
    assert world.door.fileno() == world.port.fileno()
    assert world.door.logPrefix() == world.port.logPrefix()


def test_all_who_wait_are_let_in_at_once(world: World) -> None:
    """While there is room."""
    world.next = 10
    world.come(7)
    world.turn()
    assert len(world.inside) == 7
    assert not world.door.paused
    world.turn()
    assert len(world.inside) == 7


def test_what_is_kept_is_not_given_to_clients(world: World) -> None:
    """Who comes later waits outside, and nothing is done for as long as nobody leaves."""
    world.come(5)
    world.turn()
    assert len(world.inside) == 2
    assert world.door.paused
    for _ in range(40):
        assert not world.watched
        world.reactor.advance(LOOK_SECONDS)
    assert len(world.inside) == 2
    world.next = LIMIT - KEPT - 1
    world.reactor.advance(LOOK_SECONDS)
    assert not world.door.paused
    world.turn()
    assert len(world.inside) == 3
    world.next = 10
    world.reactor.advance(LOOK_SECONDS)
    world.turn()
    assert len(world.inside) == 5


@pytest.mark.parametrize("limit", [LIMIT, 10000])
def test_no_more_clients_than_there_may_be(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Whatever number the next one would get, and however much room there is."""
    monkeypatch.setattr(door_module, "file_limit", lambda: limit)
    world.most = 3
    world.next = 10
    world.come(3)
    world.turn()
    assert len(world.inside) == 3
    world.come(2)
    world.turn()
    assert len(world.inside) == 3
    assert world.door.paused
    world.most = 4
    world.reactor.advance(LOOK_SECONDS)
    world.turn()
    assert len(world.inside) == 4
    assert world.door.paused


def test_one_line_a_minute(world: World) -> None:
    """However often it begins again."""
    world.come(60)
    for _ in range(30):
        world.next = LIMIT - KEPT - 1
        world.reactor.advance(LOOK_SECONDS)
        world.turn()
    assert len(world.inside) == 30
    assert len(world.events) == 1
    text = world.events[0]["log_format"].format(**world.events[0])
    assert text.startswith("PORT=1: file descriptors are used up (all but those kept")
    world.reactor.advance(WARNING_SECONDS)
    assert len(world.events) == 2


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_none_at_all(world: World, number: int) -> None:
    """Neither for this process nor in the whole system: the port is not asked."""
    world.next = OSError(number, "Too many")
    world.come(3)
    world.turn()
    assert world.inside == []
    assert world.door.paused
    assert "Too many" in world.events[0]["reason"]


@pytest.mark.parametrize("end", [Door.close, lambda door: door.connectionLost(Failure(OSError()))])
def test_closed(world: World, end: Callable[[Door], None]) -> None:
    """Nothing is watched or waited for."""
    world.come(3)
    world.turn()
    assert world.door.paused
    end(world.door)
    assert not world.watched
    assert world.reactor.getDelayedCalls() == []


def test_the_numbers_of_this_process() -> None:
    """Each descriptor takes the lowest that is free."""
    first = next_descriptor()
    with open("/dev/null"):
        assert next_descriptor() > first
    assert next_descriptor() == first
    assert file_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is a large one."""
    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: infinite)
    assert file_limit() > 1_000_000


def test_what_is_kept_for_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection for every request under way, and for every client one at most."""
    monkeypatch.setattr(door_module, "file_limit", lambda: LIMIT)
    assert kept_for_engine(8) == 8
    assert kept_for_engine(20000) == LIMIT // 2


def test_a_listener_keeps_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And at its end lets in those who wait, as far as there is room."""
    kept = [file_limit()]
    factory = Factory.forProtocol(Protocol)
    inside: list[Protocol] = []

    def build(addr: object) -> Protocol:
        inside.append(Protocol())
        return inside[-1]

    factory.buildProtocol = build  # type: ignore[method-assign]  # counts
    listener = Listener(reactor, tcp_description("127.0.0.1", 0), factory, "PORT=0")
    listener.keep_descriptors(lambda: kept[0])
    listener.privilegedStartService()
    door, port = listener._door, listener.port
    assert door is not None
    assert port is not None
    address = ("127.0.0.1", port.getHost().port)
    with socket.create_connection(address), socket.create_connection(address):
        door.doRead()
        assert inside == []
        assert door.paused
        kept[0] = 0
        listener.stopService()
        assert len(inside) == 2
        for protocol in inside:
            assert protocol.transport is not None
            protocol.transport.abortConnection()  # type: ignore[attr-defined]  # ITCPTransport
