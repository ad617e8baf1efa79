"""
What the gateway does when it is sent a signal.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


def install_signals(
    reactor: Any, on_stop: Callable[[str], None], on_reload: Callable[[], None]
) -> None:
    """
    Take over SIGTERM, SIGINT and SIGHUP.

    Twisted's own handlers would end the process by the same signal again, so
    that an orderly end looks like a crash to whoever started it.  To be called
    when the reactor runs, since it installs its own at that moment.

    @param reactor: C{IReactorFromThreads}.
    @param on_stop: called with the signal's name.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(on_stop, signal.Signals(number).name)

    def reload(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(on_reload)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, reload)
