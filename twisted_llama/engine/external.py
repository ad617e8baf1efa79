"""
An engine that somebody else runs, behind the same interface as our own child.

Its health is asked for the status pages only; requests are relayed whatever
the answer is.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IAgent

from twisted_llama.engine.inquiry import Answer, HttpInquiry, single_use_agent
from twisted_llama.engine.readiness import Readiness
from twisted_llama.engine.spec import EngineSpec
from twisted_llama.engine.status import EngineState, EngineStatus

POLL_SECONDS = 5.0


def judge_health(answer: Answer | None) -> tuple[EngineState, str]:
    """
    @param answer: what the engine's C{/health} answered, if it did.
    @return: the state and the reason for it, in words without an address.
    """
    where = "the engine at BACKEND_HOST:PORT_BACKEND"
    if answer is None:
        return "failed", f"{where} does not answer. Start it, or correct BACKEND_HOST."
    if answer.status == 503:
        return "loading", f"{where} is loading its model."
    if answer.status in (401, 403):
        return "failed", f"{where} refuses the key. Correct BACKEND_API_KEY."
    if answer.status >= 500:
        return "failed", f"{where} answers its health with status {answer.status}."
    # An engine that knows no /health but answers is alive.
    return "ready", ""


class ExternalEngine(Service):
    """
    An engine that is only asked, never started or stopped.

    @param spec: where it is, and its key.
    @param reactor: for time and connections.
    @param wall_clock: the time to show to people, in seconds of the epoch.
    @param agent: what asks it.
    """

    log = Logger()

    def __init__(
        self,
        spec: EngineSpec,
        reactor: IReactorTime,
        *,
        wall_clock: Callable[[], float] = time.time,
        agent: IAgent | None = None,
    ) -> None:
        self._spec = spec
        self._wall_clock = wall_clock
        self._status = EngineStatus(state="stopped", external=True)
        self._inquiry = HttpInquiry(
            agent or single_use_agent(reactor, spec.connect_timeout),
            reactor,
            address=self.address,
            key=spec.api_key,
            timeout_seconds=spec.health_timeout,
        )
        self._readiness = Readiness(self._inquiry, reactor)
        self._polling = LoopingCall(self._poll)
        self._polling.clock = reactor
        self._current: Deferred[None] | None = None
        self._change_observers: list[Callable[[EngineStatus], None]] = []

    @property
    def status(self) -> EngineStatus:
        """
        What was known when it was asked last.
        """
        return self._status

    @property
    def address(self) -> tuple[str, int]:
        """
        Where it listens.
        """
        return self._spec.host, self._spec.port

    @property
    def api_key(self) -> str | None:
        """
        The key that it wants, if it wants one.
        """
        return self._spec.api_key

    @property
    def output_tail(self) -> list[str]:
        """
        Its output is not ours to see.
        """
        return []

    def on_change(self, callback: Callable[[EngineStatus], None]) -> None:
        """
        Have a function told of every change from now on.
        """
        self._change_observers.append(callback)

    def on_output(self, callback: Callable[[str], None]) -> None:
        """
        Its output is not ours to see, so the function is never called.
        """

    def retry(self) -> None:
        """
        Ask it now rather than at the next turn.
        """
        if self._polling.running and self._current is None:
            self._polling.reset()
            self._poll()

    def kill_now(self) -> None:
        """
        It is not ours to end.
        """

    def startService(self) -> None:
        """
        Begin to ask.
        """
        super().startService()
        self._publish(evolve(self._status, state="starting", reason="it was not asked yet."))
        self._polling.start(POLL_SECONDS, now=True)

    def stopService(self) -> Deferred[None]:
        """
        Stop asking.
        """
        super().stopService()
        if self._polling.running:
            self._polling.stop()
        if self._current is not None:
            self._current.cancel()
        self._publish(
            evolve(self._status, state="stopped", reason="", reachable=False, ready_since=None)
        )
        stopped: Deferred[None] = Deferred()
        stopped.callback(None)
        return stopped

    def _poll(self) -> None:
        # Not returned to the LoopingCall, which would end for good at an error.
        if self._current is not None:
            return
        current = Deferred.fromCoroutine(self._ask())
        if not current.called:
            self._current = current
        current.addErrback(self._poll_failed)
        current.addBoth(self._poll_done)

    def _poll_done(self, _result: None) -> None:
        self._current = None

    def _poll_failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self.log.failure("Asking the external engine failed", failure)

    async def _ask(self) -> None:
        answer = await self._inquiry.ask(b"GET", b"/health")
        state, reason = judge_health(answer)
        ready = state == "ready"
        was_ready = self._status.state == "ready"
        slots = self._status.slots
        if ready and not was_ready:
            slots = await self._readiness.count_slots()
        self._publish(
            evolve(
                self._status,
                state=state,
                reason=reason,
                slots=slots,
                reachable=answer is not None,
                ready_since=(self._status.ready_since if was_ready else self._wall_clock())
                if ready
                else None,
            )
        )

    def _publish(self, status: EngineStatus) -> None:
        if status == self._status:
            return
        if status.state != self._status.state:
            self.log.info(
                "External engine is {state}: {reason}", state=status.state, reason=status.reason
            )
        self._status = status
        for observer in list(self._change_observers):
            try:
                observer(status)
            except Exception:
                self.log.failure("An observer of the engine failed")
