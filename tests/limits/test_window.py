"""
The sliding window: exact, whatever the order of equal times.
"""

from __future__ import annotations

import gc
from struct import iter_unpack

from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.limits.window import WINDOW_SECONDS, Window, give_back, new_window, take

# Eighths of a second are exact in floating point.
STEPS = st.lists(st.integers(0, 120).map(lambda eighths: eighths / 8), min_size=1, max_size=60)


def counted(window: Window) -> list[float]:
    """
    When that was accepted which may still count.
    """
    return [time for time, _ in iter_unpack("dq", window)]


def test_the_limit_is_accepted_and_then_nothing_until_the_first_is_a_minute_old() -> None:
    window = new_window()
    assert take(window, 2, 0.0, 0).remaining == 1
    assert take(window, 2, 10.0, 1).remaining == 0
    refused = take(window, 2, 20.0, 2)
    assert not refused.allowed
    assert (refused.remaining, refused.retry_after_seconds, refused.reset_seconds) == (0, 40, 50)
    assert not take(window, 2, 59.875, 3).allowed
    assert take(window, 2, 60.0, 4).allowed
    assert not take(window, 2, 60.0, 5).allowed


def test_a_lowered_limit_waits_for_as_many_as_are_too_many() -> None:
    window = new_window()
    for number in range(4):
        take(window, 4, float(number), number)
    assert take(window, 2, 10.0, 9).retry_after_seconds == 2 + 60 - 10


def test_a_limit_of_nothing_accepts_nothing() -> None:
    refused = take(new_window(), 0, 5.0, 0)
    assert (refused.allowed, refused.retry_after_seconds, refused.reset_seconds) == (False, 60, 0)


def test_a_clock_that_goes_back_stands_still() -> None:
    window = new_window()
    take(window, 1, 100.0, 0)
    assert take(window, 1, 50.0, 1).retry_after_seconds == 60
    assert not take(window, 1, 159.0, 2).allowed
    assert take(window, 1, 160.0, 3).allowed


def test_windows_are_nothing_to_the_garbage_collector() -> None:
    """
    A hundred thousand of them are not walked by each of its full collections.
    """
    window = new_window()
    take(window, 2, 0.0, 0)
    assert not gc.is_tracked(window)


@given(steps=STEPS, limits=st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_no_minute_holds_more_than_the_limit(steps: list[float], limits: list[int]) -> None:
    """
    Counted by brute force in every span that ends at an acceptance; and what is refused
    would have broken the limit.
    """
    window, now = new_window(), 0.0
    accepted: list[float] = []
    for number, step in enumerate(steps):
        now += step
        limit = limits[number % len(limits)]
        decision = take(window, limit, now, number)
        counting = [at for at in accepted if at > now - WINDOW_SECONDS]
        assert decision.allowed == (len(counting) < limit)
        if decision.allowed:
            accepted.append(now)
            assert decision.remaining == limit - len(counting) - 1
            assert decision.reset_seconds == WINDOW_SECONDS
            assert decision.retry_after_seconds == 0
        else:
            assert decision.reset_seconds == counting[-1] + WINDOW_SECONDS - now
            again = now + decision.retry_after_seconds
            assert sum(at > again - WINDOW_SECONDS for at in counting) < limit
            assert sum(at > again - 0.125 - WINDOW_SECONDS for at in counting) >= limit
        assert len(counted(window)) <= max(limits)


@given(steps=STEPS, given_back=st.sets(st.integers(0, 59)), limit=st.integers(1, 6))
def test_what_is_given_back_was_never_taken(
    steps: list[float], given_back: set[int], limit: int
) -> None:
    """
    A window in which some were taken and given back decides as one in which they never
    came; and giving back twice, or what was refused, changes nothing.
    """
    window, without = new_window(), new_window()
    now = 0.0
    for number, step in enumerate(steps):
        now += step
        decision = take(window, limit, now, number)
        if number in given_back:
            give_back(window, number)
            give_back(window, number)
        else:
            assert decision == take(without, limit, now, number)


@given(data=st.data(), limit=st.integers(1, 5))
def test_equal_times_in_any_order_give_the_same(data: st.DataObject, limit: int) -> None:
    """
    The takes of one instant are alike, so whichever of them are given back, windows
    are left that decide alike ever after.
    """
    instants = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=12))
    one, other = new_window(), new_window()
    now, stamps = 0.0, 0
    for takes in instants:
        mine = list(range(stamps, stamps + takes))
        stamps += takes
        outcomes = []
        backs = data.draw(st.integers(0, takes))
        for window in (one, other):
            allowed = [stamp for stamp in mine if take(window, limit, now, stamp).allowed]
            outcomes.append(len(allowed))
            for stamp in data.draw(st.permutations(allowed))[:backs]:
                give_back(window, stamp)
        assert outcomes[0] == outcomes[1]
        assert counted(one) == counted(other)
        now += data.draw(st.sampled_from([0.0, 1.0, 20.0, 59.0]))
