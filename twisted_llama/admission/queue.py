"""
Who is next: a queue that is fair between keys.

What happens, in order:

  1. B{join}: the entry goes to the end of its key's line.  A key that had no line yet
     goes to the end of the ring of keys.
  2. B{pop}: the key at the front of the ring gives the first entry of its line; before
     that, if it was the one served last and others wait, it goes to the end of the ring.
       - 2.1 its line is empty now: the key leaves the ring;
       - 2.2 otherwise the key goes to the end of the ring, behind every other key.
  3. B{remove}: the entry leaves its line, wherever it stands there; the key leaves the
     ring with its last entry and keeps its turn otherwise.
  4. B{pop_expired}: all wait equally long, so the entry that joined first is the first
     whose time is over, whatever key it is of; it is removed as in 3.

By 1 and 2.2 every other key that waits is served once between two turns of one key, so
no key starves, however long another's line is.  No step looks at more than one entry:
ten thousand that wait cost each of them no more than ten do.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Entry = TypeVar("Entry", bound=Hashable)


class FairQueue(Generic[Entry]):
    """
    Round robin over key ids, first come first served within one.

    Entries are told apart by equality and are best compared by identity.

    @ivar served_last: the key that had the last turn; who serves a key that need not wait
        says so here, so that it does not have two turns in a row.
    """

    def __init__(self) -> None:
        # The front of each is the next; an OrderedDict also lets go of its middle in O(1).
        # Each entry's deadline is in its line, its key where all are in the order of joining.
        self._ring: OrderedDict[str, OrderedDict[Entry, float]] = OrderedDict()
        self._joined: OrderedDict[Entry, str] = OrderedDict()
        self.served_last: str | None = None

    def __len__(self) -> int:
        """
        How many wait.
        """
        return len(self._joined)

    def __contains__(self, entry: Entry) -> bool:
        """
        Whether an entry waits.
        """
        return entry in self._joined

    def join(self, key_id: str, entry: Entry, deadline: float) -> None:
        """
        Let an entry wait.

        @param deadline: when its wait is over, in seconds; never before the deadline of
            one that joined earlier.
        """
        line = self._ring.get(key_id)
        if line is None:
            line = self._ring[key_id] = OrderedDict()
        line[entry] = deadline
        self._joined[entry] = key_id

    def pop(self) -> Entry | None:
        """
        The next one, which then no longer waits; None if nobody waits.
        """
        if not self._joined:
            return None
        key_id = next(iter(self._ring))
        if key_id == self.served_last and len(self._ring) > 1:
            self._ring.move_to_end(key_id)
            key_id = next(iter(self._ring))
        self.served_last = key_id
        line = self._ring[key_id]
        entry, _ = line.popitem(last=False)
        if line:
            self._ring.move_to_end(key_id)
        else:
            del self._ring[key_id]
        del self._joined[entry]
        return entry

    def remove(self, entry: Entry) -> bool:
        """
        The entry gives up its place.

        @return: whether it had one.
        """
        key_id = self._joined.pop(entry, None)
        if key_id is None:
            return False
        line = self._ring[key_id]
        del line[entry]
        if not line:
            del self._ring[key_id]
        return True

    def pop_expired(self, now: float) -> Entry | None:
        """
        One whose deadline has come, which then no longer waits; None if there is none.
        """
        deadline = self.next_deadline()
        if deadline is None or deadline > now:
            return None
        entry = next(iter(self._joined))
        self.remove(entry)
        return entry

    def next_deadline(self) -> float | None:
        """
        The earliest deadline, in seconds; None if nobody waits.
        """
        for entry, key_id in self._joined.items():
            return self._ring[key_id][entry]
        return None
