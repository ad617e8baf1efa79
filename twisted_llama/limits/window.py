"""
The sliding window: at most C{limit} acceptances in any 60 seconds.

Exact and not estimated from two fixed windows, because the headers sent to clients
promise when they may come again.  Every acceptance is remembered under its own
stamp for as long as it counts, so a window never holds more entries than the limit
it was asked about.

Everything is a function of the window and C{now}.  An acceptance made at I{t} counts
while C{now < t + 60}; what happens at one and the same instant may happen in any
order with the same result.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

from twisted_llama.limits.decision import Decision

WINDOW_SECONDS: Final = 60.0


@define
class Window:
    """
    The acceptances of one key that still count.

    @ivar accepted: the time of each acceptance by its stamp, oldest first.  An
        C{OrderedDict} and not a C{deque}, because one is taken back from the middle;
        not a C{dict}, whose first entry is slow to find once many were removed.
    @ivar oldest: nothing that counts is older; C{inf} before the first.
    @ivar latest: the latest C{now} that was seen, in seconds.  A clock that goes back
        is taken to stand still, so that it changes no limit.
    """

    accepted: OrderedDict[int, float] = field(factory=OrderedDict)
    oldest: float = float("inf")
    latest: float = float("-inf")


def begun(at: float, stamp: int) -> Window:
    """
    A window with one acceptance in it.
    """
    return Window(OrderedDict({stamp: at}), at, at)


def take(window: Window, limit: int, now: float, stamp: int) -> Decision:
    """
    Accept one more request if the limit allows it.

    @param limit: acceptances per 60 s; it may differ from call to call.
    @param now: seconds of a monotonic clock.
    @param stamp: a number not used in this window before.
    """
    if now < window.latest:
        now = window.latest
    else:
        window.latest = now
    accepted = window.accepted
    if window.oldest <= now - WINDOW_SECONDS:
        window.oldest = _forget(accepted, now)
    count = len(accepted)
    if count < limit:
        accepted[stamp] = now
        if not count:
            window.oldest = now
        return Decision(True, limit, limit - count - 1, 0.0, WINDOW_SECONDS, stamp)
    return Decision(False, limit, 0, _until_free(accepted, limit, now), _until_empty(accepted, now))


def give_back(window: Window, stamp: int) -> None:
    """
    Forget one acceptance; nothing happens if it no longer counts or was given back.
    """
    window.accepted.pop(stamp, None)


def is_idle(window: Window, now: float) -> bool:
    """
    Whether nothing in the window can count any more, so that it may be dropped.
    """
    return window.latest <= now - WINDOW_SECONDS


def _forget(accepted: OrderedDict[int, float], now: float) -> float:
    """
    Remove what no longer counts: each acceptance once, so O(1) for each.

    @return: when the oldest of the others was made.
    """
    horizon = now - WINDOW_SECONDS
    while accepted:
        at = next(iter(accepted.values()))
        if at > horizon:
            return at
        accepted.popitem(last=False)
    return float("inf")


def _until_free(accepted: OrderedDict[int, float], limit: int, now: float) -> float:
    """
    Seconds until fewer than C{limit} acceptances count.  That is when the oldest one
    stops counting, unless the limit was lowered a moment ago.
    """
    surplus = len(accepted) - limit
    for place, at in enumerate(accepted.values()):
        if place == surplus:
            return at + WINDOW_SECONDS - now
    return WINDOW_SECONDS


def _until_empty(accepted: OrderedDict[int, float], now: float) -> float:
    """
    Seconds until no acceptance counts.
    """
    for at in reversed(accepted.values()):
        return at + WINDOW_SECONDS - now
    return 0.0
