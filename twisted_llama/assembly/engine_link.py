"""
Between the engine and those who have to know about it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from twisted_llama.admission.gate import Gate
from twisted_llama.engine.status import EngineStatus
from twisted_llama.http.pool import EnginePool


class Engine(Protocol):
    """
    What the supervisor of a child and the watcher of an external engine have
    in common.
    """

    @property
    def status(self) -> EngineStatus:
        """
        What is known of the engine.
        """

    @property
    def address(self) -> tuple[str, int]:
        """
        Where it listens now.
        """

    @property
    def api_key(self) -> str | None:
        """
        The key it wants.
        """

    def on_change(self, callback: Callable[[EngineStatus], None]) -> None:
        """
        Be told of every new status.
        """

    def on_output(self, callback: Callable[[str], None]) -> None:
        """
        Be told of every line it prints.
        """

    def retry(self) -> None:
        """
        Try again after having given up.
        """

    def kill_now(self) -> None:
        """
        Do not wait for it to end by itself.
        """

    def startService(self) -> None:
        """
        Begin.
        """

    def stopService(self) -> Deferred[None]:
        """
        End.
        """


class EngineLink:
    """
    Passes on what happens to the engine: to the gate, whether and how many
    requests may go to it; to the pool, that its connections are of no use any
    more; to requests, what it wants to be told.
    """

    def __init__(self, engine: Engine, gate: Gate, pool: EnginePool, follow_slots: bool) -> None:
        """
        @param follow_slots: whether the engine's slots decide how many
            requests it gets at once.
        """
        self._engine = engine
        self._gate = gate
        self._pool = pool
        self._follow_slots = follow_slots
        self._identity = b""
        engine.on_change(self._changed)
        self._changed(engine.status)

    def answers_now(self) -> bool:
        """
        Whether the engine can be asked without waiting.
        """
        status = self._engine.status
        return status.external or status.state == "ready"

    def identity(self) -> bytes:
        """
        The C{Host} line for the engine, and the line with its key if it has one.
        """
        return self._identity

    def _changed(self, status: EngineStatus) -> None:
        if self._follow_slots and status.slots:
            self._gate.resize(status.slots)
        host, port = self._engine.address
        name = f"[{host}]" if ":" in host else host
        self._identity = f"Host: {name}:{port}\r\n".encode("ascii", "replace")
        key = self._engine.api_key
        if key is not None:
            self._identity += f"Authorization: Bearer {key}\r\n".encode("ascii", "replace")
        if status.external or status.state == "ready":
            # What an external engine's health says is told, and changes nothing.
            self._gate.set_engine("ready")
            return
        self._pool.close()
        if status.state == "failed":
            self._gate.set_engine("failed", status.reason)
        else:
            self._gate.set_engine("loading")
