"""
Coroutines that seldom have to wait.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


def eagerly(coroutine: Coroutine[Deferred[Any], Any, T]) -> T | Deferred[T]:
    """
    As C{Deferred.fromCoroutine}, but what the coroutine returns without having
    waited is returned as it is, and what it raises by then is raised.  That
    costs a tenth.

    @param coroutine: awaits L{Deferred}s and nothing else.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    return Deferred.fromCoroutine(_rest(coroutine, awaited))


def _rest(
    coroutine: Coroutine[Deferred[Any], Any, T], awaited: Deferred[Any]
) -> Generator[Deferred[Any], Any, T]:
    """
    What is left of a coroutine that waits.
    """
    while True:
        try:
            failure, result = None, (yield awaited)
        except BaseException as error:
            failure, result = error, None
        try:
            awaited = coroutine.send(result) if failure is None else coroutine.throw(failure)
        except StopIteration as end:
            rest: T = end.value
            return rest
