"""
Letting clients in for as long as there are file descriptors for them.

A C{Port} that has none left accepts all the same and closes at once, with three
lines in the log for every client, and by then there is none left for the
engine, the logs and the health port either.  L{Door} stands between the reactor
and the port and looks before it accepts.  Where there is no room it stops
listening for a while: who comes meanwhile waits in the kernel, and who is
inside is served.

The rule is about numbers, because the kernel hands out the lowest that is free:
clients get numbers below the limit less what is kept, so what is kept can be
had by others at any time, whatever else is open.  What requests under way have
already need not be kept for them; but a client that gets such a number when its
request is over would be one too many for the next, so there is a bound for how
many clients there are as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_llama.assembly.open_files import file_limit

#: Kept for files that are opened anew and the pipes of an engine that is started
#: again; those of before may have had lower numbers, which clients have by now.
FOR_FILES: Final = 24
#: Kept for the health port, beside those.
FOR_HEALTH: Final = 16
#: How often it is looked whether there is room again.
LOOK_SECONDS: Final = 0.25
#: There is one line in the log in that time, at most.
WARNING_SECONDS: Final = 60.0
#: How many clients are let in before others have their turn.  As many, at worst, may get
#: numbers among those kept: if there is much room, but all of it below one number.
_AT_A_TIME: Final = 20
#: As far from the limit as this it is looked once for all of them.
_MUCH: Final = 500


def kept_for_engine(requests_at_once: int) -> int:
    """
    How many descriptors requests under way may take beside those of their clients.

    @param requests_at_once: how many are sent to the engine at once.
    @return: as many, but no more than half of all: there is no request without
        a client.
    """
    return min(requests_at_once, file_limit() // 2)


def next_descriptor() -> int:
    """
    The number that the next descriptor would get.

    @raise OSError: there is none for this process, or none in the whole system.
    """
    descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.close(descriptor)
    return descriptor


@implementer(IReadDescriptor)
class Door:
    """
    What the reactor watches in place of a port.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        port: Port,
        kept: Callable[[], int],
        spare: Callable[[], int],
        name: str,
    ) -> None:
        """
        @param reactor: C{IReactorFDSet} and C{IReactorTime}.
        @param port: one that listens; it is its reader no more.
        @param kept: how many more descriptors are kept for others than its clients.
        @param spare: how many more clients there may be.
        @param name: what the port is called in the log.
        """
        self._reactor = reactor
        self._port = port
        self._kept = kept
        self._spare = spare
        self._name = name
        self._look_call: IDelayedCall | None = None
        self._next_warning = float("-inf")
        port.stopReading()
        reactor.addReader(self)

    @property
    def paused(self) -> bool:
        """
        Whether it waits for descriptors.
        """
        return self._look_call is not None

    def let_in(self, most: int) -> bool:
        """
        Accept those that wait, as long as there is room.

        @param most: how many.
        @return: whether there was room for them.
        """
        port = self._port
        if most <= _AT_A_TIME and self._has_much_room():
            port.numberAccepts = most
            port.doRead()
            return True
        for _ in range(most):
            if not self._has_room():
                return False
            accepted = port.sessionno
            port.numberAccepts = 1
            port.doRead()
            if port.sessionno == accepted:
                break
        return True

    def close(self) -> None:
        """
        Accept nobody any more.  The port is still open.
        """
        self._reactor.removeReader(self)
        if self._look_call is not None:
            self._look_call.cancel()
            self._look_call = None

    # -- what the reactor asks for ---------------------------------------------

    def doRead(self) -> None:
        """
        Somebody waits to be let in.
        """
        if not self.let_in(_AT_A_TIME):
            self._reactor.removeReader(self)
            self._look_call = self._reactor.callLater(LOOK_SECONDS, self._look)

    def fileno(self) -> int:
        """
        The port's.
        """
        return int(self._port.fileno())

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor has ended.
        """
        self.close()

    def logPrefix(self) -> str:
        """
        The port's.
        """
        return str(self._port.logPrefix())

    # -- room ----------------------------------------------------------------------

    def _look(self) -> None:
        self._look_call = None
        if self._has_room():
            self._reactor.addReader(self)
        else:
            self._look_call = self._reactor.callLater(LOOK_SECONDS, self._look)

    def _has_much_room(self) -> bool:
        """
        Whether it need not be looked again for each client.
        """
        try:
            room = file_limit() - self._kept() - next_descriptor()
        except OSError:
            return False
        return min(room, self._spare()) > _MUCH

    def _has_room(self) -> bool:
        limit = file_limit()
        try:
            if next_descriptor() < limit - self._kept() and self._spare() > 0:
                return True
            reason = f"all but those kept for other uses, of {limit}"
        except OSError as error:
            reason = error.strerror or str(error)
        now = self._reactor.seconds()
        if now >= self._next_warning:
            self._next_warning = now + WARNING_SECONDS
            self.log.warn(
                "{name}: file descriptors are used up ({reason}). New connections wait until "
                "others are closed. Raise the limit of open files: ulimit -n, LimitNOFILE=.",
                name=self._name,
                reason=reason,
            )
        return False
