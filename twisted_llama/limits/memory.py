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
from twisted_llama.limits.window import Window


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
        self._windows: OrderedDict[str, Window] = OrderedDict()
        self._stamps = count()

    def __len__(self) -> int:
        """
        How many keys are remembered.
        """
        return len(self._windows)

    def take(self, key_id: str, limit: int) -> Decision:
        """
        Accept one more request of a key if its limit allows it.

        @param limit: accepted requests per minute.
        """
        now = self._monotonic()
        windows = self._windows
        kept = windows.get(key_id)
        if kept is None:
            kept = windows[key_id] = window.new_window()
        else:
            windows.move_to_end(key_id)
        decision = window.take(kept, limit, now, next(self._stamps))
        if len(windows) > 1:
            self._drop_idle(now)
        return decision

    def give_back(self, key_id: str, decision: Decision) -> None:
        """
        The request was refused later, so it does not count.  Harmless for a decision
        that did not allow it, and when said twice.
        """
        kept = self._windows.get(key_id)
        if kept is not None and decision.allowed:
            window.give_back(kept, cast(int, decision.stamp))

    def _drop_idle(self, now: float) -> None:
        """
        Drop the two keys that were not used for longest, if they are idle: so
        idle ones go faster than new ones can come.
        """
        windows = self._windows
        for _ in range(2):
            oldest = next(iter(windows))
            if not window.is_idle(windows[oldest], now):
                return
            del windows[oldest]
