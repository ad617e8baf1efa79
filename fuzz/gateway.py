"""
A whole gateway in memory, made once and used for every execution: its graph is
what the assembly builds, its clients and its engine are L{Wire}s, and its clock
stands until it is moved.

Between two executions L{Gateway.end} sees to it that nothing is left of the
first, which is a promise in itself.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.address import IPv4Address
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from fuzz.wires import StillReactor, Wire
from twisted_llama.admission.gate import EngineState
from twisted_llama.assembly.graph import Graph, build_graph
from twisted_llama.assembly.monotonic import MonotonicTime
from twisted_llama.settings import Settings

KEY = b"sk-key-that-opens"
#: A key with a limit of its own: two requests in a minute.
SCARCE_KEY = b"sk-key-that-is-scarce"
ENGINE_KEY = b"engine-key"
EPOCH = 1_800_000_000.0
KEYFILE = b"user:%b\nscarce:%b:2\n" % (KEY, SCARCE_KEY)

_SERIOUS = (LogLevel.error, LogLevel.critical)


class _Lines:
    """
    The access log.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, lines: Sequence[str]) -> int:
        """
        See L{twisted_llama.telemetry.sinks.Sink}.
        """
        self.lines.extend(lines)
        return 0

    def close(self) -> None:
        """
        See L{twisted_llama.telemetry.sinks.Sink}.
        """


@implementer(ILogObserver)
class _Faults:
    """
    What is logged that is a fault of the gateway's own.
    """

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        if event["log_level"] in _SERIOUS or "log_failure" in event:
            self.events.append(event)


class Gateway:
    """
    See the module.

    @ivar graph: the gateway itself.
    @ivar reactor: connections to the engine, and the clock.
    @ivar clients: the connections of this execution's clients.
    """

    def __init__(self, **given: object) -> None:
        """
        @param given: settings, by field name.
        """
        self.reactor = StillReactor()
        self.clients: list[Wire] = []
        self._changed = False
        self._access = _Lines()
        self._faults = _Faults()
        directory = Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            (directory / "api_keys.txt").write_bytes(KEYFILE)
            (directory / "api_keys.txt").chmod(0o600)
            self.graph = self._build(directory, given)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _build(self, directory: Path, given: dict[str, object]) -> Graph:
        environ = {
            "ENGINE": "external",
            "BACKEND_API_KEY": ENGINE_KEY.decode("ascii"),
            "DATA_DIR": str(directory),
            "LOG_FORMAT": "json",
            **{name.upper(): str(value) for name, value in given.items()},
        }
        seconds = self.reactor.seconds

        def wall_clock() -> float:
            return EPOCH + seconds()

        # All clocks of the gateway are the reactor's, which stands still.
        with (
            mock.patch.object(MonotonicTime, "seconds", staticmethod(seconds)),
            mock.patch.object(time, "monotonic", seconds),
            mock.patch.object(time, "time", wall_clock),
        ):
            settings = Settings.load(environ, None, {}).settings
            graph = build_graph(settings, self.reactor, {}, _no_end, lambda: None)
            # Found through the class at every call; this one is asked through its object.
            graph.clock.seconds = seconds
        # Making the figures' page takes longer than all else together, and shows nothing here.
        graph.metrics.render_prometheus = lambda openmetrics: b"# none\n"  # type: ignore[method-assign]  # see above
        checker: Any = graph.checker
        checker.load()
        for writer in graph.writers:
            writer._sink.close()
            writer._sink = self._access
        return graph

    # -- both sides

    def begin(self) -> None:
        """
        An execution begins.
        """
        globalLogPublisher.addObserver(self._faults)

    def client(self, host: str = "192.0.2.7") -> Wire:
        """
        Somebody connects.
        """
        protocol: Any = self.graph.site.buildProtocol(IPv4Address("TCP", host, 54321))
        wire = Wire(self.reactor.turns, protocol, host, 54321)
        self.clients.append(wire)
        protocol.makeConnection(wire)
        return wire

    @property
    def engines(self) -> list[Wire]:
        """
        The engine's connections in this execution, the last one last.
        """
        return self.reactor.engine_wires

    def settle(self) -> None:
        """
        Let the reactor turn until nothing happens.
        """
        turns = self.reactor.turns
        for _ in range(100_000):
            if turns:
                turns.popleft()()
                continue
            # What is done at the end of a turn.
            self.reactor.advance(0)
            if not turns:
                return
        raise AssertionError("the reactor never comes to rest")

    def pass_time(self, seconds: float) -> None:
        """
        Let time pass, in a few steps, so that all that is late notices.
        """
        for _ in range(3):
            self.reactor.advance(seconds / 3)
            self.settle()

    @property
    def access_log(self) -> list[dict[str, Any]]:
        """
        The lines of the access log in this execution.
        """
        self.graph.exchanges.tell()
        return [json.loads(line) for line in self._access.lines]

    # -- what an operator or a supervisor does

    def drain(self) -> None:
        """
        The gateway is about to end; L{end} takes that back.
        """
        self._changed = True
        self.graph.gate.drain()
        self.graph.site.drain()

    def set_engine(self, state: EngineState) -> None:
        """
        What L{EngineLink<twisted_llama.assembly.engine_link.EngineLink>} does when a child's state
        changes; L{end} takes that back.
        """
        self._changed = True
        if state != "ready":
            self.graph.pool.close()
        self.graph.gate.set_engine(state, "It has failed." if state == "failed" else "")

    def _change_back(self) -> None:
        self._changed = False
        self.graph.site.draining = False
        self.graph.gate._draining = False
        self.graph.gate.set_engine("ready")

    # -- the end

    def check_log(self) -> None:
        """
        Check that nothing was logged that is a fault of the gateway's own.
        """
        for event in self._faults.events:
            failure = event.get("log_failure")
            trace = failure.getTraceback() if failure is not None else ""
            raise AssertionError(f"logged as a failure: {formatEvent(event)}\n{trace}")

    def check_at_rest(self) -> None:
        """
        Check that no request is under way.
        """
        graph = self.graph
        assert graph.gate.active == 0, f"{graph.gate.active} slots are in use"
        assert graph.gate.waiting == 0, f"{graph.gate.waiting} wait for a slot"
        assert len(graph.running) == 0, f"{len(graph.running)} requests are served"
        assert not self.reactor.attempts, "a connection to the engine is still being made"
        open_wires = sum(not wire.lost for wire in self.engines)
        kept = graph.pool.idle + graph.pool.settling
        assert open_wires == kept, f"{open_wires} open, {kept} kept"

    def end(self) -> None:
        """
        All clients leave; check that nothing is left of them.
        """
        graph, reactor = self.graph, self.reactor
        try:
            for wire in self.clients:
                wire.leave()
            self.settle()
            self.check_at_rest()
            assert not graph.site.channels, "a channel is left"
            kept = graph.pool.idle + graph.pool.settling
            assert len(graph.deadlines) == kept, "a deadline is left"
            graph.pool.close()
            self.settle()
            assert all(wire.lost for wire in self.engines), "a connection to the engine is left"
            assert len(graph.deadlines) == 0, "a deadline of the engine's is left"
            # The keys' windows are a minute long.
            reactor.advance(61)
            self.settle()
            calls = reactor.getDelayedCalls()
            assert not calls, f"delayed calls are left: {calls}"
            self.check_log()
        finally:
            if self._changed:
                self._change_back()
            globalLogPublisher.removeObserver(self._faults)
            self.clients.clear()
            self.engines.clear()
            reactor.attempts.clear()
            reactor.accepts = True
            reactor.turns.clear()
            self._access.lines.clear()
            self._faults.events.clear()


def _no_end(error: object) -> None:
    raise AssertionError(f"the gateway would end: {error}")
