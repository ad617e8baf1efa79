"""
The gate in front of the engine: as many at once as it has slots, the others wait.

What happens to a request that comes:

  1. the gateway drains: C{Draining};
  2. the engine has failed: C{EngineUnavailable};
  3. the engine is ready, a slot is free and nobody waits: a ticket at once;
  4. the queue is full: C{ModelLoading} while the engine loads, else C{QueueFull};
  5. otherwise it waits, until
       - 5.1 it is next and a slot is free and the engine is ready: a ticket,
       - 5.2 C{queue_timeout} is over: C{ModelLoading} if the engine is not ready, else
         C{QueueTimeout},
       - 5.3 its client leaves: it gives up, nothing is left of it,
       - 5.4 1 or 2 comes true.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, Literal, NoReturn

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_llama.admission.estimate import clamp, next_mean, retry_after
from twisted_llama.admission.queue import FairQueue
from twisted_llama.admission.ticket import Ticket, Waiter
from twisted_llama.errors import (
    Draining,
    EngineUnavailable,
    GatewayError,
    ModelLoading,
    QueueFull,
    QueueTimeout,
)

EngineState = Literal["ready", "loading", "failed"]
_UNKNOWN_LOADING_SECONDS: Final = 5.0


class Gate:
    """
    Hands out tickets, fairly between keys.

    Until L{set_engine} says otherwise the engine is loading.

    @ivar active: slots in use.
    @ivar max_concurrent: slots there are; fewer than C{active} only after L{resize}.
    @ivar max_queue_size: how many may wait; 0 is no bound.
    @ivar rejections: how many were refused, by the C{code} of the error.
    @ivar wait_seconds_total: the waits of all that left the queue, however they did.
    @ivar loading_estimate: how many more seconds the engine will load, if that is known.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        max_concurrent: int,
        max_queue_size: int,
        queue_timeout: float,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        """
        @param queue_timeout: the longest wait in seconds.
        @param monotonic: what waits are measured with; C{clock.seconds} by default, which
            jumps when a reactor's does.
        @raise ValueError: if C{max_concurrent} is below 1 or C{max_queue_size} below 0.
        """
        if max_queue_size < 0:
            raise ValueError(f"max_queue_size must be 0 or more, not {max_queue_size}")
        self.active = 0
        self.max_concurrent = _at_least_one(max_concurrent)
        self.max_queue_size = max_queue_size
        self.loading_estimate: float | None = None
        self.wait_seconds_total = 0.0
        self.rejections = {
            error.code: 0
            for error in (QueueFull, QueueTimeout, ModelLoading, Draining, EngineUnavailable)
        }
        self._clock = clock
        self._queue_timeout = queue_timeout
        self._now = clock.seconds if monotonic is None else monotonic
        self._engine: EngineState = "loading"
        self._failure_reason = ""
        self._draining = False
        # Ready and not draining, as one look.
        self._open = False
        self._granting = False
        self._queue: FairQueue[Waiter] = FairQueue()
        self._timer: IDelayedCall | None = None
        self._mean_held: float | None = None
        self._idle_waiters: list[Deferred[None]] = []

    @property
    def waiting(self) -> int:
        """
        How many wait.
        """
        return len(self._queue)

    def admit(self, key_id: str, waiter: Waiter) -> Ticket | None:
        """
        Ask for a slot.

        @param waiter: is told later if it has to wait: of its ticket, or why it gets none,
            which may be any of the errors below and C{QueueTimeout}.
        @return: a ticket if one is to be had at once, else C{None}.
        @raise Draining: the gateway is shutting down.
        @raise EngineUnavailable: the engine has failed.
        @raise ModelLoading: the engine is loading and the queue is full.
        @raise QueueFull: the queue is full.
        """
        if self._open and self.active < self.max_concurrent and not self._queue:
            self.active += 1
            self._queue.served_last = key_id
            return Ticket(self, self._now(), 0.0)
        refusal = self._closed() or self._full()
        if refusal is not None:
            self._refuse(refusal)
        waiter.joined_at = self._now()
        self._queue.join(key_id, waiter, waiter.joined_at + self._queue_timeout)
        self._watch_deadlines()
        return None

    def give_up(self, waiter: Waiter) -> None:
        """
        It does not wait any longer, and is told nothing more.
        """
        if self._queue.remove(waiter):
            self._count_wait(waiter)
            self._settle()

    def would_refuse(self) -> GatewayError | None:
        """
        Why the gateway is not ready for more, for C{/ready}.  An engine that loads is
        such a reason although requests wait for it: who can choose should ask another.
        """
        refusal = self._closed() or self._full()
        if refusal is None and self._engine == "loading":
            return self._loading()
        return refusal

    def set_engine(self, state: EngineState, reason: str = "") -> None:
        """
        What the engine does now.

        @param reason: why it has failed; clients are told.
        """
        self._engine = state
        self._failure_reason = reason
        self._open = state == "ready" and not self._draining
        if state == "failed":
            self._dismiss_all()
        else:
            self._grant()

    def resize(self, max_concurrent: int) -> None:
        """
        Change the number of slots.  More are given out at once; if there are fewer, those
        in use are let finish.

        @raise ValueError: if it is below 1.
        """
        self.max_concurrent = _at_least_one(max_concurrent)
        self._grant()

    def drain(self) -> None:
        """
        Admit nobody any more, and tell those that wait.
        """
        self._draining = True
        self._open = False
        self._dismiss_all()

    def when_idle(self) -> Deferred[None]:
        """
        @return: fires when no slot is in use and nobody waits; it may be cancelled.
        """
        if self._is_idle():
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._forget_idle_waiter)
        self._idle_waiters.append(waiter)
        return waiter

    # -- leaving ---------------------------------------------------------------

    def _take_slot_back(self, granted_at: float) -> None:
        """
        A ticket was released.
        """
        self.active -= 1
        self._mean_held = next_mean(self._mean_held, self._now() - granted_at)
        if self._queue or self._idle_waiters:
            self._grant()

    def _dismiss_all(self) -> None:
        """
        Refuse all that wait, as if they came now.
        """
        self._turn_away_until(inf)
        self._settle()

    def _on_deadline(self) -> None:
        """
        The wait of at least one may be over.
        """
        self._timer = None
        self._turn_away_until(self._now())
        self._settle()

    def _turn_away_until(self, deadline: float) -> None:
        """
        Those whose wait would be over by then.  One after the other: what one does on
        hearing it may be that another gives up.
        """
        while (waiter := self._queue.pop_expired(deadline)) is not None:
            self._count_wait(waiter)
            error = self._counted(self._closed() or self._overdue())
            try:
                waiter.turned_away(error)
            except Exception:
                # Its own fault, and not that of the others.
                self._log.failure("While turning away a request that waited")

    # -- granting --------------------------------------------------------------

    def _grant(self) -> None:
        """
        Give the free slots to those whose turn it is.

        A loop and not a recursion: who is given a ticket may release it at once, which
        comes back here, ten thousand times over.
        """
        if self._granting:
            return
        self._granting = True
        try:
            while self._open and self.active < self.max_concurrent:
                waiter = self._queue.pop()
                if waiter is None:
                    break
                self.active += 1
                try:
                    waiter.admitted(Ticket(self, self._now(), self._count_wait(waiter)))
                except Exception:
                    # Its own fault, and not that of the others.
                    self._log.failure("While admitting a request that waited")
        finally:
            self._granting = False
        self._settle()

    def _settle(self) -> None:
        """
        After anything has left: nobody to time, perhaps, and nothing to wait for.
        """
        self._watch_deadlines()
        if self._idle_waiters and self._is_idle() and not self._granting:
            waiters, self._idle_waiters = self._idle_waiters, []
            for waiter in waiters:
                if not waiter.called:
                    waiter.callback(None)

    def _forget_idle_waiter(self, waiter: Deferred[None]) -> None:
        """
        L{when_idle} was cancelled, perhaps by the one that was told before it.
        """
        if waiter in self._idle_waiters:
            self._idle_waiters.remove(waiter)

    def _is_idle(self) -> bool:
        return self.active == 0 and not self._queue

    def _watch_deadlines(self) -> None:
        """
        One timer for all.  It may come too early, when the one it was set for has left,
        and is set again then; so a wait costs the same however many there are.
        """
        if not self._queue:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None:
            deadline = self._queue.next_deadline()
            assert deadline is not None
            delay = max(0.0, deadline - self._now())
            self._timer = self._clock.callLater(delay, self._on_deadline)

    def _count_wait(self, waiter: Waiter) -> float:
        """
        @return: how long this one waited, in seconds.
        """
        waited = max(0.0, self._now() - waiter.joined_at)
        self.wait_seconds_total += waited
        return waited

    # -- refusing --------------------------------------------------------------

    def _closed(self) -> GatewayError | None:
        """
        Cases 1 and 2.
        """
        if self._draining:
            # Nobody waits any more, or soon.
            return Draining(retry_after(self._mean_held, 0, self.max_concurrent))
        if self._engine == "failed":
            return EngineUnavailable(self._failure_reason)
        return None

    def _full(self) -> GatewayError | None:
        """
        Case 4: nobody more may wait, and waiting would be needed.
        """
        if not self.max_queue_size or len(self._queue) < self.max_queue_size:
            return None
        if self._engine == "loading":
            return self._loading()
        return QueueFull(self._retry_after())

    def _overdue(self) -> GatewayError:
        """
        Case 5.2.
        """
        return self._loading() if self._engine == "loading" else QueueTimeout(self._retry_after())

    def _loading(self) -> ModelLoading:
        if self.loading_estimate is None:
            return ModelLoading(_UNKNOWN_LOADING_SECONDS)
        return ModelLoading(clamp(self.loading_estimate))

    def _retry_after(self) -> float:
        return retry_after(self._mean_held, len(self._queue), self.max_concurrent)

    def _refuse(self, error: GatewayError) -> NoReturn:
        raise self._counted(error)

    def _counted(self, error: GatewayError) -> GatewayError:
        self.rejections[error.code] += 1
        return error


def _at_least_one(max_concurrent: int) -> int:
    if max_concurrent < 1:
        raise ValueError(f"max_concurrent must be 1 or more, not {max_concurrent}")
    return max_concurrent
