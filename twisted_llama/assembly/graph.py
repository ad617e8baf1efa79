"""
The object graph of one gateway, top to bottom.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define
from twisted.application.service import IService
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.protocol import ClientFactory
from twisted.web.resource import IResource

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
from twisted_llama.assembly.engine_link import Engine, EngineLink
from twisted_llama.assembly.listener import Listener, tcp_description
from twisted_llama.assembly.monotonic import MonotonicTime
from twisted_llama.auth.checkers import KeyfileChecker
from twisted_llama.auth.guesses import Guesses
from twisted_llama.auth.login import login_by
from twisted_llama.auth.selection import make_checker
from twisted_llama.engine.external import ExternalEngine
from twisted_llama.engine.resolution import resolve_engine
from twisted_llama.engine.spec import EngineSpec
from twisted_llama.engine.supervisor import EngineSupervisor
from twisted_llama.errors import StartupError
from twisted_llama.health import make_health_site
from twisted_llama.http.deadlines import Deadlines
from twisted_llama.http.epoll import Epoll
from twisted_llama.http.head_reader import HeadLimits
from twisted_llama.http.pool import EnginePool
from twisted_llama.http.site import ClientLimits, GatewaySite
from twisted_llama.http.turn import Turn
from twisted_llama.limits.memory import MemoryLimits
from twisted_llama.limits.redis import RedisLimits
from twisted_llama.models.registry import Registry
from twisted_llama.settings import Settings
from twisted_llama.telemetry.access_log import AccessLog
from twisted_llama.telemetry.batch import ExchangeBatch
from twisted_llama.telemetry.log_files import LogDirectory
from twisted_llama.telemetry.metrics import Metrics
from twisted_llama.telemetry.writer import LogWriter


@define
class Graph:
    """
    What a gateway consists of, as far as the one that starts and ends it has to
    know.

    @ivar writers: the services that write logs; first to start, last to end.
    @ivar others: services that just run.
    """

    settings: Settings
    clock: MonotonicTime
    deadlines: Deadlines
    engine_spec: EngineSpec
    engine: Engine
    pool: EnginePool
    gate: Gate
    running: RunningRequests
    site: GatewaySite
    health_site: GatewaySite
    health_listener: Listener
    gateway_listener: Listener
    checker: ICredentialsChecker | None
    log_directory: LogDirectory
    writers: list[LogWriter]
    others: list[IService]
    metrics: Metrics
    exchanges: ExchangeBatch


class Keys:
    """
    The checker and all that has to happen when its keys change.
    """

    def __init__(self, checker: ICredentialsChecker | None, running: RunningRequests) -> None:
        self._checker = checker
        self._running = running

    @property
    def count(self) -> int:
        """
        How many keys are loaded, as far as the checker knows.
        """
        return int(getattr(self._checker, "count", 0))

    def reload(self) -> int:
        """
        Read the keys again and end what runs with one that is gone.

        @raise ReloadFailed: if they cannot be read; the old ones stay.
        """
        if not isinstance(self._checker, KeyfileChecker):
            return self.count
        count = self._checker.load()
        self.changed()
        return count

    def changed(self) -> None:
        """
        The keys were read again.
        """
        if isinstance(self._checker, KeyfileChecker):
            self._running.end_revoked(self._checker.holds)


def build_graph(
    settings: Settings,
    reactor: Any,
    environ: Mapping[str, str],
    on_fatal: Callable[[StartupError], None],
    on_retry: Callable[[], None],
) -> Graph:
    """
    Make everything; nothing is started and nothing listens yet.

    @param reactor: the reactor, all of it.
    @param on_fatal: see L{EngineSupervisor}.

    @raise StartupError: if the settings ask for what is not there.
    """
    clock = MonotonicTime(reactor)
    deadlines = Deadlines(clock)
    turn = Turn(clock)
    # -- logs
    log_directory = LogDirectory(
        settings.log_dir, settings.log_max_bytes, settings.log_keep, settings.instance_id
    )
    writers: list[LogWriter] = []
    others: list[IService] = []
    access_sink = log_directory.open_access_log()
    if access_sink is not None:
        writers.append(LogWriter(clock, access_sink, "access log"))
    access_log = AccessLog(writers[0].put_all if writers else None, settings.log_format)
    # -- the engine
    spec = resolve_engine(settings)
    engine: Engine
    if spec.kind == "external":
        engine = ExternalEngine(spec, reactor)
    else:
        engine = EngineSupervisor(spec, reactor, environ=environ, on_fatal=on_fatal)
        server_sink = log_directory.open_engine_log(
            settings.log_name, settings.worker_type, time.time()
        )
        if server_sink is not None:
            writers.append(LogWriter(clock, server_sink, "engine log"))
            engine.on_output(writers[-1].put)

    def connect_to(factory: ClientFactory) -> None:
        host, port = engine.address
        reactor.connectTCP(host, port, factory, timeout=settings.backend_connect_timeout)

    epoll = Epoll(reactor)
    pool = EnginePool(
        connect_to,
        deadlines,
        turn,
        epoll,
        settings.request_timeout,
        settings.relay_buffer_bytes,
    )
    gate = Gate(
        clock,
        settings.max_concurrent_requests or 1,
        settings.max_queue_size,
        settings.queue_timeout,
    )
    link = EngineLink(engine, gate, pool, follow_slots=settings.max_concurrent_requests is None)
    # -- keys and limits
    checker = _checker(settings)
    running = RunningRequests(clock, time.time)
    keys = Keys(checker, running)
    local_limits = MemoryLimits(time.monotonic)
    limits: Limits = local_limits
    shared_limits: RedisLimits | None = None
    if settings.redis_url is not None:
        shared_limits = RedisLimits(reactor, settings.redis_url.get_secret_value(), local_limits)
        limits = shared_limits
        others.append(shared_limits)
    limiter = Limiter(limits, settings.max_requests_per_minute)
    metrics = Metrics(
        time.monotonic,
        gate,
        lambda: engine.status,
        shared_limits,
        lambda: sum(writer.lost for writer in writers),
    )
    exchanges = ExchangeBatch(clock, (metrics.observe, access_log.observe))
    # -- the tree
    site: GatewaySite
    health = Health(
        gate,
        lambda: engine.status,
        (lambda: keys.count) if checker is not None else None,
        lambda: metrics.uptime_seconds,
        lambda: site.draining,
    )

    def reload() -> int:
        count = keys.reload()
        on_retry()
        return count

    served = ServedEngine(gate, pool, link.answers_now, link.identity)
    registry = Registry({spec.model_name or spec.kind: served})
    cors = Cors(settings.cors_origins)
    login = None if checker is None else login_by(checker)
    guesses = Guesses(time.monotonic)
    protected = ProtectedTree(
        Passthrough(registry.pick, limiter, running, clock.seconds),
        ReloadPage(limiter, reload),
        tuple(prefix.encode("ascii", "replace") for prefix in settings.proxy_extra_paths),
    )
    metrics_page: IResource = MetricsPage(metrics, exchanges.tell)
    if settings.metrics_auth_enabled:
        metrics_page = Guard(metrics_page, login, guesses)
    root = Root(
        {
            b"/ping": PingPage(),
            b"/health": HealthPage(health),
            b"/ready": ReadyPage(health),
            b"/metrics": metrics_page,
        },
        Guard(protected, login, guesses),
        Preflight() if cors.enabled else None,
    )
    watcher = RequestWatcher(
        cors,
        settings.trusted_proxies,
        settings.max_connections_per_ip,
        exchanges.add,
        clock.seconds,
        time.time,
        RequestIds(),
    )
    site = GatewaySite(
        root, watcher, _client_limits(settings), deadlines, turn, time.time, ApiRequest
    )
    health_site = make_health_site(deadlines, turn, time.time)
    return Graph(
        settings=settings,
        clock=clock,
        deadlines=deadlines,
        engine_spec=spec,
        engine=engine,
        pool=pool,
        gate=gate,
        running=running,
        site=site,
        health_site=health_site,
        health_listener=_listener(
            reactor,
            settings.health_endpoint,
            "HEALTH_ENDPOINT",
            "PORT_HEALTH",
            settings.host,
            settings.port_health,
            health_site,
        ),
        gateway_listener=_listener(
            reactor,
            settings.gateway_endpoint,
            "GATEWAY_ENDPOINT",
            "PORT",
            settings.host,
            settings.port,
            site,
            epoll,
        ),
        checker=checker,
        log_directory=log_directory,
        writers=writers,
        others=others,
        metrics=metrics,
        exchanges=exchanges,
    )


def _checker(settings: Settings) -> ICredentialsChecker | None:
    if not settings.auth_enabled:
        return None
    if settings.auth is not None:
        return make_checker(settings.auth)
    return KeyfileChecker(settings.auth_keys_file, time.time)


def _client_limits(settings: Settings) -> ClientLimits:
    return ClientLimits(
        head=HeadLimits(
            settings.max_request_line_size, settings.max_header_line_size, settings.max_headers
        ),
        max_body_bytes=settings.max_request_body_size,
        header_timeout_seconds=settings.client_header_timeout,
        body_timeout_seconds=settings.client_body_timeout,
        write_timeout_seconds=settings.client_write_timeout,
        keepalive_timeout_seconds=settings.keepalive_timeout,
        max_connections=settings.max_connections,
        max_connections_per_address=settings.max_connections_per_ip,
        trusted_proxies=settings.trusted_proxies,
    )


def _listener(
    reactor: Any,
    description: str | None,
    endpoint_setting: str,
    port_setting: str,
    host: str,
    port: int,
    site: GatewaySite,
    epoll: Epoll | None = None,
) -> Listener:
    if description is not None:
        return Listener(reactor, description, site, f"{endpoint_setting}={description}", epoll)
    return Listener(reactor, tcp_description(host, port), site, f"{port_setting}={port}", epoll)
