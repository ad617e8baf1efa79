"""
The child process as a source of events: lines of output, and the exit.

It decides nothing; L{twisted_llama.engine.supervisor} does.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol

from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from twisted_llama.engine.output import LineSplitter

_STDOUT = 1


class ProcessEvents(Protocol):
    """
    What happens to a child, in the order in which it happens.
    """

    def line(self, text: str) -> None:
        """
        The child printed a line, on either of its streams.
        """

    def reaped(self) -> None:
        """
        The child is gone and leaves no zombie; its output may not be read whole yet.
        """

    def ended(self, code: int | None, signal_name: str | None) -> None:
        """
        The child is gone and all its output has been seen.
        """


class EngineProcess(ProcessProtocol):
    """
    Turns what Twisted says about a child into L{ProcessEvents}.
    """

    def __init__(self, events: ProcessEvents) -> None:
        self._events = events
        self._out = LineSplitter()
        self._err = LineSplitter()

    def connectionMade(self) -> None:
        """
        The child runs; it has nothing to read from us.
        """
        assert self.transport is not None
        self.transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """
        The child wrote on one of its streams.
        """
        splitter = self._out if childFD == _STDOUT else self._err
        for text in splitter.feed(data):
            self._events.line(text)

    def processExited(self, reason: Failure) -> None:
        """
        The child was reaped.
        """
        self._events.reaped()

    def processEnded(self, reason: Failure) -> None:
        """
        The child was reaped and its pipes are closed.
        """
        for splitter in (self._out, self._err):
            for text in splitter.finish():
                self._events.line(text)
        self._events.ended(*exit_facts(reason))


def exit_facts(reason: Failure) -> tuple[int | None, str | None]:
    """
    @return: the exit code and the signal's name; one of them is L{None}.
    """
    terminated = reason.value
    if not isinstance(terminated, ProcessTerminated):
        return 0, None
    if terminated.signal is None:
        return terminated.exitCode, None
    return None, signal_name(terminated.signal)


def signal_name(number: int) -> str:
    """
    @return: a name as C{SIGKILL}, or the number for one without a name.
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


OnLine = Callable[[str], None]
