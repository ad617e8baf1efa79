"""
Permission to use one slot of the engine.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred


class SlotOwner(Protocol):
    """
    Where a slot comes from and goes back to.
    """

    def _take_slot_back(self, granted_at: float) -> None: ...


class Ticket:
    """
    One slot, held until it is released.

    @ivar waited_seconds: how long was waited for it.
    """

    __slots__ = ("_granted_at", "_owner", "waited_seconds")

    def __init__(self, owner: SlotOwner, granted_at: float, waited_seconds: float) -> None:
        self._owner: SlotOwner | None = owner
        self._granted_at = granted_at
        self.waited_seconds = waited_seconds

    def release(self) -> None:
        """
        Give the slot back.  Again is harmless.
        """
        owner = self._owner
        if owner is not None:
            self._owner = None
            owner._take_slot_back(self._granted_at)


class Place(Deferred[Ticket]):
    """
    A place in the queue: fires with the ticket, or fails with why there is none.

    Unlike other Deferreds it can be cancelled when it has fired but nobody has looked at
    the result: a client may leave in the very turn in which its ticket is granted, and
    the slot must not be lost with it.

    @ivar joined_at: when the wait began, in seconds.
    """

    joined_at: float = 0.0

    def cancel(self) -> None:
        """
        Give up the place, or the ticket if it was not taken yet.
        """
        super().cancel()
        ticket = getattr(self, "result", None)
        if isinstance(ticket, Ticket):
            ticket.release()
