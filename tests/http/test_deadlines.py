"""
Many deadlines, one timer.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock

from tests.http.bench import logged
from twisted_llama.http.deadlines import Deadlines


class Looked:
    """
    Notes when it was looked at.
    """

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
