"""
The limit of each key, as requests meet it.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import Protocol

from twisted.internet.defer import Deferred

from twisted_llama.api.request import ApiRequest
from twisted_llama.errors import RateLimited
from twisted_llama.limits.decision import Decision


class Limits(Protocol):
    """
    Who counts.
    """

    def take(self, key_id: str, limit: int) -> Decision | Deferred[Decision]:
        """
        Accept one more request of a key, if its limit allows it.
        """

    def give_back(self, key_id: str, decision: Decision) -> None:
        """
        What was accepted was refused later for another reason.
        """


@lru_cache(maxsize=128)
def go_duration(seconds: int) -> bytes:
    """
    A duration as OpenAI's clients read it in C{x-ratelimit-reset-requests}:
    Go's notation.
    """
    minutes, seconds = divmod(seconds, 60)
    return b"%dm%ds" % (minutes, seconds) if minutes else b"%ds" % seconds


@lru_cache(maxsize=1024)
def _lines(limit: int, remaining: int, reset_seconds: int) -> bytes:
    """
    What an answer says of its key's limit.
    """
    return (
        b"x-ratelimit-limit-requests: %d\r\n"
        b"x-ratelimit-remaining-requests: %d\r\n"
        b"x-ratelimit-reset-requests: %b\r\n"
    ) % (limit, remaining, go_duration(reset_seconds))


class Limiter:
    """
    Holds requests to the limits of their keys.
    """

    def __init__(self, limits: Limits, requests_per_minute: int) -> None:
        """
        @param requests_per_minute: for keys without a limit of their own.
        """
        self._limits = limits
        self._requests_per_minute = requests_per_minute

    def accept(self, request: ApiRequest) -> Decision | Deferred[Decision] | None:
        """
        Count a request, and let its answer say what is left.

        @return: what L{take_back} takes, or a L{Deferred} of it; C{None} if
            there are no keys, and so no limits.

        @raise RateLimited: if the key has used up its minute.
        """
        principal = request.principal
        if principal is None:
            return None
        limit = principal.requests_per_minute or self._requests_per_minute
        taken = self._limits.take(principal.key_id, limit)
        if isinstance(taken, Decision):
            return self._tell(taken, request)
        return taken.addCallback(self._tell, request)

    @staticmethod
    def _tell(decision: Decision, request: ApiRequest) -> Decision:
        request.common_lines += _lines(
            decision.limit, decision.remaining, max(0, ceil(decision.reset_seconds))
        )
        if not decision.allowed:
            raise RateLimited(decision.limit, decision.retry_after_seconds, decision.reset_seconds)
        return decision

    def take_back(self, request: ApiRequest, decision: Decision | None) -> None:
        """
        The request was refused after all, and does not count.
        """
        if decision is not None and request.principal is not None:
            self._limits.give_back(request.principal.key_id, decision)
