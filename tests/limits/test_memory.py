"""
The windows in the gateway's own memory.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.limits.contract import LimitsContract, Store
from twisted_llama.limits.memory import MemoryLimits
from twisted_llama.limits.window import new_window, take


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
    Of ten thousand keys those in use are left two minutes later, without any periodic
    process; each request does a small part of it.
    """
    clock = Clock()
    limits = MemoryLimits(clock.seconds)
    for number in range(10_000):
        limits.take(f"key{number}", 5)
    clock.advance(60)
    limits.take("key0", 5)
    assert len(limits) == 10_000
    clock.advance(30)
    limits.take("key1", 5)
    clock.advance(30)
    limits.take("new", 10_000)
    assert len(limits) == 9_999
    for _ in range(5_000):
        limits.take("new", 10_000)
    assert len(limits) == 3
    assert limits.take("key1", 5).remaining == 3
    assert limits.take("key0", 5).remaining == 4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 45)), max_size=60))
def test_forgetting_changes_no_limit(uses: list[tuple[str, int]]) -> None:
    """
    Whatever was dropped meanwhile, each key gets what a window of its own gives.
    """
    clock = Clock()
    limits = MemoryLimits(clock.seconds)
    windows = {key: new_window() for key in "abc"}
    for stamp, (key, pause) in enumerate(uses):
        clock.advance(pause)
        decision = take(windows[key], 2, clock.seconds(), stamp)
        assert limits.take(key, 2) == decision


def test_what_was_accepted_earlier_can_be_given_back() -> None:
    """
    Also when others have been served meanwhile, for longer than a minute.
    """
    clock = Clock()
    limits = MemoryLimits(clock.seconds)
    limits.take("other", 1)
    clock.advance(50)
    first = limits.take("a", 1)
    clock.advance(10)
    limits.take("other", 1)
    limits.give_back("a", first)
    assert limits.take("a", 1).allowed


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
