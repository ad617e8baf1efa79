"""
What a limit says about one request.
"""

from __future__ import annotations

from attrs import define, field


# Not frozen, for one is made for every request, and freezing doubles what that costs.
@define
class Decision:
    """
    The answer of a limit to one request of a key.

    @ivar allowed: whether the request was accepted, and counted.
    @ivar limit: accepted requests per minute.
    @ivar remaining: how many more would be accepted now.
    @ivar retry_after_seconds: until the next one would be accepted; 0 when this one was.
    @ivar reset_seconds: until the whole limit is free again.
    @ivar stamp: names this one acceptance to the store that made it, so that
        C{give_back} takes back neither another one nor this one twice.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after_seconds: float
    reset_seconds: float
    stamp: object = field(default=None, repr=False, eq=False)
