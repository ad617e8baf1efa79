"""
The life of a gateway: how it starts and, the longer part, how it ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from twisted_llama import __version__
from twisted_llama.assembly.door import FOR_FILES, FOR_HEALTH, kept_for_engine
from twisted_llama.assembly.graph import Graph, build_graph
from twisted_llama.assembly.open_files import enlarge_descriptor_table, file_limit, raise_file_limit
from twisted_llama.assembly.signals import install_signals
from twisted_llama.auth.checkers import KeyfileChecker
from twisted_llama.auth.watch import KeyfileWatch
from twisted_llama.engine.sockets import ensure_port_free
from twisted_llama.errors import Draining, ReloadFailed, StartupError
from twisted_llama.settings import LoadedSettings, effective
from twisted_llama.telemetry.boot_log import (
    BootReport,
    describe_cpu,
    describe_gpus,
    publish_boot_report,
    read_cpuinfo,
)

#: How long clients may take for the rest of their answers once all is served.
FLUSH_SECONDS = 5.0


class GatewayService(Service):
    """
    One gateway.

    It differs from C{MultiService} in that its parts end in order, each when
    the one before has: no new work, then the work under way, then the engine,
    then the logs.
    """

    log = Logger()

    def __init__(self, loaded: LoadedSettings, reactor: Any, environ: Mapping[str, str]) -> None:
        """
        @param reactor: the reactor, all of it.
        @param environ: our environment, of which the engine gets a part.

        @raise StartupError: if the settings ask for what is not there.
        """
        self._loaded = loaded
        self._reactor = reactor
        self._environ = environ
        self._stopping = False
        self._starting_report: Deferred[None] | None = None
        self.graph: Graph = build_graph(
            loaded.settings, reactor, environ, self._fatal, self._retry_engine
        )
        self._watch: KeyfileWatch | None = None
        self.graph.health_listener.keep_descriptors(self._kept_from_health_port)
        self.graph.gateway_listener.keep_descriptors(self._kept_from_clients, self._spare)

    def _kept_from_health_port(self) -> int:
        gate = self.graph.gate
        return FOR_FILES + max(0, kept_for_engine(gate.max_concurrent) - gate.active)

    def _kept_from_clients(self) -> int:
        return FOR_HEALTH + self._kept_from_health_port()

    def _room_for_clients(self) -> int:
        for_engine = kept_for_engine(self.graph.gate.max_concurrent)
        return max(0, file_limit() - FOR_FILES - FOR_HEALTH - for_engine)

    def _spare(self) -> int:
        return self._room_for_clients() - len(self.graph.site.channels)

    # -- starting ---------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """
        Open the ports, the health port first.

        @raise StartupError: if one is taken, the engine's too.
        """
        graph = self.graph
        raise_file_limit()
        enlarge_descriptor_table()
        graph.health_listener.privilegedStartService()
        if graph.engine_spec.kind != "external":
            ensure_port_free("127.0.0.1", graph.engine_spec.port)
        graph.gateway_listener.privilegedStartService()

    def startService(self) -> None:
        """
        Start everything else.
        """
        super().startService()
        graph = self.graph
        for writer in graph.writers:
            writer.startService()
        for warning in self._loaded.warnings:
            self.log.warn("{warning}", warning=warning)
        room = self._room_for_clients()
        if room < graph.settings.max_connections:
            self.log.warn(
                "MAX_CONNECTIONS={most}, but {limit} open files leave room for {room} clients at "
                "most; further ones wait. Raise the limit: ulimit -n, LimitNOFILE=.",
                most=graph.settings.max_connections,
                limit=file_limit(),
                room=room,
            )
        if isinstance(graph.checker, KeyfileChecker):
            self._start_keys(graph.checker)
        elif graph.checker is None:
            self.log.warn("AUTH_ENABLED=false: everybody who reaches the port may use the engine")
        for service in graph.others:
            service.startService()
        graph.engine.startService()
        self._reactor.callWhenRunning(
            install_signals, self._reactor, self._signalled, self._reload_asked
        )
        self._starting_report = Deferred.fromCoroutine(self._report())
        self._starting_report.addErrback(self._report_failed)
        self.log.info("twisted_llama {version} has started", version=__version__)

    def _start_keys(self, checker: KeyfileChecker) -> None:
        try:
            checker.load()
        except ReloadFailed as error:
            self.log.error("{error} Until then every request is refused.", error=str(error))
        pool = self._reactor.getThreadPool()
        self._watch = KeyfileWatch(
            checker,
            self.graph.clock,
            self._keys_changed,
            in_thread=lambda read: deferToThreadPool(self._reactor, pool, read),
        )
        self._watch.startService()

    def _keys_changed(self) -> None:
        checker = self.graph.checker
        if isinstance(checker, KeyfileChecker):
            self.graph.running.end_revoked(checker.holds)

    async def _report(self) -> None:
        """
        Write the boot log, once it is known what machine this is.
        """
        graph, settings = self.graph, self.graph.settings
        accelerators = await describe_gpus(self._reactor, self._reactor, self._environ)
        if not accelerators:
            accelerators = (describe_cpu(read_cpuinfo(), os.cpu_count()),)
        spec = graph.engine_spec
        report = BootReport(
            settings=tuple(effective(self._loaded)),
            engine_version=f"{spec.kind} {spec.binary or ''}".strip(),
            accelerators=accelerators,
            model=None if spec.model_name is None else (spec.model_name, spec.model_bytes),
            limits=(
                ("requests at once", str(settings.max_concurrent_requests or "the engine's slots")),
                ("waiting", str(settings.max_queue_size or "no bound")),
                ("requests per minute and key", str(settings.max_requests_per_minute)),
                ("request body, bytes", str(settings.max_request_body_size)),
            ),
        )
        publish_boot_report(report, graph.log_directory.open_boot_log(time.time()))

    def _report_failed(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self.log.failure("The boot log could not be written", failure)

    # -- what may happen meanwhile --------------------------------------------------

    def _retry_engine(self) -> None:
        if self.graph.engine.status.state == "failed":
            self.graph.engine.retry()

    def _reload_asked(self) -> None:
        """
        SIGHUP.
        """
        checker = self.graph.checker
        if isinstance(checker, KeyfileChecker):
            try:
                count = checker.load()
            except ReloadFailed as error:
                self.log.error("{error}", error=str(error))
            else:
                self._keys_changed()
                self.log.info("Reloaded: {count} keys", count=count)
        self._retry_engine()

    def _signalled(self, name: str) -> None:
        """
        SIGTERM or SIGINT: end in good order, or, the second time, at once.
        """
        if self._stopping:
            self.log.warn("{name} again: ending at once", name=name)
            self.graph.engine.kill_now()
            self.graph.running.end_all(Draining(1))
            self._cut_short()
            return
        self.log.info("{name}: ending when what is under way is done", name=name)
        self._reactor.stop()

    def _fatal(self, error: StartupError) -> None:
        """
        The engine must not run as it is: neither may we.
        """
        self.log.critical("FATAL: {error}", error=str(error))
        # twistd knows no other exit status than 0 for a reactor that stopped.
        self._reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
        if not self._stopping:
            self._reactor.stop()

    # -- ending --------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """
        End everything, in order.
        """
        super().stopService()
        self._stopping = True
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        graph = self.graph
        if self._starting_report is not None:
            self._starting_report.cancel()
        if self._watch is not None:
            self._watch.stopService()
        graph.gate.drain()
        graph.site.drain()
        await self._within(graph.settings.drain_timeout, graph.running.when_none())
        graph.running.end_all(Draining(1))
        await graph.gateway_listener.stopService()
        await self._within(FLUSH_SECONDS, graph.site.when_no_channels())
        for channel in tuple(graph.site.channels):
            channel.abortConnection()
        graph.pool.close()
        await graph.engine.stopService()
        await DeferredList([maybeDeferred(service.stopService) for service in graph.others])
        await graph.health_listener.stopService()
        for channel in tuple(graph.health_site.channels):
            channel.abortConnection()
        graph.deadlines.stop()
        graph.exchanges.stop()
        self.log.info("twisted_llama has ended")
        await DeferredList([writer.stopService() for writer in graph.writers])

    async def _within(self, seconds: float, event: Deferred[None]) -> None:
        """
        Wait for something, but not longer than so many seconds.
        """
        if event.called:
            return
        limit = self._reactor.callLater(seconds, event.cancel)
        try:
            await event
        except CancelledError:
            return
        limit.cancel()

    def _cut_short(self) -> None:
        """
        Wait no longer for what L{_stop} waits for.
        """
        for channel in tuple(self.graph.site.channels):
            channel.abortConnection()
