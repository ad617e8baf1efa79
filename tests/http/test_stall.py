"""
Clients that take something now and then, and clients that take nothing.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from twisted_llama.http.deadlines import Deadlines
from twisted_llama.http.outlet import TransportOutlet
from twisted_llama.http.stall import Stall


class Slow:
    """
    An outlet that is looked at for a stall of ten seconds.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.outlet = TransportOutlet(StringTransport(), lambda: None, lambda: None)
        self.ended_at: list[float] = []
        self.stall = Stall(self.outlet, 10.0, self._end)
        self.deadlines.add(self.stall)

    def _end(self) -> None:
        self.ended_at.append(self.clock.seconds())
        self.deadlines.discard(self.stall)

    def pass_time(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(0.25)


def test_who_takes_nothing_is_given_up_once() -> None:
    slow = Slow()
    slow.pass_time(10)
    assert slow.ended_at == []
    slow.pass_time(20)
    assert len(slow.ended_at) == 1


def test_who_takes_something_has_all_the_time_again() -> None:
    slow = Slow()
    for _ in range(5):
        slow.pass_time(9)
        slow.outlet.progress += 1
    assert slow.ended_at == []
    slow.pass_time(11)
    assert len(slow.ended_at) == 1


def test_one_that_is_forgotten_ends_nothing() -> None:
    slow = Slow()
    slow.pass_time(9)
    slow.deadlines.discard(slow.stall)
    slow.pass_time(20)
    assert slow.ended_at == []
