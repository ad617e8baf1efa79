"""
A whole gateway in memory: the tree, its site and its gate as the assembly puts them together,
with clients on one side and a scripted engine on the other, and a clock that stands until a
test moves it.

Nothing here is delivered by itself.  A client's bytes reach the gateway when it L{sends
<Client.send>} them, the engine's when a test lets it L{answer <EngineEnd.answer>}; that a
connection was closed is told to its other end by L{World.settle}, as a reactor tells it in its
next turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionRefusedError, UserError
from twisted.internet.protocol import ClientFactory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from tests.api.ends import KEY, Client, EngineEnd
from tests.http.bench import NO_EPOLL
from twisted_llama.admission.gate import Gate
from twisted_llama.api.cors import Cors
from twisted_llama.api.guard import Guard
from twisted_llama.api.limiter import Limiter, Limits
from twisted_llama.api.passage import ServedEngine
from twisted_llama.api.passthrough import Passthrough
from twisted_llama.api.reload import ReloadPage
from twisted_llama.api.request import ApiRequest
from twisted_llama.api.running import RunningRequests
from twisted_llama.api.status import Health, HealthPage, MetricsPage, PingPage, ReadyPage
from twisted_llama.api.tree import Preflight, ProtectedTree, Root
from twisted_llama.api.watcher import RequestIds, RequestWatcher
from twisted_llama.auth.checkers import RefusedKey
from twisted_llama.auth.credentials import IApiKey
from twisted_llama.auth.guesses import Guesses
from twisted_llama.auth.realm import Principal
from twisted_llama.engine.status import EngineStatus
from twisted_llama.errors import ReloadFailed
from twisted_llama.http.deadlines import Deadlines
from twisted_llama.http.headers import Networks
from twisted_llama.http.pool import EnginePool
from twisted_llama.http.site import ClientLimits, GatewaySite
from twisted_llama.http.turn import Turn
from twisted_llama.limits.memory import MemoryLimits
from twisted_llama.telemetry.batch import ExchangeBatch
from twisted_llama.telemetry.exchange import Exchange
from twisted_llama.telemetry.metrics import Metrics

OTHER_KEY = b"sk-the-key-of-others"
EPOCH = 1_800_000_000.0
ENGINE_LINES = b"Host: 127.0.0.1:8080\r\nAuthorization: Bearer engine-key\r\n"
READY = EngineStatus("ready", "little.gguf", 77, 0, EPOCH - 60, slots=1)


class Keyring:
    """
    The keys in force; the place of the key file.

    @ivar problem: what the next reload fails with.
    """

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._principals: dict[bytes, Principal] = {}
        self.problem: ReloadFailed | None = None

    def __len__(self) -> int:
        return len(self._principals)

    def add(
        self,
        secret: bytes,
        key_id: str,
        requests_per_minute: int | None = None,
        expires: float | None = None,
    ) -> None:
        """
        Take a key into force.
        """
        digest = hashlib.sha256(secret).digest()
        self._principals[digest] = Principal(key_id, requests_per_minute, expires, digest)

    def remove(self, secret: bytes) -> None:
        """
        Take a key out of force; requests that run are ended by a reload only.
        """
        del self._principals[hashlib.sha256(secret).digest()]

    def login(self, credentials: IApiKey) -> Principal:
        """
        See L{twisted_llama.auth.login.Login}.
        """
        principal = self._principals.get(credentials.digest)
        if principal is None:
            raise RefusedKey("unknown" if self._principals else "no_keys")
        if principal.expires is not None and principal.expires <= self._wall_clock():
            raise RefusedKey("expired")
        return principal

    def holds(self, principal: Principal) -> bool:
        """
        Whether a key is still in force.
        """
        return principal.digest in self._principals


class Connector:
    """
    One attempt of the gateway to connect to the engine.
    """

    def __init__(self, world: World, factory: ClientFactory) -> None:
        self._world = world
        self._factory = factory
        factory.startedConnecting(self)

    def stopConnecting(self) -> None:
        """
        As C{twisted.internet.tcp.Connector} does: the factory is told at once.
        """
        self._world.attempts.remove(self)
        self._factory.clientConnectionFailed(self, Failure(UserError()))

    def accept(self) -> EngineEnd:
        """
        The engine accepts.
        """
        self._world.attempts.remove(self)
        protocol = self._factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 8080))
        return self._world.engine_end(protocol)

    def refuse(self) -> None:
        """
        Nothing listens there.
        """
        self._world.attempts.remove(self)
        self._factory.clientConnectionFailed(self, Failure(ConnectionRefusedError("refused")))


@dataclass
class Options:
    """
    What differs from one test's gateway to the next; the names are those of the settings.
    """

    cors_origins: tuple[str, ...] = ()
    max_requests_per_minute: int = 100
    max_concurrent_requests: int = 1
    max_queue_size: int = 0
    queue_timeout: float = 300.0
    request_timeout: float = 300.0
    trusted_proxies: Networks = ()
    max_connections_per_ip: int = 1000
    proxy_extra_paths: tuple[bytes, ...] = ()
    auth_enabled: bool = True
    metrics_auth_enabled: bool = False
    client_limits: ClientLimits = field(default_factory=ClientLimits)
    hung_in: Mapping[bytes, IResource] = field(default_factory=dict)
    login: Callable[[IApiKey], Any] | None = None
    limits: Limits | None = None


class World:
    """
    See the module.

    @ivar exchanges: what the observers were told, in order.
    @ivar accepts: whether the engine accepts connections by itself.
    @ivar attempts: the connections that it has neither accepted nor refused.
    @ivar engine_ends: its ends of those that it has accepted.
    @ivar status: what the supervisor would say of it.
    @ivar reloads: how often a failed engine was asked to try again by a reload.
    """

    def __init__(self, **options: Any) -> None:
        """
        @param options: see L{Options}.
        """
        self.options = chosen = Options(**options)
        self.clock = Clock()
        self._exchanges: list[Exchange] = []
        self.accepts = True
        self.attempts: list[Connector] = []
        self.engine_ends: list[EngineEnd] = []
        self.clients: list[Client] = []
        self.closings: list[Callable[[], None]] = []
        self.status = READY
        self.reloads = 0
        self.keys = Keyring(self.wall_clock)
        self.keys.add(KEY, "user")
        self.keys.add(OTHER_KEY, "other")
        self.guesses = Guesses(self.clock.seconds)
        self.deadlines = Deadlines(self.clock)
        turn = Turn(self.clock)
        self.pool = EnginePool(
            self._connect, self.deadlines, turn, NO_EPOLL, chosen.request_timeout
        )
        self.gate = Gate(
            self.clock,
            chosen.max_concurrent_requests,
            chosen.max_queue_size,
            chosen.queue_timeout,
        )
        self.gate.set_engine("ready")
        self.running = RunningRequests(self.clock, self.wall_clock)
        self.limits = chosen.limits or MemoryLimits(self.clock.seconds)
        self.limiter = Limiter(self.limits, chosen.max_requests_per_minute)
        self.metrics = Metrics(self.clock.seconds, self.gate, lambda: self.status)
        self.batch = ExchangeBatch(self.clock, (self._exchanges.extend, self.metrics.observe))
        self.watcher = RequestWatcher(
            Cors(chosen.cors_origins),
            chosen.trusted_proxies,
            chosen.max_connections_per_ip,
            self.batch.add,
            self.clock.seconds,
            self.wall_clock,
            RequestIds(b"test"),
        )
        self.site = GatewaySite(
            self._root(),
            self.watcher,
            chosen.client_limits,
            self.deadlines,
            turn,
            self.wall_clock,
            ApiRequest,
        )

    def _root(self) -> Root:
        chosen = self.options
        health = Health(
            self.gate,
            lambda: self.status,
            (lambda: len(self.keys)) if chosen.auth_enabled else None,
            self.clock.seconds,
            lambda: self.site.draining,
        )
        login = (chosen.login or self.keys.login) if chosen.auth_enabled else None
        served = ServedEngine(
            self.gate, self.pool, lambda: self.status.state == "ready", lambda: ENGINE_LINES
        )
        protected = ProtectedTree(
            Passthrough(lambda: served, self.limiter, self.running, self.clock.seconds),
            ReloadPage(self.limiter, self.reload),
            chosen.proxy_extra_paths,
        )
        for name, resource in chosen.hung_in.items():
            protected.putChild(name, resource)
        metrics_page: IResource = MetricsPage(self.metrics, self.batch.tell)
        if chosen.metrics_auth_enabled:
            metrics_page = Guard(metrics_page, login, self.guesses)
        return Root(
            {
                b"/ping": PingPage(),
                b"/health": HealthPage(health),
                b"/ready": ReadyPage(health),
                b"/metrics": metrics_page,
            },
            Guard(protected, login, self.guesses),
            Preflight() if chosen.cors_origins else None,
        )

    # -- time and turns

    def wall_clock(self) -> float:
        """
        Seconds since the epoch.
        """
        return EPOCH + self.clock.seconds()

    @property
    def exchanges(self) -> list[Exchange]:
        """
        What was observed of requests by the end of this turn.
        """
        self.clock.advance(0)
        self.batch.tell()
        return self._exchanges

    def settle(self) -> None:
        """
        Tell both ends of every connection that was closed, until no more are.
        """
        while self.closings:
            closings, self.closings = self.closings, []
            for closing in closings:
                closing()

    def pass_time(self, seconds: float) -> None:
        """
        Let time go on, in steps as small as the gateway looks at its deadlines.
        """
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(0.25, end - self.clock.seconds()))
            self.settle()

    # -- both sides

    def client(self, host: str = "192.0.2.7") -> Client:
        """
        Somebody connects, in a turn of its own.
        """
        self.clock.advance(0)
        client = Client(self, host)
        self.clients.append(client)
        return client

    def _connect(self, factory: ClientFactory) -> None:
        attempt = Connector(self, factory)
        self.attempts.append(attempt)
        if self.accepts:
            attempt.accept()

    def engine_end(self, protocol: Any) -> EngineEnd:
        """
        The engine accepts a connection.
        """
        end = EngineEnd(self, protocol)
        self.engine_ends.append(end)
        end.connect()
        return end

    @property
    def engine(self) -> EngineEnd:
        """
        The engine's end of the connection made last.
        """
        return self.engine_ends[-1]

    # -- what an operator does

    def reload(self) -> int:
        """
        As the assembly does it.
        """
        if self.keys.problem is not None:
            raise self.keys.problem
        self.running.end_revoked(self.keys.holds)
        self.reloads += 1
        return len(self.keys)

    def assert_nothing_left(self) -> None:
        """
        Check that nothing of any request is left, and then, that nothing is when all clients
        have gone.
        """
        self.settle()
        assert self.gate.active == 0
        assert self.gate.waiting == 0
        assert len(self.running) == 0
        assert self.attempts == []
        for client in self.clients:
            client.leave()
        self.pool.close()
        self.settle()
        assert self.site.channels == set()
        assert [end for end in self.engine_ends if not end.closed] == []
        # The one that looks at deadlines ends when it finds that there are none.
        self.clock.advance(0.25)
        assert self.clock.getDelayedCalls() == []
        ids = [exchange.request_id for exchange in self.exchanges]
        assert len(ids) == len(set(ids)), "an observer was told twice of one request"
