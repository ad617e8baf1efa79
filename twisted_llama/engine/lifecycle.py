"""
The life of a supervised engine, as a state machine that touches nothing.

C{stopped -> starting -> loading -> ready -> stopping}, and
C{crashed -> backoff -> starting} or C{failed} when something goes wrong.

Time comes in as C{now}, in seconds that only ever grow; everything with an
effect goes out through L{Effects}, which L{twisted_llama.engine.supervisor}
provides.  A late event, as an exit that was already given up on, is ignored
where it can happen and an error elsewhere.
"""

from __future__ import annotations

from typing import Protocol

from attrs import define, evolve
from automat import TypeMachineBuilder

from twisted_llama.engine.status import EngineState, EngineStatus, LastExit

LONGEST_DELAY_SECONDS = 60.0
READY_FOR_RESET_SECONDS = 60.0


def restart_delay_seconds(crashes_in_row: int) -> float:
    """
    @param crashes_in_row: 1 for the first crash.
    @return: 1, 2, 4 ... 60.
    """
    return min(LONGEST_DELAY_SECONDS, 2.0 ** min(crashes_in_row - 1, 10))


class Effects(Protocol):
    """
    All that the machine can do to the world.
    """

    def start_child(self) -> None:
        """
        Start a process, ask it for its health until it is ready, and report
        C{load_expired} if that takes longer than C{LOAD_TIMEOUT}.
        """

    def stop_child(self) -> None:
        """
        Ask the process to end, and make it end; C{exited} follows.
        """

    def cancel_waits(self) -> None:
        """
        Give up whatever C{start_child} and C{wait} still wait for.
        """

    def wait(self, delay_seconds: float) -> None:
        """
        Report C{backoff_over} after some time.
        """

    def crashed(self, last_exit: LastExit, restart: int, delay_seconds: float | None) -> None:
        """
        Tell the operator of a crash.

        @param restart: which restart in a row follows, from 1.
        @param delay_seconds: after how long; L{None} if none follows.
        """

    def publish(self, status: EngineStatus) -> None:
        """
        Tell everyone what is known now.
        """


@define
class LifecycleCore:
    """
    What the machine remembers besides its state.
    """

    effects: Effects
    max_restarts: int
    status: EngineStatus

    crashes_in_row: int = 0
    started_before: bool = False
    ready_at: float | None = None
    start_wanted: bool = False
    doomed_because: str | None = None

    def enter(
        self,
        state: EngineState,
        *,
        reason: str = "",
        pid: int | None = None,
        ready_since: float | None = None,
        slots: int | None = None,
    ) -> None:
        """
        Publish a state; what is not named is not so any more.
        """
        self.status = evolve(
            self.status,
            state=state,
            reason=reason,
            pid=pid,
            ready_since=ready_since,
            reachable=state == "ready",
            slots=self.status.slots if slots is None else slots,
        )
        self.effects.publish(self.status)


class Lifecycle(Protocol):
    """
    What can happen to an engine.
    """

    def start(self) -> None:
        """
        It is wanted from now on.
        """

    def stop(self) -> None:
        """
        It is not wanted any more.
        """

    def retry(self) -> None:
        """
        The operator asks for another try after it was given up.
        """

    def spawned(self, pid: int) -> None:
        """
        The process exists.
        """

    def answered(self) -> None:
        """
        It answers, but is not ready.
        """

    def became_ready(self, slots: int | None, now: float, epoch: float) -> None:
        """
        It is ready.

        @param slots: how many requests it works on at once, if it says so.
        @param epoch: the time to show to people.
        """

    def condemned(self, reason: str) -> None:
        """
        It must not run: it can be reached by others, or needs no key.
        """

    def load_expired(self, reason: str) -> None:
        """
        It did not become ready in time.
        """

    def exited(self, last_exit: LastExit, now: float) -> None:
        """
        The process is gone.
        """

    def backoff_over(self) -> None:
        """
        It is time to start it again.
        """

    def _restart_later(self, delay_seconds: float) -> None:
        """
        A crash is followed by another try.
        """

    def _give_up(self) -> None:
        """
        A crash is followed by none.
        """


def _begin(machine: Lifecycle, core: LifecycleCore) -> None:
    core.crashes_in_row = 0
    _launch(machine, core)


def _launch(machine: Lifecycle, core: LifecycleCore) -> None:
    if core.started_before:
        core.status = evolve(core.status, restarts=core.status.restarts + 1)
    core.started_before = True
    core.doomed_because = None
    core.enter("starting")
    core.effects.start_child()


def _note_pid(machine: Lifecycle, core: LifecycleCore, pid: int) -> None:
    core.enter("starting", pid=pid)


def _note_loading(machine: Lifecycle, core: LifecycleCore) -> None:
    core.enter("loading", pid=core.status.pid)


def _note_ready(
    machine: Lifecycle, core: LifecycleCore, slots: int | None, now: float, epoch: float
) -> None:
    core.effects.cancel_waits()
    core.ready_at = now
    core.enter("ready", pid=core.status.pid, ready_since=epoch, slots=slots)


def _overdue(machine: Lifecycle, core: LifecycleCore, reason: str) -> None:
    core.effects.cancel_waits()
    core.doomed_because = reason
    core.enter("crashed", pid=core.status.pid, reason=reason)
    core.effects.stop_child()


def _judge_crash(machine: Lifecycle, core: LifecycleCore, last_exit: LastExit, now: float) -> None:
    core.effects.cancel_waits()
    if core.doomed_because is not None:
        last_exit = evolve(last_exit, reason=core.doomed_because)
    ready_at, core.ready_at = core.ready_at, None
    if ready_at is not None and now - ready_at >= READY_FOR_RESET_SECONDS:
        core.crashes_in_row = 0
    core.crashes_in_row += 1
    core.status = evolve(core.status, last_exit=last_exit)
    core.enter("crashed", reason=last_exit.reason)
    if core.crashes_in_row > core.max_restarts:
        core.effects.crashed(last_exit, core.crashes_in_row, None)
        machine._give_up()
        return
    delay_seconds = restart_delay_seconds(core.crashes_in_row)
    core.effects.crashed(last_exit, core.crashes_in_row, delay_seconds)
    machine._restart_later(delay_seconds)


def _wait(machine: Lifecycle, core: LifecycleCore, delay_seconds: float) -> None:
    core.enter("backoff", reason=core.status.reason)
    core.effects.wait(delay_seconds)


def _surrender(machine: Lifecycle, core: LifecycleCore) -> None:
    core.enter("failed", reason=core.status.reason)


def _end_child(machine: Lifecycle, core: LifecycleCore) -> None:
    core.effects.cancel_waits()
    core.start_wanted = False
    core.enter("stopping", pid=core.status.pid)
    core.effects.stop_child()


def _condemn(machine: Lifecycle, core: LifecycleCore, reason: str) -> None:
    core.effects.cancel_waits()
    core.start_wanted = False
    core.enter("stopping", pid=core.status.pid, reason=reason)
    core.effects.stop_child()


def _rest(machine: Lifecycle, core: LifecycleCore) -> None:
    core.effects.cancel_waits()
    core.enter("stopped")


def _stopped_child(
    machine: Lifecycle, core: LifecycleCore, last_exit: LastExit, now: float
) -> None:
    core.ready_at = None
    core.enter("stopped", reason=core.status.reason)
    if core.start_wanted:
        machine.start()


def _want_again(machine: Lifecycle, core: LifecycleCore) -> None:
    core.start_wanted = True


def _want_no_more(machine: Lifecycle, core: LifecycleCore) -> None:
    core.start_wanted = False


def _build() -> TypeMachineBuilder[Lifecycle, LifecycleCore]:
    builder = TypeMachineBuilder(Lifecycle, LifecycleCore)

    stopped = builder.state("stopped")
    starting = builder.state("starting")
    loading = builder.state("loading")
    ready = builder.state("ready")
    stopping = builder.state("stopping")
    crashed = builder.state("crashed")
    backoff = builder.state("backoff")
    failed = builder.state("failed")

    # The way up:
    stopped.upon(Lifecycle.start).to(starting)(_begin)
    starting.upon(Lifecycle.spawned).loop()(_note_pid)
    starting.upon(Lifecycle.answered).to(loading)(_note_loading)
    starting.upon(Lifecycle.became_ready).to(ready)(_note_ready)
    loading.upon(Lifecycle.became_ready).to(ready)(_note_ready)

    # A crash, or a load that takes too long:
    starting.upon(Lifecycle.load_expired).to(crashed)(_overdue)
    loading.upon(Lifecycle.load_expired).to(crashed)(_overdue)
    starting.upon(Lifecycle.exited).to(crashed)(_judge_crash)
    loading.upon(Lifecycle.exited).to(crashed)(_judge_crash)
    ready.upon(Lifecycle.exited).to(crashed)(_judge_crash)
    crashed.upon(Lifecycle.exited).loop()(_judge_crash)
    crashed.upon(Lifecycle._restart_later).to(backoff)(_wait)
    crashed.upon(Lifecycle._give_up).to(failed)(_surrender)
    backoff.upon(Lifecycle.backoff_over).to(starting)(_launch)
    failed.upon(Lifecycle.retry).to(starting)(_begin)

    # The way down, from anywhere:
    starting.upon(Lifecycle.stop).to(stopping)(_end_child)
    loading.upon(Lifecycle.stop).to(stopping)(_end_child)
    ready.upon(Lifecycle.stop).to(stopping)(_end_child)
    crashed.upon(Lifecycle.stop).to(stopping)(_end_child)
    backoff.upon(Lifecycle.stop).to(stopped)(_rest)
    failed.upon(Lifecycle.stop).to(stopped)(_rest)
    starting.upon(Lifecycle.condemned).to(stopping)(_condemn)
    loading.upon(Lifecycle.condemned).to(stopping)(_condemn)
    stopping.upon(Lifecycle.exited).to(stopped)(_stopped_child)
    stopping.upon(Lifecycle.start).loop()(_want_again)
    stopping.upon(Lifecycle.stop).loop()(_want_no_more)

    # Nothing to do:
    stopped.upon(Lifecycle.stop).loop().returns(None)
    for state in (starting, loading, ready, crashed, backoff, failed):
        state.upon(Lifecycle.start).loop().returns(None)
    for state in (stopped, starting, loading, ready, stopping, crashed, backoff):
        state.upon(Lifecycle.retry).loop().returns(None)
    loading.upon(Lifecycle.answered).loop().returns(None)
    return builder


_MACHINE = _build().build()


def make_lifecycle(effects: Effects, *, max_restarts: int, status: EngineStatus) -> Lifecycle:
    """
    A new engine's life, in the state C{stopped}.

    @param max_restarts: how many crashes in a row are followed by a restart.
    @param status: what is known from the beginning, as the model's name.
    """
    return _MACHINE(LifecycleCore(effects, max_restarts, status))
