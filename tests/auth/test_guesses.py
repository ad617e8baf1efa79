"""
Counting refused keys by address.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import count as count_up

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_llama.auth.guesses import BATCH, LONGEST_HOLD_SECONDS, Guesses, Refusal, counted_as

# Eighths of a second are exact in floating point.
STEPS = st.lists(st.integers(0, 480).map(lambda eighths: eighths / 8), max_size=200)
BURSTS = st.lists(st.tuples(st.integers(1, 2 * BATCH), st.integers(0, 1200)), max_size=12)
HOST = "192.0.2.7"
_NUMBERS = count_up()


def guess(guesses: Guesses, host: str = HOST) -> Refusal:
    """
    A wrong key that was not shown before.
    """
    return guesses.refuse(host, sha256(b"%d" % next(_NUMBERS)).digest())


def waits(guesses: Guesses, count: int, host: str = HOST) -> list[float]:
    return [guess(guesses, host).wait_seconds for _ in range(count)]


def test_twenty_within_a_minute_are_nothing_special() -> None:
    clock = Clock()
    guesses = Guesses(clock.seconds)
    assert waits(guesses, BATCH) == [0.0] * BATCH
    assert waits(guesses, 1) == [1.0]
    clock.advance(0.25)
    assert waits(guesses, 1) == [0.75]
    assert waits(guesses, 1, "192.0.2.8") == [0.0]
    clock.advance(0.75)
    assert waits(guesses, 1) == [0.0]


def test_one_wrong_key_again_and_again_is_no_guessing() -> None:
    """Nor is it held off with the guesses, as long as it is remembered."""
    guesses = Guesses(Clock().seconds)
    old = sha256(b"an old key").digest()
    assert {guesses.refuse(HOST, old).wait_seconds for _ in range(500)} == {0.0}
    waits(guesses, BATCH)
    assert waits(guesses, 1) == [1.0]
    assert guesses.refuse(HOST, old).wait_seconds == 0.0


def test_each_further_batch_doubles_the_hold() -> None:
    guesses = Guesses(Clock().seconds)
    holds = [waits(guesses, BATCH)[-1] for _ in range(9)]
    assert holds == [0, 2, 4, 8, 16, 32, 60, 60, 60]


def test_also_for_one_that_waits_as_it_is_told() -> None:
    clock = Clock()
    guesses = Guesses(clock.seconds)
    waits(guesses, BATCH)
    for hold in (1, 2, 4, 8, 16, 32, LONGEST_HOLD_SECONDS, LONGEST_HOLD_SECONDS):
        assert guess(guesses).wait_seconds == hold
        clock.advance(hold)
        # What came in the last hold is no part of a batch a minute later.
        waits(guesses, BATCH - (hold < LONGEST_HOLD_SECONDS))


def test_nineteen_a_minute_are_never_held_off() -> None:
    clock = Clock()
    guesses = Guesses(clock.seconds)
    for _ in range(5):
        assert not any(waits(guesses, BATCH - 1))
        clock.advance(60)


def test_an_address_is_forgotten_a_minute_after_its_hold() -> None:
    clock = Clock()
    guesses = Guesses(clock.seconds)
    waits(guesses, 2 * BATCH)
    clock.advance(2 + 59.875)
    waits(guesses, BATCH)
    assert guess(guesses).wait_seconds == 4
    clock.advance(4 + 60)
    waits(guesses, BATCH)
    assert guess(guesses).wait_seconds == 1


def test_told_of_once_a_minute_with_how_many() -> None:
    clock = Clock()
    guesses = Guesses(clock.seconds)
    told = [guess(guesses).untold for _ in range(100)]
    assert told == [0] * (BATCH - 1) + [BATCH] + [0] * 80
    clock.advance(59.875)
    assert [guess(guesses).untold for _ in range(BATCH)] == [0] * BATCH
    clock.advance(0.125)
    assert [guess(guesses).untold for _ in range(3)] == [80 + BATCH + 1, 0, 0]


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unknown", "unknown"),
        ("x" * 8000, "x" * 64),
    ],
)
def test_whose_refusals_are_counted_together(host: str, counted: str) -> None:
    assert counted_as(host) == counted


@given(st.text(max_size=80) | st.ip_addresses().map(str))
def test_any_name_is_counted_as_a_short_one(host: str) -> None:
    assert len(counted_as(host)) <= 64


def test_memory_is_bounded() -> None:
    """
    Of more addresses than are kept, those that were quiet for longest are forgotten.
    """
    guesses = Guesses(Clock().seconds, most_addresses=100)
    waits(guesses, BATCH)
    for number in range(250):
        guess(guesses, f"2001:db8:0:{number:x}::1")
        assert len(guesses) <= 100
        if number < 150:
            guess(guesses)
    assert guess(guesses).wait_seconds == 0
    assert len(guesses) == 100


def test_idle_addresses_are_forgotten() -> None:
    clock = Clock()
    guesses = Guesses(clock.seconds)
    for number in range(1000):
        guess(guesses, f"2001:db8:0:{number:x}::1")
    clock.advance(60)
    waits(guesses, 600, "192.0.2.9")
    assert len(guesses) == 1


@given(steps=STEPS)
def test_fewer_than_twenty_in_any_minute_are_never_held_off(steps: list[float]) -> None:
    """
    Counted by brute force in every span that ends at a refusal.
    """
    clock, asked, quiet = Clock(), [], True
    guesses = Guesses(clock.seconds)
    for step in steps:
        clock.advance(step)
        wait_seconds = guess(guesses).wait_seconds
        assert not (quiet and wait_seconds)
        asked.append(clock.seconds())
        quiet = quiet and sum(at > asked[-1] - 60 for at in asked) < BATCH


@given(bursts=BURSTS)
def test_what_holds_for_every_burst(bursts: list[tuple[int, int]]) -> None:
    """
    Answered as one is: at most a batch between two holds.  A hold ends when it said, unless
    another batch came, and none is longer than a minute.
    """
    clock = Clock()
    guesses = Guesses(clock.seconds)
    answered, told, counted = 0, 0, 0
    for count, eighths in bursts:
        for _ in range(count):
            refusal = guess(guesses)
            counted += 1
            told += refusal.untold
            assert 0 <= refusal.wait_seconds <= LONGEST_HOLD_SECONDS
            answered = 0 if refusal.wait_seconds else answered + 1
            assert answered <= BATCH
        clock.advance(eighths / 8)
        answered = 0
    assert told <= counted
