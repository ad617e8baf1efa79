"""
The gate: who is let in, who waits, who is refused, and that nothing is left behind.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

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


class Waiter:
    """
    One that waits, and what became of it.
    """

    def __init__(self, place: Ticket | Deferred[Ticket]) -> None:
        assert isinstance(place, Deferred)
        self.place = place
        self.ticket: Ticket | None = None
        self.error: BaseException | None = None
        place.addCallbacks(self._granted, self._failed)

    def _granted(self, ticket: Ticket) -> None:
        self.ticket = ticket

    def _failed(self, failure: Failure) -> None:
        self.error = failure.value


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
    ticket = gate.admit(key_id)
    assert isinstance(ticket, Ticket)
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
    waiter = Waiter(gate.admit("a"))
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
    flood = [Waiter(gate.admit("flood")) for _ in range(100)]
    other = Waiter(gate.admit("other"))
    held.release()
    assert flood[0].ticket is None
    assert other.ticket is not None
    other.ticket.release()
    assert flood[0].ticket is not None


def test_a_full_queue_refuses() -> None:
    clock = Clock()
    gate = make_gate(clock, queue=1)
    held = enter(gate)
    waiter = Waiter(gate.admit("a"))
    assert isinstance(gate.would_refuse(), QueueFull)
    assert gate.rejections["queue_full"] == 0
    with pytest.raises(QueueFull) as refused:
        gate.admit("b")
    assert refused.value.retry_after_seconds == 1
    assert gate.rejections["queue_full"] == 1
    waiter.place.cancel()
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
    gate.admit("a")
    with pytest.raises(QueueFull) as refused:
        gate.admit("a")
    assert refused.value.retry_after_seconds == 16


def test_a_wait_ends_after_the_timeout() -> None:
    clock = Clock()
    gate = make_gate(clock, timeout=30)
    held = enter(gate)
    first = Waiter(gate.admit("a"))
    clock.advance(10)
    second = Waiter(gate.admit("a"))
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
    first = Waiter(gate.admit("a"))
    clock.advance(10)
    second = Waiter(gate.admit("a"))
    first.place.cancel()
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
    waiter = Waiter(gate.admit("a"))
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
    waiters = [Waiter(gate.admit("a")) for _ in range(3)]
    waiters[1].place.cancel()
    assert isinstance(waiters[1].error, CancelledError)
    assert gate.waiting == 2
    held.release()
    for index in (0, 2):
        ticket = waiters[index].ticket
        assert ticket is not None
        ticket.release()
    assert waiters[1].ticket is None
    assert is_empty(gate, clock)


def test_cancelling_what_was_granted_but_not_looked_at_frees_the_slot() -> None:
    clock = Clock()
    gate = make_gate(clock)
    held = enter(gate)
    place = gate.admit("a")
    assert isinstance(place, Deferred)
    held.release()
    assert gate.active == 1
    place.cancel()
    place.cancel()
    assert is_empty(gate, clock)


def test_cancelling_later_does_not_take_a_ticket_from_its_owner() -> None:
    gate = make_gate(Clock())
    held = enter(gate)
    waiter = Waiter(gate.admit("a"))
    held.release()
    waiter.place.cancel()
    assert gate.active == 1


def test_a_coroutine_that_is_cancelled_while_it_waits_leaves_nothing() -> None:
    clock = Clock()
    gate = make_gate(clock)
    held = enter(gate)

    async def relay() -> None:
        place = gate.admit("a")
        assert isinstance(place, Deferred)
        ticket = await place
        try:
            await Deferred()
        finally:
            ticket.release()

    waiting = Deferred.fromCoroutine(relay())
    waiting.cancel()
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    assert gate.waiting == 0
    relaying = Deferred.fromCoroutine(relay())
    held.release()
    assert gate.active == 1
    relaying.cancel()
    relaying.addErrback(lambda failure: failure.trap(CancelledError))
    assert is_empty(gate, clock)


def test_while_the_engine_loads_requests_wait_for_it() -> None:
    clock = Clock()
    gate = make_gate(clock, slots=2, ready=False)
    waiters = [Waiter(gate.admit("a")) for _ in range(3)]
    assert isinstance(gate.would_refuse(), ModelLoading)
    clock.advance(5)
    gate.set_engine("ready")
    assert [waiter.ticket is not None for waiter in waiters] == [True, True, False]
    assert gate.would_refuse() is None


def test_an_engine_that_loads_again_admits_nobody() -> None:
    gate = make_gate(Clock(), slots=2)
    held = enter(gate)
    gate.set_engine("loading")
    waiter = Waiter(gate.admit("a"))
    held.release()
    assert waiter.ticket is None
    gate.set_engine("ready")
    assert waiter.ticket is not None


def test_a_full_queue_or_a_wait_that_ends_while_loading_is_model_loading() -> None:
    clock = Clock()
    gate = make_gate(clock, queue=1, ready=False)
    waiter = Waiter(gate.admit("a"))
    with pytest.raises(ModelLoading) as refused:
        gate.admit("a")
    assert refused.value.retry_after_seconds == 5
    gate.loading_estimate = 41.5
    clock.advance(30)
    assert isinstance(waiter.error, ModelLoading)
    assert waiter.error.retry_after_seconds == 42
    assert gate.rejections["model_loading"] == 2


def test_a_failed_engine_refuses_those_that_wait_and_those_that_come() -> None:
    clock = Clock()
    gate = make_gate(clock, ready=False)
    waiter = Waiter(gate.admit("a"))
    gate.set_engine("failed", "out of memory")
    assert isinstance(waiter.error, EngineUnavailable)
    assert "out of memory" in str(waiter.error)
    with pytest.raises(EngineUnavailable, match="out of memory"):
        gate.admit("a")
    assert isinstance(gate.would_refuse(), EngineUnavailable)
    assert gate.rejections["engine_unavailable"] == 2
    assert is_empty(gate, clock)
    gate.set_engine("ready")
    enter(gate)


def test_draining_refuses_the_waiting_and_lets_the_running_finish() -> None:
    clock = Clock()
    gate = make_gate(clock)
    held = enter(gate)
    waiter = Waiter(gate.admit("a"))
    idle = []
    gate.drain()
    gate.when_idle().addCallback(idle.append)
    assert isinstance(waiter.error, Draining)
    with pytest.raises(Draining) as refused:
        gate.admit("a")
    assert refused.value.retry_after_seconds >= 1
    assert isinstance(gate.would_refuse(), Draining)
    assert gate.rejections["draining"] == 2
    gate.set_engine("ready")
    assert idle == []
    held.release()
    assert idle == [None]
    with pytest.raises(Draining):
        gate.admit("a")
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
    waiters = [Waiter(gate.admit("a")) for _ in range(3)]
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

    def use(ticket: Ticket, number: int) -> None:
        order.append(number)
        ticket.release()

    for number in range(10_000):
        place = gate.admit(f"key{number % 7}")
        assert isinstance(place, Deferred)
        place.addCallback(use, number)
    held.release()
    assert len(order) == 10_000
    assert is_empty(gate, clock)


def test_who_is_granted_may_admit_and_cancel_others_at_once() -> None:
    clock = Clock()
    gate = make_gate(clock)
    held = enter(gate, "z")
    first = gate.admit("a")
    second = Waiter(gate.admit("b"))
    third = Waiter(gate.admit("c"))
    later: list[Waiter] = []
    assert isinstance(first, Deferred)

    def use(ticket: Ticket) -> None:
        second.place.cancel()
        ticket.release()
        later.append(Waiter(gate.admit("a")))

    first.addCallback(use)
    held.release()
    assert isinstance(second.error, CancelledError)
    assert third.ticket is not None
    assert later[0].ticket is None
    third.ticket.release()
    assert later[0].ticket is not None


def test_who_hears_of_the_drain_may_cancel_another_that_waits() -> None:
    clock = Clock()
    gate = make_gate(clock)
    held = enter(gate)
    first = gate.admit("a")
    second = Waiter(gate.admit("a"))
    assert isinstance(first, Deferred)
    first.addErrback(lambda _: second.place.cancel())
    gate.drain()
    assert isinstance(second.error, CancelledError)
    held.release()
    assert is_empty(gate, clock)


def test_a_callback_that_fails_does_not_stop_the_others() -> None:
    gate = make_gate(Clock(), slots=1)
    held = enter(gate, "z")
    broken = gate.admit("a")
    assert isinstance(broken, Deferred)
    seen: list[Failure] = []

    def fail(ticket: Ticket) -> Any:
        ticket.release()
        raise RuntimeError("its own fault")

    broken.addCallback(fail).addErrback(seen.append)
    other = Waiter(gate.admit("b"))
    held.release()
    assert len(seen) == 1
    assert other.ticket is not None


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
