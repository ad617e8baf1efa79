"""
What is put off to the end of the reactor's turn.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger


class Flushable(Protocol):
    """
    Something that holds what is to be sent.
    """

    def flush(self) -> object:
        """
        Send it.
        """


class Turn:
    """
    One turn of the reactor after the other.  When everybody has been heard who
    had something to say in it, all is sent that was written.

    To send wakes up who reads, and that costs as much as all the rest of
    sending, unless it is awake already for what was sent just before.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._outlets: list[Flushable] = []

    def add(self, outlet: Flushable) -> None:
        """
        Have an outlet flushed.
        """
        if not self._outlets:
            self._clock.callLater(0, self._end)
        self._outlets.append(outlet)

    def _end(self) -> None:
        outlets, self._outlets = self._outlets, []
        for outlet in outlets:
            try:
                outlet.flush()
            except Exception:
                # One that fails must not keep the others from being sent.
                self._log.failure("While sending at the end of a turn")
