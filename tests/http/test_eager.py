"""
Coroutines that wait, and those that need not.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from twisted_llama.http.eager import eagerly


async def add(*numbers: Deferred[int]) -> int:
    """
    The sum of all, when they are there; 1000 for one that is no number.
    """
    total = 0
    for number in numbers:
        try:
            total += await number
        except ValueError:
            total += 1000
    return total


def test_nothing_to_wait_for() -> None:
    assert eagerly(add()) == 0
    assert eagerly(add(succeed(1), succeed(2), fail(ValueError()))) == 1003


def test_what_is_raised_at_once() -> None:
    with pytest.raises(KeyError):
        eagerly(add(succeed(1), fail(KeyError())))


def test_waiting() -> None:
    numbers: list[Deferred[int]] = [Deferred() for _ in range(3)]
    total = eagerly(add(succeed(1), *numbers))
    assert isinstance(total, Deferred)
    numbers[0].callback(10)
    numbers[2].callback(300)
    assert not total.called
    numbers[1].errback(ValueError())
    assert total.result == 1311


def test_failing_later() -> None:
    number: Deferred[int] = Deferred()
    total = eagerly(add(number))
    assert isinstance(total, Deferred)
    number.errback(KeyError("no"))
    seen: list[object] = []
    total.addErrback(lambda failure: seen.append(failure.check(KeyError)))
    assert seen == [KeyError]


def test_giving_up() -> None:
    """What is waited for is given up too, and the coroutine hears of it."""
    given_up: list[Deferred[int]] = []
    number: Deferred[int] = Deferred(given_up.append)
    total = eagerly(add(number))
    assert isinstance(total, Deferred)
    total.cancel()
    assert given_up == [number]
    seen: list[object] = []
    total.addErrback(lambda failure: seen.append(failure.check(CancelledError)))
    assert seen == [CancelledError]
