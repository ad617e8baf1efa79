"""
Coroutines that seldom have to wait.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

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
    return _Rest(coroutine, awaited).ended


class _Rest(Generic[T]):
    """
    What is left of a coroutine that waits.  C{Deferred.fromCoroutine} makes a dozen
    objects for it, and of ten thousand requests that wait none is in the processor's
    caches when its turn has come.

    @ivar ended: fires with what the coroutine returns or raises.  To cancel it cancels
        what is awaited; a coroutine that goes on all the same is let go on, unheard.
    """

    __slots__ = ("_awaited", "_coroutine", "ended")

    def __init__(self, coroutine: Coroutine[Deferred[Any], Any, T], awaited: Deferred[Any]) -> None:
        self._coroutine = coroutine
        self._awaited = awaited
        self.ended: Deferred[T] = Deferred(self._give_up)
        awaited.addBoth(self._go_on)

    def _give_up(self, ended: Deferred[T]) -> None:
        self._awaited.cancel()

    def _go_on(self, outcome: object) -> None:
        """
        What was awaited has come, or failed.
        """
        result: T | Failure
        try:
            if isinstance(outcome, Failure):
                awaited = outcome.throwExceptionIntoGenerator(self._coroutine)
            else:
                # The Deferred tells its result itself, to whoever awaits it.
                awaited = self._coroutine.send(None)
        except StopIteration as end:
            result = end.value
        except BaseException:
            # As C{Deferred.fromCoroutine} does: it goes to who waits for the end.
            result = Failure()
        else:
            self._awaited = awaited
            awaited.addBoth(self._go_on)
            return
        # Takes a Failure for what it is.
        self.ended.callback(result)
