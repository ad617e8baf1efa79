"""
Many deadlines, one timer.

A C{callLater} for every time-out, moved with every read, costs more than the
read.  Here those that may be late carry their deadline as an attribute, which
costs nothing to move, and are all looked at a few times a second.
"""

from __future__ import annotations

from math import inf
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger


class Timed(Protocol):
    """
    Something that may be late.

    @ivar deadline: before this there is no need to look, seconds; C{-inf} to be
        looked at each time, C{inf} for never.
    """

    deadline: float

    def check_deadline(self, now: float) -> None:
        """
        Look whether what was waited for is late, and act if so.

        @param now: seconds of the clock that L{Deadlines} was given.
        """


class Deadlines:
    """
    Looks at all that may be late, every L{interval_seconds}, while there is any.

    Very many are looked at in portions, a thousand each tenth of a second: whatever
    else there is to do has its turn between them, and what it costs stays the same
    however many there are, at the price of finding the late ones among twenty thousand
    two seconds late.  To look at one that nobody has touched for long is to wait for
    its memory: four times a second for each of ten thousand requests in the queue it
    was a twentieth of what it took to serve them.

    After a time in which this process could not run, as on a machine that slept or has
    too much to do, it waits a moment longer: what came meanwhile shall be read before
    anybody is found to be late.
    """

    _log = Logger()
    interval_seconds = 0.25
    portion = 1000
    pause_seconds = 0.1
    held_up_seconds = 1.0

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self._timed: set[Timed] = set()
        self._to_look_at: list[Timed] = []
        self._call: IDelayedCall | None = None
        self._due = inf

    def __len__(self) -> int:
        return len(self._timed)

    def add(self, timed: Timed) -> None:
        """
        Begin to look at C{timed}.
        """
        self._timed.add(timed)
        if self._call is None:
            self._look_in(self.interval_seconds)

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
        self._to_look_at.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._call = None
        if not self._timed:
            self._to_look_at.clear()
            return
        now = self.clock.seconds()
        if now > self._due + self.held_up_seconds:
            self._look_in(self.interval_seconds)
            # Not twice: who is never in time shall still look.
            self._due = inf
            return
        waiting = self._to_look_at = self._to_look_at or list(self._timed)
        portion = waiting[-self.portion :]
        del waiting[-self.portion :]
        # First those, without a call for each: of thousands hardly one is late.
        late = [timed for timed in portion if timed.deadline <= now]
        for timed in late:
            if timed not in self._timed or timed.deadline > now:
                # One that was looked at before has ended it, or put it off.
                continue
            try:
                timed.check_deadline(now)
            except Exception:
                # One that fails must not keep all others waiting for ever.
                self._log.failure("While looking at the deadline of {timed}", timed=timed)
        if self._timed and self._call is None:
            self._look_in(self.pause_seconds if self._to_look_at else self.interval_seconds)

    def _look_in(self, seconds: float) -> None:
        self._due = self.clock.seconds() + seconds
        self._call = self.clock.callLater(seconds, self._look)
