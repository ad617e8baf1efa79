"""
The state machine of an engine's life.
"""

from __future__ import annotations

import pytest
from attrs import define, field
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twisted_llama.engine.lifecycle import Lifecycle, make_lifecycle, restart_delay_seconds
from twisted_llama.engine.status import EngineStatus, LastExit

KILLED = LastExit(None, "SIGKILL", "killed")


@define
class FakeEffects:
    """
    Remembers what was asked for; stricter than the world: no second child, no
    end of a child that is not there, no second wait.
    """

    children: int = 0
    ending: bool = False
    watching: bool = False
    waiting: float | None = None
    published: list[EngineStatus] = field(factory=lambda: [EngineStatus()])
    crashes: list[tuple[LastExit, int, float | None]] = field(factory=list)

    def start_child(self) -> None:
        assert self.children == 0
        assert self.waiting is None
        self.children = 1
        self.watching = True

    def stop_child(self) -> None:
        assert self.children == 1
        self.ending = True

    def cancel_waits(self) -> None:
        self.watching = False
        self.waiting = None

    def wait(self, delay_seconds: float) -> None:
        assert self.waiting is None
        self.waiting = delay_seconds

    def crashed(self, last_exit: LastExit, restart: int, delay_seconds: float | None) -> None:
        self.crashes.append((last_exit, restart, delay_seconds))

    def publish(self, status: EngineStatus) -> None:
        self.published.append(status)

    @property
    def status(self) -> EngineStatus:
        return self.published[-1]

    @property
    def states(self) -> list[str]:
        seen = [one.state for one in self.published]
        return [state for at, state in enumerate(seen) if at == 0 or seen[at - 1] != state]

    def end(self, lifecycle: Lifecycle, now: float, last_exit: LastExit = KILLED) -> None:
        """
        The child ends.
        """
        self.children = 0
        self.ending = False
        lifecycle.exited(last_exit, now)

    def wait_over(self, lifecycle: Lifecycle) -> None:
        """
        The wait is over.
        """
        self.waiting = None
        lifecycle.backoff_over()


def alive(max_restarts: int = 5) -> tuple[Lifecycle, FakeEffects]:
    """
    A machine that was started.
    """
    effects = FakeEffects()
    lifecycle = make_lifecycle(effects, max_restarts=max_restarts, status=EngineStatus(model="m"))
    lifecycle.start()
    lifecycle.spawned(7)
    return lifecycle, effects


def test_way_up_and_down() -> None:
    """
    Every state on the ordinary way is published, with what is known in it.
    """
    lifecycle, effects = alive()
    assert effects.status.pid == 7
    lifecycle.answered()
    lifecycle.answered()
    lifecycle.became_ready(3, 10.0, 1000.0)
    assert effects.status == EngineStatus("ready", "m", 7, 0, 1000.0, None, "", 3, False, True)
    lifecycle.stop()
    assert effects.ending
    effects.end(lifecycle, 20.0)
    assert effects.states == ["stopped", "starting", "loading", "ready", "stopping", "stopped"]
    assert effects.status.last_exit is None
    lifecycle.stop()
    lifecycle.retry()
    assert effects.status.state == "stopped"


def test_crashes_are_followed_by_growing_delays_and_then_by_none() -> None:
    """
    1, 2, 4 ... 60 seconds; after MAX_RESTARTS restarts in a row it is given up.
    """
    lifecycle, effects = alive(max_restarts=8)
    for _ in range(8):
        effects.end(lifecycle, 1.0)
        assert effects.status.state == "backoff"
        assert effects.status.reason == "killed"
        effects.wait_over(lifecycle)
    effects.end(lifecycle, 1.0)
    delays = [delay for _, _, delay in effects.crashes]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, None]
    assert effects.status.state == "failed"
    assert effects.status.last_exit == KILLED
    assert effects.status.restarts == 8
    lifecycle.start()
    lifecycle.retry()
    assert effects.status.state == "starting"
    effects.end(lifecycle, 1.0)
    assert effects.waiting == 1


def test_no_restart_when_none_is_allowed() -> None:
    """
    MAX_RESTARTS=0 gives up at the first crash.
    """
    lifecycle, effects = alive(max_restarts=0)
    effects.end(lifecycle, 1.0)
    assert effects.states[-2:] == ["crashed", "failed"]
    lifecycle.stop()
    assert effects.status.state == "stopped"


@pytest.mark.parametrize(("ready_seconds", "next_delay"), [(59.9, 2.0), (60.0, 1.0)])
def test_a_minute_of_readiness_forgives(ready_seconds: float, next_delay: float) -> None:
    """
    The count of crashes begins anew after 60 s of being ready.
    """
    lifecycle, effects = alive()
    effects.end(lifecycle, 0.0)
    effects.wait_over(lifecycle)
    lifecycle.became_ready(None, 100.0, 0.0)
    effects.end(lifecycle, 100.0 + ready_seconds)
    assert effects.waiting == next_delay


def test_load_timeout_is_a_crash_with_its_reason() -> None:
    """
    The overdue child is ended first; the reason is the timeout, not the signal.
    """
    lifecycle, effects = alive()
    lifecycle.answered()
    lifecycle.load_expired("too slow")
    assert effects.ending
    assert effects.status.state == "crashed"
    assert effects.waiting is None
    effects.end(lifecycle, 5.0)
    assert effects.status.state == "backoff"
    assert effects.status.last_exit == LastExit(None, "SIGKILL", "too slow")


def test_stop_while_an_overdue_child_ends() -> None:
    """
    A child on its way out is waited for.
    """
    lifecycle, effects = alive()
    lifecycle.load_expired("too slow")
    lifecycle.stop()
    assert effects.status.state == "stopping"
    effects.end(lifecycle, 5.0)
    assert effects.status.state == "stopped"


def test_stop_in_backoff_waits_for_nothing() -> None:
    """
    There is no child in backoff.
    """
    lifecycle, effects = alive()
    effects.end(lifecycle, 1.0)
    lifecycle.stop()
    assert effects.waiting is None
    assert effects.status.state == "stopped"


def test_condemned_engine_is_stopped_with_its_reason() -> None:
    """
    An engine that must not run is not started again.
    """
    lifecycle, effects = alive()
    lifecycle.condemned("open to everyone")
    assert effects.status.state == "stopping"
    effects.end(lifecycle, 1.0)
    assert effects.status.state == "stopped"
    assert effects.status.reason == "open to everyone"
    assert effects.crashes == []


@pytest.mark.parametrize("changes_its_mind", [False, True])
def test_start_while_stopping(changes_its_mind: bool) -> None:
    """
    The last wish counts once the old child is gone.
    """
    lifecycle, effects = alive()
    lifecycle.stop()
    lifecycle.start()
    if changes_its_mind:
        lifecycle.stop()
    effects.end(lifecycle, 1.0)
    assert effects.status.state == ("stopped" if changes_its_mind else "starting")


def test_delays_are_bounded() -> None:
    """
    However many crashes there were.
    """
    assert restart_delay_seconds(10_000) == 60


class LifecycleMachine(RuleBasedStateMachine):
    """
    Any order of events that the world can produce.
    """

    def __init__(self) -> None:
        super().__init__()
        self.effects = FakeEffects()
        self.max_restarts = 3
        self.lifecycle = make_lifecycle(
            self.effects, max_restarts=self.max_restarts, status=EngineStatus()
        )
        self.now = 0.0
        self.wanted = False

    @rule()
    def start(self) -> None:
        self.wanted = True
        self.lifecycle.start()

    @rule()
    def stop(self) -> None:
        self.wanted = False
        self.lifecycle.stop()

    @rule()
    def retry(self) -> None:
        self.lifecycle.retry()

    @precondition(lambda self: self.effects.watching)
    @rule(slots=st.none() | st.integers(1, 9))
    def become_ready(self, slots: int | None) -> None:
        self.lifecycle.became_ready(slots, self.now, self.now)

    @precondition(lambda self: self.effects.watching)
    @rule()
    def answer(self) -> None:
        self.lifecycle.answered()

    @precondition(lambda self: self.effects.watching)
    @rule()
    def expire(self) -> None:
        self.lifecycle.load_expired("late")

    @precondition(lambda self: self.effects.watching)
    @rule()
    def condemn(self) -> None:
        self.wanted = False
        self.lifecycle.condemned("open")

    @precondition(lambda self: self.effects.children)
    @rule(elapsed=st.floats(0, 120))
    def exit(self, elapsed: float) -> None:
        self.now += elapsed
        self.effects.end(self.lifecycle, self.now)

    @precondition(lambda self: self.effects.waiting is not None)
    @rule()
    def wait_over(self) -> None:
        self.effects.wait_over(self.lifecycle)

    @invariant()
    def state_agrees_with_the_world(self) -> None:
        state = self.effects.status.state
        if state in ("stopped", "backoff", "failed"):
            assert self.effects.children == 0
        else:
            assert self.effects.children == 1
        assert (self.effects.waiting is not None) == (state == "backoff")
        assert self.effects.watching == (state in ("starting", "loading"))
        assert self.effects.ending == (state in ("stopping", "crashed"))
        assert (self.effects.status.ready_since is not None) == (state == "ready")

    @invariant()
    def wish_is_respected(self) -> None:
        state = self.effects.status.state
        assert (state not in ("stopped", "stopping")) <= self.wanted
        assert (state == "stopped") <= (not self.wanted)

    @invariant()
    def never_more_restarts_than_allowed(self) -> None:
        assert all(restart <= self.max_restarts + 1 for _, restart, _ in self.effects.crashes)
        assert all(
            (delay is None) == (n > self.max_restarts) for _, n, delay in self.effects.crashes
        )


TestLifecycleMachine = LifecycleMachine.TestCase
