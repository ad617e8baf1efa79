"""
The sliding window: at most C{limit} acceptances in any 60 seconds.

Exact and not estimated from two fixed windows, because the headers sent to clients
promise when they may come again.  Every acceptance is remembered under its own
stamp for as long as it counts, so a window never holds more entries than the limit
it was asked about.

Everything is a function of the window and C{now}.  An acceptance made at I{t} counts
while C{now < t + 60}; what happens at one and the same instant may happen in any
order with the same result.

A window is an array of numbers and nothing else: the latest C{now} that was seen, the
place of the first acceptance, and then each acceptance as its time and its stamp, oldest
first.  There may be a hundred thousand of them, and some with as many acceptances: as
objects they took several times the memory, and the garbage collector walked all of them
time and again while streams waited.  An array it leaves alone.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final, TypeAlias

from twisted_llama.limits.decision import Decision

WINDOW_SECONDS: Final = 60.0

Window: TypeAlias = "array[float]"
_LATEST: Final = 0
_FIRST: Final = 1
_ACCEPTANCES: Final = 2
_EMPTY: Final = array("d", (float("-inf"), _ACCEPTANCES))


def new_window() -> Window:
    """
    A window in which nothing was accepted.
    """
    return _EMPTY[:]


def take(window: Window, limit: int, now: float, stamp: int) -> Decision:
    """
    Accept one more request if the limit allows it.

    @param limit: acceptances per 60 s; it may differ from call to call.
    @param now: seconds of a monotonic clock.  One that goes back is taken to stand
        still, so that it changes no limit.
    @param stamp: a number above all those used in this window before, below 2**53.
    """
    if now < window[_LATEST]:
        now = window[_LATEST]
    else:
        window[_LATEST] = now
    first = int(window[_FIRST])
    if first < len(window) and window[first] <= now - WINDOW_SECONDS:
        first = _forget(window, first, now)
    count = (len(window) - first) // 2
    if count < limit:
        window.append(now)
        window.append(stamp)
        return Decision(True, limit, limit - count - 1, 0.0, WINDOW_SECONDS, stamp)
    # Until fewer than the limit count: that is when the oldest one stops counting, unless
    # the limit was lowered a moment ago.
    surplus = first + 2 * (count - limit)
    until_free = window[surplus] + WINDOW_SECONDS - now if limit else WINDOW_SECONDS
    until_empty = window[-2] + WINDOW_SECONDS - now if count else 0.0
    return Decision(False, limit, 0, until_free, until_empty)


def give_back(window: Window, stamp: int) -> None:
    """
    Forget one acceptance; nothing happens if it no longer counts or was given back.
    """
    stamps = range(int(window[_FIRST]) + 1, len(window), 2)
    at = bisect_left(stamps, float(stamp), key=lambda place: window[place])
    if at < len(stamps) and window[stamps[at]] == stamp:
        del window[stamps[at] - 1 : stamps[at] + 1]


def _forget(window: Window, first: int, now: float) -> int:
    """
    Leave out what no longer counts.  The array is moved up when half of it is left
    out, so that each acceptance is moved about once.

    @param first: the place of the first acceptance.
    @return: the place of the first one that counts.
    """
    horizon = now - WINDOW_SECONDS
    while first < len(window) and window[first] <= horizon:
        first += 2
    if first * 2 > len(window):
        del window[_ACCEPTANCES:first]
        first = _ACCEPTANCES
    window[_FIRST] = first
    return first
