"""
The requests that are being served, so that they can be ended from outside.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from twisted_llama.auth.realm import Principal
from twisted_llama.errors import GatewayError, InvalidKey


class Run:
    """
    One request being served.

    @ivar ended_by: why it was ended from outside, if it was.
    """

    __slots__ = ("_work", "ended_by", "principal")

    def __init__(self, principal: Principal | None) -> None:
        self.principal = principal
        self.ended_by: GatewayError | None = None
        self._work: Deferred[None] | None = None

    def attach(self, work: Deferred[None]) -> None:
        """
        @param work: fires when the request is served; cancelling ends it.
        """
        self._work = work

    def end(self, error: GatewayError) -> None:
        """
        End the request; its client gets C{error}, one way or the other.
        """
        self.ended_by = error
        if self._work is not None:
            self._work.cancel()


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

    def begin(self, run: Run) -> Callable[[], None]:
        """
        A request begins to be served.

        @return: to be called when it is over.
        """
        self._runs.add(run)
        principal = run.principal
        if principal is None or principal.expires is None:
            return lambda: self._over(run)
        wait = max(0.0, principal.expires - self._wall_clock())
        call = self._clock.callLater(wait, run.end, InvalidKey("expired"))

        def over() -> None:
            self._over(run)
            if call.active():
                call.cancel()

        return over

    def _over(self, run: Run) -> None:
        self._runs.discard(run)
        if not self._runs:
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
