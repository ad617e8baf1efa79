"""
The requests that are being served, so that they can be ended from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_llama.auth.realm import Principal
from twisted_llama.errors import GatewayError, InvalidKey


class Run(Protocol):
    """
    One request being served.

    @ivar principal: whose it is, if keys are on.
    @ivar expiry: what ends it when its key expires.
    """

    principal: Principal | None
    expiry: IDelayedCall | None

    def end(self, error: GatewayError) -> None:
        """
        End the request; its client gets C{error}, one way or the other.
        """


class RunningRequests:
    """
    All of them.
    """

    def __init__(self, clock: IReactorTime, wall_clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._runs: set[Run] = set()
        self._when_none: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._runs)

    def begin(self, run: Run) -> None:
        """
        A request begins to be served.
        """
        self._runs.add(run)
        principal = run.principal
        if principal is not None and principal.expires is not None:
            wait = max(0.0, principal.expires - self._wall_clock())
            run.expiry = self._clock.callLater(wait, run.end, InvalidKey("expired"))

    def over(self, run: Run) -> None:
        """
        It is served no more.
        """
        self._runs.discard(run)
        expiry, run.expiry = run.expiry, None
        if expiry is not None and expiry.active():
            expiry.cancel()
        if not self._runs and self._when_none:
            waiting, self._when_none = self._when_none, []
            for deferred in waiting:
                deferred.callback(None)

    def when_none(self) -> Deferred[None]:
        """
        Fires when no request is being served.
        """
        if not self._runs:
            return succeed(None)
        none: Deferred[None] = Deferred(self._when_none.remove)
        self._when_none.append(none)
        return none

    def end_revoked(self, holds: Callable[[Principal], bool]) -> None:
        """
        End the requests whose key is no longer in force.
        """
        for run in tuple(self._runs):
            if run.principal is not None and not holds(run.principal):
                run.end(InvalidKey("unknown"))

    def end_all(self, error: GatewayError) -> None:
        """
        End all of them.
        """
        for run in tuple(self._runs):
            run.end(error)
