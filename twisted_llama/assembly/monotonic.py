"""
Time that does not jump.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IReactorTime)
class MonotonicTime:
    """
    A reactor's time, except that C{seconds} is monotonic.

    A reactor's own is the wall clock, and a limit or a time-out measured with
    that is wrong as soon as somebody sets it.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor

    #: Seconds since some moment in the past; the function itself, since it is
    #: called several times for every request.
    seconds = staticmethod(time.monotonic)

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """
        See C{IReactorTime.callLater}.
        """
        return self._reactor.callLater(delay, callable, *args, **kwargs)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """
        See C{IReactorTime.getDelayedCalls}.
        """
        return self._reactor.getDelayedCalls()
