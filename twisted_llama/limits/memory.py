"""
The windows of one gateway, in its own memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import cast

from twisted_llama.limits import window
from twisted_llama.limits.decision import Decision
from twisted_llama.limits.window import WINDOW_SECONDS, Window

#: What is kept of a key that came but once within the minute, as most of very many
#: do: when, and the stamp.  It is a tenth of a L{Window}, and the garbage collector,
#: which would have to walk all of them, leaves tuples of numbers alone.
_Once = tuple[float, int]


class MemoryLimits:
    """
    One sliding window for each key that was used within the last minute.

    There is no periodic process: every request looks at the two keys that were not
    used for longest and drops them if they are idle, so that memory follows the keys
    in use.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """
        @param monotonic: seconds that do not jump, C{time.monotonic}.  Not a reactor's
            C{seconds}: that is the wall clock.
        """
        self._monotonic = monotonic
        self._windows: OrderedDict[str, Window | _Once] = OrderedDict()
        self._stamps = count()

    def __len__(self) -> int:
        """
        How many keys are remembered.
        """
        return len(self._windows)

    def take(self, key_id: str, limit: int) -> Decision:
        """
        Accept one more request of a key if its limit allows it.

        @param limit: accepted requests per minute, at least 1.
        """
        now = self._monotonic()
        windows = self._windows
        stamp = next(self._stamps)
        kept = windows.get(key_id)
        if kept is None:
            windows[key_id] = (now, stamp)
            decision = Decision(True, limit, limit - 1, 0.0, WINDOW_SECONDS, stamp)
        else:
            windows.move_to_end(key_id)
            if isinstance(kept, tuple):
                kept = windows[key_id] = window.begun(*kept)
            decision = window.take(kept, limit, now, stamp)
        if len(windows) > 1:
            self._drop_idle(now)
        return decision

    def give_back(self, key_id: str, decision: Decision) -> None:
        """
        The request was refused later, so it does not count.  Harmless for a decision
        that did not allow it, and when said twice.
        """
        kept = self._windows.get(key_id)
        if kept is None or not decision.allowed:
            return
        stamp = cast(int, decision.stamp)
        if not isinstance(kept, tuple):
            window.give_back(kept, stamp)
        elif kept[1] == stamp:
            del self._windows[key_id]

    def _drop_idle(self, now: float) -> None:
        """
        Drop the two keys that were not used for longest, if they are idle: so
        idle ones go faster than new ones can come.
        """
        windows = self._windows
        for _ in range(2):
            oldest = next(iter(windows))
            kept = windows[oldest]
            if isinstance(kept, tuple):
                if kept[0] > now - WINDOW_SECONDS:
                    return
            elif not window.is_idle(kept, now):
                return
            del windows[oldest]
