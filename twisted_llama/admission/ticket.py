"""
Permission to use one slot of the engine, and who waits for it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from twisted_llama.errors import GatewayError


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


class Waiter(Hashable, Protocol):
    """
    One that waits for a ticket.  It is the place in the queue itself: ten thousand may wait,
    and the less there is of each, the less has to be fetched from memory when its turn has come.

    @ivar joined_at: when the wait began, in seconds; the gate sets it.
    """

    joined_at: float

    def admitted(self, ticket: Ticket) -> None:
        """
        Its turn has come.
        """

    def turned_away(self, error: GatewayError) -> None:
        """
        Its turn will not come.
        """
