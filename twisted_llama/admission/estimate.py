"""
When a refused request should come again.
"""

from __future__ import annotations

from math import ceil
from typing import Final

LONGEST_SECONDS: Final = 300
_NEWEST_WEIGHT: Final = 0.2


def next_mean(mean: float | None, measured: float) -> float:
    """
    An exponentially weighted mean: of the last few, the newest count most.

    @param mean: the mean so far, None before the first measure.
    """
    return measured if mean is None else mean + _NEWEST_WEIGHT * (measured - mean)


def retry_after(mean_held_seconds: float | None, waiting: int, slots: int) -> float:
    """
    Whole seconds until one who joins the queue now would be served.

    @param mean_held_seconds: how long a slot is held, None if it was never measured.
    @param waiting: how many wait already.
    @return: between 1 and 300; 1 if nothing is known.
    """
    if mean_held_seconds is None:
        return 1.0
    return clamp(mean_held_seconds * (waiting + 1) / slots)


def clamp(seconds: float) -> float:
    """
    Whole seconds that may be asked of a client: 1 to 300.
    """
    return float(min(LONGEST_SECONDS, max(1, ceil(seconds))))
