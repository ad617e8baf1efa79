"""
The gate: who is let in, who waits, who is refused, and that nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs

from twisted_llama.admission.gate import Gate
from twisted_llama.admission.ticket import Ticket
from twisted_llama.errors import (
    Draining,
    EngineUnavailable,
    GatewayError,
    ModelLoading,
    QueueFull,
    QueueTimeout,
)


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[LogEvent]]:
    """
    What the gate logs, which is what a waiter raises, its assertions too: nothing.
    """
    with capturedLogs() as events:
        yield events
    assert [event["log_failure"].value for event in events] == []


@define(eq=False)
class Waiter:
    """
    One that waits, and what became of it.

    @ivar on_admitted: what it does then.
    @ivar on_turned_away: what it does then.
    """

    gate: Gate
    on_admitted: Callable[[Ticket], object] = repr
    on_turned_away: Callable[[GatewayError], object] = repr
    ticket: Ticket | None = None
    error: GatewayError | None = None
    joined_at: float = -1.0

    def admitted(self, ticket: Ticket) -> None:
        assert self.ticket is self.error is None
        self.ticket = ticket
        self.on_admitted(ticket)

    def turned_away(self, error: GatewayError) -> None:
        assert self.ticket is self.error is None
        self.error = error
        self.on_turned_away(error)

    def give_up(self) -> None:
        self.gate.give_up(self)


def wait(gate: Gate, key_id: str = "a", **does: Callable[[Any], object]) -> Waiter:
    """
    Have to wait.
    """
    waiter = Waiter(gate, **does)
    assert gate.admit(key_id, waiter) is None
    return waiter


def make_gate(
    clock: Clock, slots: int = 1, queue: int = 0, timeout: float = 30.0, ready: bool = True
) -> Gate:
    """
    A gate whose engine is ready.
    """
    gate = Gate(clock, slots, queue, timeout)
    if ready:
        gate.set_engine("ready")
    return gate


def enter(gate: Gate, key_id: str = "a") -> Ticket:
    """
    Be let in at once.
    """
    ticket = gate.admit(key_id, Waiter(gate))
    assert ticket is not None
    return ticket


def is_empty(gate: Gate, clock: Clock) -> bool:
    """
    Nothing is held, nothing is timed.
    """
    return gate.active == 0 and gate.waiting == 0 and not clock.getDelayedCalls()


def test_a_free_slot_is_had_at_once_and_without_a_deferred() -> None:
    clock = Clock()
    gate = make_gate(clock, slots=2)
    tickets = [enter(gate), enter(gate)]
    assert gate.active == 2
    assert tickets[0].waited_seconds == 0.0
    for ticket in tickets:
        ticket.release()
    assert is_empty(gate, clock)


def test_a_second_release_is_harmless() -> None:
    gate = make_gate(Clock(), slots=2)
    first, second = enter(gate), enter(gate)
    first.release()
    first.release()
    assert gate.active == 1
    second.release()
    assert gate.active == 0


def test_a_released_slot_goes_to_the_one_that_waits() -> None:
    clock = Clock()
    gate = make_gate(clock)
    held = enter(gate)
    waiter = wait(gate)
    clock.advance(2.5)
    assert (gate.active, gate.waiting) == (1, 1)
    held.release()
    assert waiter.ticket is not None
    assert waiter.ticket.waited_seconds == 2.5
    assert gate.wait_seconds_total == 2.5
    assert (gate.active, gate.waiting) == (1, 0)
    assert not clock.getDelayedCalls()
    waiter.ticket.release()
    assert is_empty(gate, clock)


def test_one_key_that_floods_the_queue_does_not_delay_another() -> None:
    gate = make_gate(Clock())
    held = enter(gate, "flood")
    flood = [wait(gate, "flood") for _ in range(100)]
    other = wait(gate, "other")
    held.release()
    assert flood[0].ticket is None
    assert other.ticket is not None
    other.ticket.release()
    assert flood[0].ticket is not None


def test_a_full_queue_refuses() -> None:
    clock = Clock()
    gate = make_gate(clock, queue=1)
    held = enter(gate)
    waiter = wait(gate)
    assert isinstance(gate.would_refuse(), QueueFull)
    assert gate.rejections["queue_full"] == 0
    with pytest.raises(QueueFull) as refused:
        gate.admit("b", Waiter(gate))
    assert refused.value.retry_after_seconds == 1
    assert gate.rejections["queue_full"] == 1
    waiter.give_up()
    assert gate.would_refuse() is None
    held.release()
    assert is_empty(gate, clock)


def test_retry_after_follows_how_long_slots_are_held() -> None:
    """
    Slots were held for 8 s; one waits already, so the next would be served after two.
    """
    clock = Clock()
    gate = make_gate(clock, queue=1)
    ticket = enter(gate)
    clock.advance(8)
    ticket.release()
    enter(gate)
    wait(gate)
    with pytest.raises(QueueFull) as refused:
        gate.admit("a", Waiter(gate))
    assert refused.value.retry_after_seconds == 16


def test_a_wait_ends_after_the_timeout() -> None:
    clock = Clock()
    gate = make_gate(clock, timeout=30)
    held = enter(gate)
    first = wait(gate)
    clock.advance(10)
    second = wait(gate)
    clock.advance(20)
    assert isinstance(first.error, QueueTimeout)
    assert second.error is None
    clock.advance(10)
    assert isinstance(second.error, QueueTimeout)
    assert gate.rejections["queue_timeout"] == 2
    assert gate.wait_seconds_total == 60
    held.release()
    assert is_empty(gate, clock)


def test_the_timer_that_comes_too_early_is_set_again() -> None:
    clock = Clock()
    gate = make_gate(clock, timeout=30)
    enter(gate)
    first = wait(gate)
    clock.advance(10)
    second = wait(gate)
    first.give_up()
    clock.advance(29)
    assert second.error is None
    clock.advance(1)
    assert isinstance(second.error, QueueTimeout)


def test_waits_are_measured_with_the_clock_that_does_not_jump() -> None:
    """
    A wall clock that jumps an hour ahead makes the reactor call too early; nobody's
    wait ends for it.
    """
    reactor, monotonic = Clock(), Clock()
    gate = Gate(reactor, 1, 0, 30.0, monotonic.seconds)
    gate.set_engine("ready")
    held = enter(gate)
    waiter = wait(gate)
    monotonic.advance(1)
    reactor.advance(3600)
    assert waiter.error is None
    monotonic.advance(29)
    reactor.advance(29)
    assert isinstance(waiter.error, QueueTimeout)
    held.release()
    assert is_empty(gate, reactor)


def test_a_client_that_leaves_gives_up_its_place() -> None:
    clock = Clock()
    gate = make_gate(clock)
    held = enter(gate)
    waiters = [wait(gate) for _ in range(3)]
    waiters[1].give_up()
    waiters[1].give_up()
    assert gate.waiting == 2
    held.release()
    for index in (0, 2):
        ticket = waiters[index].ticket
        assert ticket is not None
        ticket.release()
    assert waiters[1].ticket is waiters[1].error is None
    assert is_empty(gate, clock)


def test_giving_up_later_does_not_take_a_ticket_from_its_owner() -> None:
    gate = make_gate(Clock())
    held = enter(gate)
    waiter = wait(gate)
    held.release()
    waiter.give_up()
    assert gate.active == 1


def test_while_the_engine_loads_requests_wait_for_it() -> None:
    clock = Clock()
    gate = make_gate(clock, slots=2, ready=False)
    waiters = [wait(gate) for _ in range(3)]
    assert isinstance(gate.would_refuse(), ModelLoading)
    clock.advance(5)
    gate.set_engine("ready")
    assert [waiter.ticket is not None for waiter in waiters] == [True, True, False]
    assert gate.would_refuse() is None


def test_an_engine_that_loads_again_admits_nobody() -> None:
    gate = make_gate(Clock(), slots=2)
    held = enter(gate)
    gate.set_engine("loading")
    waiter = wait(gate)
    held.release()
    assert waiter.ticket is None
    gate.set_engine("ready")
    assert waiter.ticket is not None


def test_a_full_queue_or_a_wait_that_ends_while_loading_is_model_loading() -> None:
    clock = Clock()
    gate = make_gate(clock, queue=1, ready=False)
    waiter = wait(gate)
    with pytest.raises(ModelLoading) as refused:
        gate.admit("a", Waiter(gate))
    assert refused.value.retry_after_seconds == 5
    gate.loading_estimate = 41.5
    clock.advance(30)
    assert isinstance(waiter.error, ModelLoading)
    assert waiter.error.retry_after_seconds == 42
    assert gate.rejections["model_loading"] == 2


def test_a_failed_engine_refuses_those_that_wait_and_those_that_come() -> None:
    clock = Clock()
    gate = make_gate(clock, ready=False)
    waiter = wait(gate)
    gate.set_engine("failed", "out of memory")
    assert isinstance(waiter.error, EngineUnavailable)
    assert "out of memory" in str(waiter.error)
    with pytest.raises(EngineUnavailable, match="out of memory"):
        gate.admit("a", Waiter(gate))
    assert isinstance(gate.would_refuse(), EngineUnavailable)
    assert gate.rejections["engine_unavailable"] == 2
    assert is_empty(gate, clock)
    gate.set_engine("ready")
    enter(gate)


def test_draining_refuses_the_waiting_and_lets_the_running_finish() -> None:
    clock = Clock()
    gate = make_gate(clock)
    held = enter(gate)
    waiter = wait(gate)
    idle = []
    gate.drain()
    gate.when_idle().addCallback(idle.append)
    assert isinstance(waiter.error, Draining)
    with pytest.raises(Draining) as refused:
        gate.admit("a", Waiter(gate))
    assert refused.value.retry_after_seconds >= 1
    assert isinstance(gate.would_refuse(), Draining)
    assert gate.rejections["draining"] == 2
    gate.set_engine("ready")
    assert idle == []
    held.release()
    assert idle == [None]
    with pytest.raises(Draining):
        gate.admit("a", Waiter(gate))
    assert is_empty(gate, clock)


def test_when_idle_fires_at_once_if_nothing_is_held_and_can_be_cancelled() -> None:
    gate = make_gate(Clock())
    fired = []
    gate.when_idle().addCallback(fired.append)
    assert fired == [None]
    held = enter(gate)
    first, second = gate.when_idle(), gate.when_idle()
    third = gate.when_idle()
    first.cancel()
    first.addErrback(lambda failure: failure.trap(CancelledError))
    second.addCallback(lambda _: third.cancel())
    third.addErrback(lambda failure: failure.trap(CancelledError))
    held.release()
    assert second.called


def test_more_slots_are_given_out_at_once_and_fewer_let_the_running_finish() -> None:
    gate = make_gate(Clock())
    held = enter(gate)
    waiters = [wait(gate) for _ in range(3)]
    gate.resize(3)
    assert [waiter.ticket is not None for waiter in waiters] == [True, True, False]
    gate.resize(1)
    assert gate.active == 3
    held.release()
    assert waiters[0].ticket is not None
    waiters[0].ticket.release()
    assert waiters[2].ticket is None
    assert waiters[1].ticket is not None
    waiters[1].ticket.release()
    assert waiters[2].ticket is not None


def test_ten_thousand_that_release_as_they_are_granted_overflow_no_stack() -> None:
    clock = Clock()
    gate = make_gate(clock)
    held = enter(gate)
    order: list[int] = []

    def use(ticket: Ticket) -> None:
        order.append(gate.waiting)
        ticket.release()

    for number in range(10_000):
        wait(gate, f"key{number % 7}", on_admitted=use)
    held.release()
    assert order == [*reversed(range(10_000))]
    assert is_empty(gate, clock)


def test_who_is_granted_may_admit_and_cancel_others_at_once() -> None:
    clock = Clock()
    gate = make_gate(clock)
    held = enter(gate, "z")
    later: list[Waiter] = []

    def use(ticket: Ticket) -> None:
        second.give_up()
        ticket.release()
        later.append(wait(gate))

    wait(gate, "a", on_admitted=use)
    second = wait(gate, "b")
    third = wait(gate, "c")
    held.release()
    assert second.ticket is second.error is None
    assert third.ticket is not None
    assert later[0].ticket is None
    third.ticket.release()
    assert later[0].ticket is not None


def test_who_hears_of_the_drain_may_cancel_another_that_waits() -> None:
    clock = Clock()
    gate = make_gate(clock)
    held = enter(gate)
    first = wait(gate, on_turned_away=lambda _: second.give_up())
    second = wait(gate)
    gate.drain()
    assert isinstance(first.error, Draining)
    assert second.ticket is second.error is None
    held.release()
    assert is_empty(gate, clock)


def test_one_that_fails_on_hearing_it_does_not_stop_the_others(logged: list[LogEvent]) -> None:
    """It is logged, as its own fault."""
    gate = make_gate(Clock())
    held = enter(gate, "z")
    fault = RuntimeError("its own fault")

    def fail(ticket: Ticket) -> None:
        ticket.release()
        raise fault

    def fail_too(error: GatewayError) -> None:
        raise fault

    wait(gate, "a", on_admitted=fail)
    admitted = wait(gate, "b")
    wait(gate, "c", on_turned_away=fail_too)
    turned_away = wait(gate, "d")
    held.release()
    gate.drain()
    assert admitted.ticket is not None
    assert turned_away.error is not None
    assert [event["log_failure"].value for event in logged] == [fault, fault]
    logged.clear()


@pytest.mark.parametrize(("slots", "queue"), [(0, 0), (-1, 0), (1, -1)])
def test_impossible_sizes_are_refused(slots: int, queue: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        Gate(Clock(), slots, queue, 1.0)
    with pytest.raises(ValueError, match="must be"):
        make_gate(Clock()).resize(0)


def test_every_refusal_is_counted_under_its_code() -> None:
    gate = make_gate(Clock())
    kinds: list[type[GatewayError]] = [
        QueueFull,
        QueueTimeout,
        ModelLoading,
        Draining,
        EngineUnavailable,
    ]
    assert gate.rejections == {kind.code: 0 for kind in kinds}
