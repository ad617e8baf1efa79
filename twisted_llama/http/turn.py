"""
What is put off to the end of the reactor's turn.
"""

from __future__ import annotations

from collections.abc import Callable
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
    had something to say in it, first all is sent that was written, and then all
    else is done that nobody waits for.

    To send wakes up who reads, and that costs as much as all the rest of
    sending, unless it is awake already for what was sent just before.  And what
    is done for many requests one after the other costs less than half of what it
    costs when each time the processor has done something else meanwhile.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._outlets: list[Flushable] = []
        self._afterwards: list[Callable[[], None]] = []
        self._ends = False

    def add(self, outlet: Flushable) -> None:
        """
        Have an outlet flushed.
        """
        if not self._ends:
            self._ends = True
            self._clock.callLater(0, self._end)
        self._outlets.append(outlet)

    def afterwards(self, call: Callable[[], None]) -> None:
        """
        Have something done when all is sent.
        """
        if not self._ends:
            self._ends = True
            self._clock.callLater(0, self._end)
        self._afterwards.append(call)

    def _end(self) -> None:
        outlets, self._outlets = self._outlets, []
        afterwards, self._afterwards = self._afterwards, []
        self._ends = False
        for outlet in outlets:
            try:
                outlet.flush()
            except Exception:
                # One that fails must not keep the others from being sent.
                self._log.failure("While sending at the end of a turn")
        for call in afterwards:
            try:
                call()
            except Exception:
                # The same: nobody waits for it, and the others have to be done.
                self._log.failure("At the end of a turn")
