"""
Keeps a child engine ready: the facade that wires the state machine to a
process, a key file and the questions about its health.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.web.iweb import IAgent

from twisted_llama.engine import tether
from twisted_llama.engine.child import ChildReactor, ChildRun, Command, KillGroup
from twisted_llama.engine.commands import (
    LOOPBACK,
    engine_argv,
    engine_environment,
    tethered,
)
from twisted_llama.engine.inquiry import HttpInquiry, single_use_agent
from twisted_llama.engine.key_file import KeyFile, key_directories
from twisted_llama.engine.lifecycle import make_lifecycle
from twisted_llama.engine.output import OutputTail
from twisted_llama.engine.readiness import Readiness
from twisted_llama.engine.sockets import free_loopback_port
from twisted_llama.engine.spec import EngineSpec
from twisted_llama.engine.status import EngineStatus, LastExit
from twisted_llama.errors import StartupError

_TETHER = Path(tether.__file__)
_PACKAGE_PARENT = Path(__file__).parents[2]

Told = TypeVar("Told")


class EngineSupervisor(Service):
    """
    An engine as a child process.

    @param spec: what engine.
    @param reactor: for processes, time and connections.
    @param environ: our environment, of which the child gets the harmless part.
    @param on_fatal: told, once, that the engine must never run as it is
        configured; the gateway is to end with this error.
    @param wall_clock: the time to show to people, in seconds of the epoch.
    @param agent: what asks the engine for its health.
    @param key_parents: directories to try for the key file, best first.
    @param kill_group: signals a whole process group.
    """

    log = Logger()

    def __init__(
        self,
        spec: EngineSpec,
        reactor: ChildReactor,
        *,
        environ: Mapping[str, str],
        on_fatal: Callable[[StartupError], None],
        wall_clock: Callable[[], float] = time.time,
        agent: IAgent | None = None,
        key_parents: list[Path] | None = None,
        kill_group: KillGroup = os.killpg,
    ) -> None:
        self._spec = spec
        self._reactor = reactor
        self._environ = environ
        self._on_fatal = on_fatal
        self._wall_clock = wall_clock
        self._agent = agent or single_use_agent(reactor, spec.connect_timeout)
        self._key_parents = key_directories(environ) if key_parents is None else key_parents
        self._kill_group = kill_group

        self._status = EngineStatus(model=spec.model_name)
        self._lifecycle = make_lifecycle(self, max_restarts=spec.max_restarts, status=self._status)
        self._tail = OutputTail()
        self._port = spec.port
        self._key_file: KeyFile | None = None
        self._run: ChildRun | None = None
        self._backoff: IDelayedCall | None = None
        self._stop_waiters: list[Deferred[None]] = []
        self._change_observers: list[Callable[[EngineStatus], None]] = []
        self._output_observers: list[Callable[[str], None]] = []

    # -- what others may ask and want

    @property
    def status(self) -> EngineStatus:
        """
        What is known now.
        """
        return self._status

    @property
    def address(self) -> tuple[str, int]:
        """
        Where the engine listens; with C{port} 0 it changes at every start.
        """
        return LOOPBACK, self._port

    @property
    def api_key(self) -> str | None:
        """
        The key that the engine wants; L{None} before the service was started.
        """
        return None if self._key_file is None else self._key_file.key

    @property
    def output_tail(self) -> list[str]:
        """
        The last lines that the engine printed, oldest first.
        """
        return self._tail.lines()

    def on_change(self, callback: Callable[[EngineStatus], None]) -> None:
        """
        Have a function told of every change from now on.
        """
        self._change_observers.append(callback)

    def on_output(self, callback: Callable[[str], None]) -> None:
        """
        Have a function told of every line that the engine prints.
        """
        self._output_observers.append(callback)

    def retry(self) -> None:
        """
        Start an engine that was given up, as if it had never crashed.
        """
        self._lifecycle.retry()

    def kill_now(self) -> None:
        """
        Do not wait for the engine to end by itself.
        """
        if self._run is not None:
            self._run.kill()

    # -- IService

    def startService(self) -> None:
        """
        Start the engine.

        @raise StartupError: its key file cannot be written.
        """
        if self._key_file is None:
            self._key_file = KeyFile.create(self._key_parents)
        super().startService()
        self._lifecycle.start()

    def stopService(self) -> Deferred[None]:
        """
        Stop the engine.

        @return: fires when its process is gone and its key file removed.
        """
        super().stopService()
        stopped: Deferred[None] = Deferred()
        self._stop_waiters.append(stopped)
        self._lifecycle.stop()
        if self._status.state == "stopped":
            self._finish_stopping()
        return stopped

    def _finish_stopping(self) -> None:
        if self.running:
            return
        if self._key_file is not None:
            self._key_file.remove()
            self._key_file = None
        waiters, self._stop_waiters = self._stop_waiters, []
        for waiter in waiters:
            waiter.callback(None)

    # -- Effects of the state machine

    def start_child(self) -> None:
        """
        Start a process and watch it.
        """
        assert self._key_file is not None
        self._port = self._spec.port or free_loopback_port()
        inquiry = HttpInquiry(
            self._agent,
            self._reactor,  # type: ignore[arg-type]  # ChildReactor names what it needs of time
            address=self.address,
            key=self.api_key,
            timeout_seconds=self._spec.health_timeout,
        )
        self._run = ChildRun(
            lifecycle=self._lifecycle,
            reactor=self._reactor,
            readiness=Readiness(inquiry, self._reactor),  # type: ignore[arg-type]  # likewise
            command=self._command(self._key_file.path),
            load_timeout_seconds=self._spec.load_timeout,
            tail=self._tail,
            on_line=self._line,
            on_condemned=self._condemn,
            wall_clock=self._wall_clock,
            kill_group=self._kill_group,
        )
        self._run.start()

    def _command(self, key_file: Path) -> Command:
        argv = engine_argv(self._spec, port=self._port, key_file=key_file, python=sys.executable)
        is_ours = self._spec.kind != "llama-server"
        return Command(
            tethered(argv, python=sys.executable, tether=_TETHER, parent_pid=os.getpid()),
            engine_environment(
                self._environ, python_path=str(_PACKAGE_PARENT) if is_ours else None
            ),
            self._port,
        )

    def stop_child(self) -> None:
        """
        End the process.
        """
        if self._run is not None:
            self._run.stop()

    def cancel_waits(self) -> None:
        """
        Stop watching and waiting.
        """
        if self._run is not None:
            self._run.cancel_waits()
        if self._backoff is not None and self._backoff.active():
            self._backoff.cancel()
        self._backoff = None

    def wait(self, delay_seconds: float) -> None:
        """
        Start again after a while.
        """
        self._backoff = self._reactor.callLater(delay_seconds, self._lifecycle.backoff_over)

    def crashed(self, last_exit: LastExit, restart: int, delay_seconds: float | None) -> None:
        """
        Log a crash.
        """
        if delay_seconds is None:
            self.log.error(
                "Engine crashed ({how}): {reason} It is not started again "
                "(MAX_RESTARTS={max_restarts}); mend the cause, then send SIGHUP or POST /reload.",
                how=last_exit.how(),
                reason=last_exit.reason,
                max_restarts=self._spec.max_restarts,
            )
            return
        self.log.error(
            "Engine crashed ({how}): {reason} Restart {restart} of {max_restarts} in "
            "{delay_seconds:g} s.",
            how=last_exit.how(),
            reason=last_exit.reason,
            restart=restart,
            max_restarts=self._spec.max_restarts,
            delay_seconds=delay_seconds,
        )

    def publish(self, status: EngineStatus) -> None:
        """
        Tell everyone.
        """
        changed_state = status.state != self._status.state
        self._status = status
        if changed_state:
            self.log.info(
                "Engine is {state} (model {model}, pid {pid})",
                state=status.state,
                model=status.model,
                pid=status.pid,
            )
        for observer in list(self._change_observers):
            self._tell(observer, status)
        if status.state == "stopped":
            self._finish_stopping()

    # -- events of the child

    def _line(self, text: str) -> None:
        for observer in self._output_observers:
            self._tell(observer, text)

    def _condemn(self, reason: str) -> None:
        self.log.critical("The engine is stopped for good: {reason}", reason=reason)
        self._lifecycle.condemned(reason)
        self._on_fatal(StartupError(f"The engine cannot be used: {reason}"))

    def _tell(self, observer: Callable[[Told], None], told: Told) -> None:
        # One observer's defect must not stop the supervision of the engine.
        try:
            observer(told)
        except Exception:
            self.log.failure("An observer of the engine failed")
