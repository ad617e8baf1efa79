"""
Many deadlines, one timer.

A C{callLater} for every time-out, moved with every read, costs more than the
read.  Here those that may be late carry their deadline as an attribute, which
costs nothing to move, and are all looked at a few times a second.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger


class Timed(Protocol):
    """
    Something that may be late.
    """

    def check_deadline(self, now: float) -> None:
        """
        Look whether what was waited for is late, and act if so.

        @param now: seconds of the clock that L{Deadlines} was given.
        """


class Deadlines:
    """
    Looks at all that may be late, every L{interval_seconds}, while there is any.
    """

    _log = Logger()
    interval_seconds = 0.25

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self._timed: set[Timed] = set()
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._timed)

    def add(self, timed: Timed) -> None:
        """
        Begin to look at C{timed}.
        """
        self._timed.add(timed)
        if self._call is None:
            self._call = self.clock.callLater(self.interval_seconds, self._look)

    def discard(self, timed: Timed) -> None:
        """
        Look at C{timed} no more.
        """
        self._timed.discard(timed)

    def stop(self) -> None:
        """
        Look at nothing any more.
        """
        self._timed.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._call = None
        now = self.clock.seconds()
        for timed in tuple(self._timed):
            if timed not in self._timed:
                # One that was looked at before has ended it.
                continue
            try:
                timed.check_deadline(now)
            except Exception:
                # One that fails must not keep all others waiting for ever.
                self._log.failure("While looking at the deadline of {timed}", timed=timed)
        if self._timed and self._call is None:
            self._call = self.clock.callLater(self.interval_seconds, self._look)
