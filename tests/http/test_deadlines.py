"""
Many deadlines, one timer.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.task import Clock

from tests.http.bench import logged
from twisted_llama.http.deadlines import Deadlines


class Looked:
    """
    Notes when it was looked at.
    """

    deadline = -inf

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self.at: list[float] = []
        self._act = act

    def check_deadline(self, now: float) -> None:
        self.at.append(now)
        self._act()


def test_all_are_looked_at_by_one_call() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    looked = [Looked() for _ in range(3)]
    for one in looked:
        deadlines.add(one)
    assert len(deadlines) == 3
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0.25)
    clock.advance(0.25)
    assert [one.at for one in looked] == [[0.25, 0.5]] * 3


def test_who_cannot_be_late_yet_is_not_looked_at() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    looked = [Looked() for _ in range(3)]
    for one, deadline in zip(looked, (0.4, 0.5, inf), strict=True):
        one.deadline = deadline
        deadlines.add(one)
    clock.advance(0.25)
    assert [one.at for one in looked] == [[], [], []]
    clock.advance(0.25)
    assert [one.at for one in looked] == [[0.5], [0.5], []]


def test_nothing_is_done_while_there_is_none() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    assert clock.getDelayedCalls() == []
    one = Looked()
    deadlines.add(one)
    deadlines.discard(one)
    deadlines.discard(one)
    clock.advance(0.25)
    assert one.at == []
    assert clock.getDelayedCalls() == []
    deadlines.add(one)
    clock.advance(0.25)
    assert one.at == [0.5]


def test_one_that_fails_holds_up_nobody() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    bad, good = Looked(lambda: 1 / 0), Looked()
    deadlines.add(bad)
    deadlines.add(good)
    with logged() as events:
        clock.advance(0.25)
        clock.advance(0.25)
    assert len(events) == 2
    assert good.at == [0.25, 0.5]


def test_one_that_was_ended_by_another_is_not_looked_at() -> None:
    """
    Whichever comes first, the other one is gone then.
    """
    clock = Clock()
    deadlines = Deadlines(clock)
    first, second = (
        Looked(lambda: deadlines.discard(second)),
        Looked(lambda: deadlines.discard(first)),
    )
    deadlines.add(first)
    deadlines.add(second)
    clock.advance(0.25)
    assert len(first.at) + len(second.at) == 1


def test_one_that_comes_while_all_are_looked_at() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    new = Looked()
    old = Looked(lambda: deadlines.add(new))
    deadlines.add(old)
    clock.advance(0.25)
    assert (new.at, len(clock.getDelayedCalls())) == ([], 1)
    clock.advance(0.25)
    assert new.at == [0.5]


def test_stop() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    deadlines.stop()
    one, other = Looked(deadlines.stop), Looked(deadlines.stop)
    deadlines.add(one)
    deadlines.add(other)
    clock.advance(0.25)
    assert len(one.at) + len(other.at) == 1
    assert clock.getDelayedCalls() == []
    deadlines.add(one)
    deadlines.stop()
    assert clock.getDelayedCalls() == []


def test_very_many_are_looked_at_in_portions() -> None:
    """
    All of them, each as often as few would be, with pauses in between.
    """
    clock = Clock()
    deadlines = Deadlines(clock)
    many = [Looked() for _ in range(2 * Deadlines.portion + 1)]
    for one in many:
        deadlines.add(one)
    clock.advance(0.25)
    assert sum(len(one.at) for one in many) == Deadlines.portion
    clock.pump([Deadlines.pause_seconds] * 2)
    assert all(len(one.at) == 1 for one in many)
    clock.advance(Deadlines.pause_seconds)
    assert all(len(one.at) == 1 for one in many)
    clock.advance(0.25)
    deadlines.stop()
    assert sum(len(one.at) for one in many) == len(many) + Deadlines.portion


def test_who_was_held_up_itself_finds_nobody_late_at_once() -> None:
    """
    What came meanwhile is read first; who is always held up still looks every other time.
    """
    clock = Clock()
    deadlines = Deadlines(clock)
    one = Looked()
    deadlines.add(one)
    clock.advance(10)
    assert one.at == []
    clock.advance(0.25)
    assert one.at == [10.25]
    for _ in range(4):
        clock.advance(10)
    assert one.at == [10.25, 30.25, 50.25]
