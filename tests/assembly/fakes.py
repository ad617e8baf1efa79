"""
A reactor that does nothing by itself, and an engine that does what a test says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from twisted_llama.engine.status import EngineStatus
from twisted_llama.settings import LoadedSettings, Settings


class Threads:
    """
    A thread pool without threads.
    """

    def callInThreadWithCallback(
        self, on_result: Callable[[bool, Any], None], work: Callable[..., Any], *args: Any
    ) -> None:
        on_result(True, work(*args))


class StillReactor(MemoryReactorClock):
    """
    Records what it is asked for.

    @ivar stops: how often it was asked to stop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stops = 0

    def getThreadPool(self) -> Threads:
        return Threads()

    def callFromThread(self, call: Callable[..., Any], *args: Any) -> None:
        call(*args)

    def spawnProcess(self, *args: Any, **named: Any) -> None:
        raise OSError(2, "No such file or directory")

    def stop(self) -> None:
        self.stops += 1


class ScriptedEngine:
    """
    See L{twisted_llama.assembly.engine_link.Engine}.

    @ivar calls: what it was asked to do.
    @ivar stopped: what C{stopService} has returned.
    """

    def __init__(self, status: EngineStatus | None = None) -> None:
        self.status = status or EngineStatus()
        self.address = ("127.0.0.1", 8080)
        self.api_key: str | None = "engine-key"
        self.calls: list[str] = []
        self.stopped: Deferred[None] = Deferred()
        self._observers: list[Callable[[EngineStatus], None]] = []

    def on_change(self, callback: Callable[[EngineStatus], None]) -> None:
        self._observers.append(callback)

    def on_output(self, callback: Callable[[str], None]) -> None:
        """It prints nothing."""

    def become(self, status: EngineStatus) -> None:
        """
        Tell everybody of a new status.
        """
        self.status = status
        for observer in self._observers:
            observer(status)

    def retry(self) -> None:
        self.calls.append("retry")

    def kill_now(self) -> None:
        self.calls.append("kill_now")

    def startService(self) -> None:
        self.calls.append("start")

    def stopService(self) -> Deferred[None]:
        self.calls.append("stop")
        return self.stopped


def load(directory: Path, **given: object) -> LoadedSettings:
    """
    Settings for a gateway that writes no logs; an external engine unless they say otherwise.
    """
    environ: Mapping[str, str] = {
        "ENGINE": "external",
        "DATA_DIR": str(directory),
        "LOG_DIR": "/dev/null/no-logs",
        **{name.upper(): str(value) for name, value in given.items()},
    }
    return Settings.load(environ, None, {})
