"""
The sliding window: at most C{limit} acceptances in any 60 seconds.

Exact and not estimated from two fixed windows, because the headers sent to clients
promise when they may come again.  Every acceptance is remembered under its own
stamp for as long as it counts, so a window never holds more entries than the limit
it was asked about.

Everything is a function of the window and C{now}.  An acceptance made at I{t} counts
while C{now < t + 60}; what happens at one and the same instant may happen in any
order with the same result.

A window is a row of bytes, each acceptance its time and its stamp, oldest first.  There
may be a hundred thousand of them, and some with as many acceptances: as objects they took
several times the memory, and the garbage collector walked all of them time and again
while streams waited.  It does not know a C{bytearray}, which also forgets its beginning
without moving the rest; an C{array} it walks, though there is nothing in it.
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct
from typing import Final, TypeAlias

from twisted_llama.limits.decision import Decision

WINDOW_SECONDS: Final = 60.0

Window: TypeAlias = bytearray
_ACCEPTANCE: Final = Struct("dq")
_pack, _unpack_from = _ACCEPTANCE.pack, _ACCEPTANCE.unpack_from
_SIZE: Final = _ACCEPTANCE.size

#: A window in which nothing was accepted.
new_window = bytearray


def take(window: Window, limit: int, now: float, stamp: int) -> Decision:
    """
    Accept one more request if the limit allows it.

    @param limit: acceptances per 60 s; it may differ from call to call.
    @param now: seconds of a monotonic clock.  One that goes back is taken to stand
        still, so that it changes no limit.
    @param stamp: a number above all those used in this window before.
    """
    size = len(window)
    if size:
        latest: float = _unpack_from(window, size - _SIZE)[0]
        if now < latest:
            now = latest
        if _unpack_from(window)[0] <= now - WINDOW_SECONDS:
            _forget(window, now)
            size = len(window)
    count = size // _SIZE
    if count < limit:
        window += _pack(now, stamp)
        return Decision(True, limit, limit - count - 1, 0.0, WINDOW_SECONDS, stamp)
    # Until fewer than the limit count: that is when the oldest one stops counting, unless
    # the limit was lowered a moment ago.
    until_free = _until_over(window, (count - limit) * _SIZE, now) if limit else WINDOW_SECONDS
    until_empty = _until_over(window, size - _SIZE, now) if size else 0.0
    return Decision(False, limit, 0, until_free, until_empty)


def give_back(window: Window, stamp: int) -> None:
    """
    Forget one acceptance; nothing happens if it no longer counts or was given back.
    """
    places = range(0, len(window), _SIZE)
    at = bisect_left(places, stamp, key=lambda place: _unpack_from(window, place)[1])
    if at < len(places) and _unpack_from(window, places[at])[1] == stamp:
        del window[places[at] : places[at] + _SIZE]


def _until_over(window: Window, place: int, now: float) -> float:
    """
    How many seconds the acceptance at C{place} still counts.
    """
    accepted: float = _unpack_from(window, place)[0]
    return accepted + WINDOW_SECONDS - now


def _forget(window: Window, now: float) -> None:
    """
    Leave out what no longer counts.
    """
    horizon = now - WINDOW_SECONDS
    end = 0
    while end < len(window) and _unpack_from(window, end)[0] <= horizon:
        end += _SIZE
    del window[:end]
