"""
The windows of one gateway, in its own memory.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import cast

from twisted_llama.limits import window
from twisted_llama.limits.decision import Decision
from twisted_llama.limits.window import WINDOW_SECONDS, Window


class MemoryLimits:
    """
    One sliding window for each key that was used within the last minute, or the
    minute before.

    There is no periodic process and no order to keep: windows are in one of two
    dicts, those of keys that were used since a certain moment and the older ones.  A
    minute after that moment nothing in the older ones counts any more; then every
    request drops two of them, faster than new ones can come, and when none is left
    the others are the older ones.  Dicts of strings and bytes are nothing to the
    garbage collector, which walked each key of an C{OrderedDict}.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """
        @param monotonic: seconds that do not jump, C{time.monotonic}.  Not a reactor's
            C{seconds}: that is the wall clock.
        """
        self._monotonic = monotonic
        self._recent: dict[str, Window] = {}
        self._older: dict[str, Window] = {}
        self._older_idle_at = float("-inf")
        self._stamps = count()

    def __len__(self) -> int:
        """
        How many keys are remembered.
        """
        return len(self._recent) + len(self._older)

    def take(self, key_id: str, limit: int) -> Decision:
        """
        Accept one more request of a key if its limit allows it.

        @param limit: accepted requests per minute.
        """
        now = self._monotonic()
        if now >= self._older_idle_at:
            self._drop_idle(now)
        kept = self._recent.get(key_id)
        if kept is None:
            kept = self._older.pop(key_id, None)
            if kept is None:
                kept = window.new_window()
            self._recent[key_id] = kept
        return window.take(kept, limit, now, next(self._stamps))

    def give_back(self, key_id: str, decision: Decision) -> None:
        """
        The request was refused later, so it does not count.  Harmless for a decision
        that did not allow it, and when said twice.
        """
        kept = self._recent.get(key_id)
        if kept is None:
            kept = self._older.get(key_id)
        if kept is not None and decision.allowed:
            window.give_back(kept, cast(int, decision.stamp))

    def _drop_idle(self, now: float) -> None:
        """
        Drop two of the older windows, which are idle now; when there are no more, begin
        with the others.
        """
        for _ in range(2):
            if not self._older:
                self._older, self._recent = self._recent, {}
                self._older_idle_at = now + WINDOW_SECONDS
                return
            self._older.popitem()
