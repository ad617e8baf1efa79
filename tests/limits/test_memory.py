"""
The windows in the gateway's own memory.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tests.limits.contract import LimitsContract, Store
from twisted_llama.limits.memory import MemoryLimits


class TestMemoryLimits(LimitsContract):
    """
    The contract.
    """

    @pytest.fixture
    def store(self) -> Store:
        clock = Clock()
        return Store(MemoryLimits(clock.seconds), clock.advance)


def test_idle_keys_are_forgotten() -> None:
    """
    Of ten thousand keys those in use are left, without any periodic process.
    """
    clock = Clock()
    limits = MemoryLimits(clock.seconds)
    for number in range(10_000):
        limits.take(f"key{number}", 5)
    assert len(limits) == 10_000
    clock.advance(30)
    limits.take("key0", 5)
    clock.advance(30)
    for _ in range(5_000):
        limits.take("new", 10_000)
    assert len(limits) == 2
    assert limits.take("key0", 5).remaining == 3


def test_a_clock_that_goes_back_changes_no_limit() -> None:
    times = iter([1000.0, 500.0, 1059.0, 1060.0])
    limits = MemoryLimits(lambda: next(times))
    assert [limits.take("a", 1).allowed for _ in range(4)] == [True, False, False, True]


def test_what_was_given_back_and_taken_anew_stays_taken() -> None:
    clock = Clock()
    limits = MemoryLimits(clock.seconds)
    first = limits.take("a", 1)
    limits.give_back("a", first)
    assert limits.take("a", 1).allowed
    limits.give_back("a", first)
    refused = limits.take("a", 1)
    assert not refused.allowed
    limits.give_back("a", refused)
    limits.give_back("a", first)
    assert not limits.take("a", 1).allowed
    clock.advance(60)
    assert limits.take("a", 1).allowed
