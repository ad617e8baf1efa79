"""
Clients that do not read.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted_llama.http.outlet import Outlet


class Stall:
    """
    Looks at a blocked outlet for as long as it is blocked: whoever takes what
    was sent, however slowly, may go on; whoever takes nothing is given up.

    See L{twisted_llama.http.deadlines.Timed}.
    """

    __slots__ = ("_allowed_seconds", "_end", "_on_end", "_outlet", "_progress")
    deadline = -inf

    def __init__(self, outlet: Outlet, allowed_seconds: float, on_end: Callable[[], None]) -> None:
        """
        @param allowed_seconds: how long nothing may be taken.
        @param on_end: called when that is over.
        """
        self._outlet = outlet
        self._allowed_seconds = allowed_seconds
        self._on_end = on_end
        self._progress = -1
        self._end = inf

    def check_deadline(self, now: float) -> None:
        """
        See L{twisted_llama.http.deadlines.Timed}.
        """
        if self._progress != self._outlet.progress:
            self._progress = self._outlet.progress
            self._end = now + self._allowed_seconds
        elif now > self._end:
            self._on_end()
