"""
Observers hear of what is over: once, in order, several together, and in time.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from twisted.internet.task import Clock

from tests.telemetry.exchanges import finished_exchange, tap_of
from twisted_llama.telemetry.batch import LINGER_SECONDS, MANY, ExchangeBatch
from twisted_llama.telemetry.exchange import Exchange


class World:
    """
    A batch with two observers.

    @ivar told: what the first heard of, call by call.
    @ivar counted: how many the second did.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[list[Exchange]] = []
        self.counted = 0
        self.batch = ExchangeBatch(self.clock, (self._tell, self._count))

    def _tell(self, exchanges: Sequence[Exchange]) -> None:
        self.told.append(list(exchanges))

    def _count(self, exchanges: Sequence[Exchange]) -> None:
        self.counted += len(exchanges)

    def add(self, count: int) -> list[Exchange]:
        """So many are over."""
        exchanges = [finished_exchange() for _ in range(count)]
        for exchange in exchanges:
            self.batch.add(exchange)
        return exchanges


@pytest.fixture
def world() -> World:
    return World()


def test_a_moment_after_the_first(world: World) -> None:
    first = world.add(1)
    world.clock.advance(LINGER_SECONDS * 0.75)
    first += world.add(2)
    assert world.told == []
    world.clock.advance(LINGER_SECONDS * 0.25)
    second = world.add(1)
    assert world.told == [first]
    world.clock.advance(LINGER_SECONDS)
    assert world.told == [first, second]
    assert world.counted == 4
    assert world.clock.getDelayedCalls() == []


def test_many_do_not_wait(world: World) -> None:
    """But for the end of the turn, in which more may come."""
    exchanges = world.add(MANY)
    assert world.told == []
    exchanges += world.add(1)
    world.clock.advance(0)
    assert world.told == [exchanges]
    later = world.add(2)
    world.clock.advance(LINGER_SECONDS)
    assert world.told == [exchanges, later]
    assert world.clock.getDelayedCalls() == []


def test_who_wants_to_know_now(world: World) -> None:
    """Nobody hears of anything twice, nor of nothing."""
    world.batch.tell()
    exchanges = world.add(3)
    world.batch.tell()
    world.batch.tell()
    assert world.told == [exchanges]
    world.clock.advance(LINGER_SECONDS)
    assert world.told == [exchanges]
    assert world.clock.getDelayedCalls() == []


def test_the_end(world: World) -> None:
    """All are told of, and nothing is left to be done; who comes too late does not wait."""
    exchanges = world.add(2)
    world.batch.stop()
    assert world.told == [exchanges]
    assert world.clock.getDelayedCalls() == []
    late = world.add(1)
    world.clock.advance(0)
    assert world.told == [exchanges, late]
    world.batch.stop()
    assert world.clock.getDelayedCalls() == []


def test_tokens_are_read_before(world: World) -> None:
    """From the end of the answer, if there was one."""
    (exchange,) = world.add(1)
    exchange.tap = tap_of(b'{"usage":{"completion_tokens":5,"prompt_tokens":3}}')
    world.batch.tell()
    assert (exchange.prompt_tokens, exchange.generated_tokens) == (3, 5)
