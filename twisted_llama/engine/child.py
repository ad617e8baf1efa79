"""
One run of one child process, from its start to its end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import (
    IDelayedCall,
    IProcessTransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_llama.engine.diagnosis import diagnose
from twisted_llama.engine.lifecycle import Lifecycle
from twisted_llama.engine.output import OutputTail
from twisted_llama.engine.process import EngineProcess
from twisted_llama.engine.readiness import Readiness, binding_objection
from twisted_llama.engine.sockets import Listener, listeners_on
from twisted_llama.engine.status import LastExit

STOP_GRACE_SECONDS = 10.0
_PIPE_GRACE_SECONDS = 2.0


class ChildReactor(Protocol):
    """
    What is needed of a reactor: L{IReactorProcess} and L{IReactorTime}.
    """

    spawnProcess: Callable[..., IProcessTransport]
    callLater: Callable[..., IDelayedCall]
    seconds: Callable[[], float]


@frozen
class Command:
    """
    How to start a child.

    @ivar argv: the program and its arguments.
    @ivar environment: its whole environment.
    @ivar port: where it is told to listen.
    """

    argv: list[str]
    environment: dict[str, str]
    port: int


class KillGroup(Protocol):
    """
    As L{os.killpg}.
    """

    def __call__(self, group: int, signal_number: int, /) -> None: ...


class ChildRun:
    """
    Starts a process, watches it become ready, ends it, and tells the lifecycle.

    @param lifecycle: what to tell.
    @param reactor: for processes and time.
    @param readiness: what asks this run's engine.
    @param command: how to start it.
    @param load_timeout_seconds: until when it must be ready.
    @param tail: where its last lines are kept.
    @param on_line: told every line of its output.
    @param wall_clock: the time to show to people.
    @param kill_group: signals a whole process group.
    """

    log = Logger()

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        reactor: ChildReactor,
        readiness: Readiness,
        command: Command,
        load_timeout_seconds: float,
        tail: OutputTail,
        on_line: Callable[[str], None],
        on_condemned: Callable[[str], None],
        wall_clock: Callable[[], float],
        kill_group: KillGroup = os.killpg,
    ) -> None:
        self._lifecycle = lifecycle
        self._reactor = reactor
        self._readiness = readiness
        self._command = command
        self._load_timeout_seconds = load_timeout_seconds
        self._tail = tail
        self._on_line = on_line
        self._on_condemned = on_condemned
        self._wall_clock = wall_clock
        self._kill_group = kill_group

        self._transport: IProcessTransport | None = None
        self._pid: int | None = None
        self._listeners_before: frozenset[Listener] = frozenset()
        self._load_timer: IDelayedCall | None = None
        self._end_timer: IDelayedCall | None = None
        self._watching: Deferred[None] | None = None

    def start(self) -> None:
        """
        Start the process and watch it become ready.
        """
        self._tail.clear()
        self._listeners_before = listeners_on(self._command.port)
        try:
            self._transport = self._reactor.spawnProcess(
                EngineProcess(self),
                self._command.argv[0],
                self._command.argv,
                env=self._command.environment,
            )
        except OSError as problem:
            reason = f"the engine's process could not be started: {problem.strerror}."
            self._lifecycle.exited(LastExit(None, None, reason), self._reactor.seconds())
            return
        self._pid = self._transport.pid
        self._lifecycle.spawned(self._transport.pid)
        self._load_timer = self._reactor.callLater(self._load_timeout_seconds, self._expire)
        self._watching = Deferred.fromCoroutine(self._watch())
        self._watching.addErrback(self._watch_failed)

    async def _watch(self) -> None:
        await self._readiness.when_ready(self._lifecycle.answered)
        after = listeners_on(self._command.port)
        objection = binding_objection(self._listeners_before, after, self._command.port)
        if objection is None:
            objection = await self._readiness.key_objection()
        if objection is not None:
            self._watching = None  # what follows cancels it, and it is us
            self._on_condemned(objection)
            return
        slots = await self._readiness.count_slots()
        self._watching = None
        self._lifecycle.became_ready(slots, self._reactor.seconds(), self._wall_clock())

    def _watch_failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self.log.failure("Watching the engine become ready failed", failure)

    def _expire(self) -> None:
        self._load_timer = None
        said = diagnose(None, None, self._tail.lines())
        self._lifecycle.load_expired(
            f"not ready within LOAD_TIMEOUT={self._load_timeout_seconds:g} s. Raise LOAD_TIMEOUT, "
            "or take a smaller model."
            if said.startswith("ended")
            else f"not ready within LOAD_TIMEOUT={self._load_timeout_seconds:g} s; {said}"
        )

    def cancel_waits(self) -> None:
        """
        Stop watching; the process is left as it is.
        """
        _cancel(self._load_timer)
        self._load_timer = None
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()

    def stop(self) -> None:
        """
        TERM now, KILL if it is still there after 10 s.
        """
        if self._end_timer is None:
            self._signal("TERM")
            self._end_timer = self._reactor.callLater(STOP_GRACE_SECONDS, self._escalate)

    def kill(self) -> None:
        """
        KILL now.
        """
        self._signal("KILL")

    def _escalate(self) -> None:
        self.log.warn(
            "The engine ignored SIGTERM for {grace} s; it is killed.", grace=STOP_GRACE_SECONDS
        )
        # Should even this get lost, ask again.
        self._end_timer = self._reactor.callLater(STOP_GRACE_SECONDS, self._escalate)
        self._signal("KILL")

    def _signal(self, name: str) -> None:
        if self._transport is None or self._pid is None:
            return
        try:
            # The whole group: LLAMA_SERVER_BIN may be a script around the real one.
            self._kill_group(self._pid, getattr(signal, f"SIG{name}"))
        except OSError:
            # It has not made its group yet.
            with suppress(ProcessExitedAlready):
                self._transport.signalProcess(name)

    # -- ProcessEvents

    def line(self, text: str) -> None:
        """
        A line of output.
        """
        self._tail.add(text)
        self._on_line(text)

    def reaped(self) -> None:
        """
        The process is gone; whoever it started goes with it.
        """
        _cancel(self._end_timer)
        self._end_timer = None
        pid, self._pid = self._pid, None
        if pid is not None:
            with suppress(OSError):
                self._kill_group(pid, signal.SIGKILL)
        if self._transport is not None:
            # Whoever left the group may hold the pipes open for ever.
            self._end_timer = self._reactor.callLater(
                _PIPE_GRACE_SECONDS, self._transport.loseConnection
            )

    def ended(self, code: int | None, signal_name: str | None) -> None:
        """
        The process is gone and all was read.
        """
        _cancel(self._end_timer)
        self._end_timer = None
        self.cancel_waits()
        reason = diagnose(code, signal_name, self._tail.lines())
        self._lifecycle.exited(LastExit(code, signal_name, reason), self._reactor.seconds())


def _cancel(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()
