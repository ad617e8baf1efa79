"""
What is known about the engine, as frozen values that may be shown to anyone.

No field ever holds a secret or a path of this machine.
"""

from __future__ import annotations

from typing import Literal

from attrs import frozen

EngineState = Literal[
    "stopped", "starting", "loading", "ready", "stopping", "crashed", "backoff", "failed"
]


@frozen
class LastExit:
    """
    How the engine's process ended last.

    @ivar code: its exit code; L{None} if a signal ended it or it never ran.
    @ivar signal: the name of the signal that ended it, as C{SIGKILL}.
    @ivar reason: in plain words, what went wrong and what to do about it.
    """

    code: int | None
    signal: str | None
    reason: str

    def how(self) -> str:
        """
        @return: the exit in two words, for a line of a log.
        """
        if self.signal is not None:
            return f"signal {self.signal}"
        if self.code is not None:
            return f"exit code {self.code}"
        return "not started"


@frozen
class EngineStatus:
    """
    One moment of the engine, published at every change.

    @ivar state: the state of its life; an engine that somebody else runs is
        C{ready}, C{loading} or C{failed}.
    @ivar model: the file name of the model, without its directories.
    @ivar pid: the child's process id.
    @ivar restarts: how often it was started again since the gateway started.
    @ivar ready_since: since when it is ready, in seconds of the epoch.
    @ivar last_exit: how it ended last, if it did.
    @ivar reason: why it is not ready, in plain words; empty if there is nothing to say.
    @ivar slots: how many requests it works on at once, once that is known.
    @ivar external: it is not our child: requests are relayed whatever C{state} says.
    @ivar reachable: it answered the last time it was asked.
    """

    state: EngineState = "stopped"
    model: str | None = None
    pid: int | None = None
    restarts: int = 0
    ready_since: float | None = None
    last_exit: LastExit | None = None
    reason: str = ""
    slots: int | None = None
    external: bool = False
    reachable: bool = False
