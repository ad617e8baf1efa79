"""
Ordinary answers that are produced little by little, in step with their client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_llama.http.outlet import Outlet


class Production:
    """
    One producer (C{IPushProducer} or C{IPullProducer}) for as long as it is
    registered.
    """

    log = Logger()

    def __init__(
        self,
        producer: Any,
        pulls: bool,
        outlet: Outlet,
        clock: IReactorTime,
        on_failure: Callable[[], None],
    ) -> None:
        """
        @param pulls: whether it has to be asked for each piece.
        @param on_failure: called if it fails when asked.
        """
        self._producer = producer
        self._pulls = pulls
        self._outlet = outlet
        self._clock = clock
        self._on_failure = on_failure
        self._ended = False
        self._next: IDelayedCall | None = None

    def begin(self) -> None:
        """
        Let it produce, if the client takes anything now.
        """
        if self._pulls:
            self._pull()
        else:
            self.written()

    def written(self) -> None:
        """
        Something was written: one that pushes is stopped if it did not get
        through.
        """
        if not self._pulls and self._outlet.blocked:
            self._producer.pauseProducing()

    def drained(self) -> None:
        """
        The client has taken everything.
        """
        if not self._pulls:
            self._producer.resumeProducing()
        elif self._next is None:
            self._pull()

    def _pull(self) -> None:
        self._next = None
        if self._ended or self._outlet.blocked:
            return
        try:
            self._producer.resumeProducing()
        except Exception:
            self.log.failure("While producing an answer")
            self._on_failure()
            return
        if not self._ended and self._next is None:
            # Others get their turn between two pieces.
            self._next = self._clock.callLater(0, self._pull)

    def end(self) -> None:
        """
        It has produced everything.
        """
        self._ended = True
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def stop(self) -> None:
        """
        The client has left: it is to produce no more.
        """
        self.end()
        self._producer.stopProducing()
