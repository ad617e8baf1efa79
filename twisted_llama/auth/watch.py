"""
Notices that the file of keys changed.

By polling, because inotify sees nothing of what happens on the other side of
a bind mount or in a Kubernetes ConfigMap.  Differs from C{TimerService}, which
stops for good after one exception: here a look that fails is logged and the
next one is taken all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_llama.auth.checkers import FileStamp, KeyfileChecker, Reading
from twisted_llama.errors import ReloadFailed

POLL_SECONDS = 4.0
SETTLE_SECONDS = 0.5
_MOST_SETTLING_LOOKS = 8


class KeyfileWatch(Service):
    """
    Looks at the file every few seconds and reloads it once it differs from
    what is in force and has stopped changing: a file caught between being
    truncated and being written would end the streams of every key.

    A file that cannot be read, or is gone, leaves the keys in force; it is
    tried again at each look and complained about once.
    """

    name = "keyfile-watch"
    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        checker: KeyfileChecker,
        clock: IReactorTime,
        on_change: Callable[[], None],
        *,
        poll_seconds: float = POLL_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
        in_thread: Callable[[Callable[[], Reading]], Deferred[Reading]] = execute,
    ) -> None:
        """
        @param checker: whose file is watched; it need not be loaded yet.
        @param on_change: called after each reload that succeeded.
        @param poll_seconds: between two looks at a file that does not change.
        @param settle_seconds: between two looks at one that just did; together
            with C{poll_seconds} at most the 5 s that are promised.
        @param in_thread: runs the reading, such as C{deferToThread}, so that a
            file of a million keys does not hold up the streams; by default it
            is read at once.
        """
        self._checker = checker
        self._clock = clock
        self._on_change = on_change
        self._poll_seconds = poll_seconds
        self._settle_seconds = settle_seconds
        self._in_thread = in_thread
        self._next_look: IDelayedCall | None = None
        self._seen: FileStamp | None = None
        self._settling_looks = 0
        self._complaint = ""

    def startService(self) -> None:
        """
        Begin to look.  What the file holds now is for C{checker.load()}.
        """
        super().startService()
        self._seen = self._checker.stamp
        self._look_in(self._poll_seconds)

    def stopService(self) -> None:
        """
        Look no more; a reading that is under way is not taken into force.
        """
        super().stopService()
        self._forget_next_look()

    def _look_in(self, seconds: float) -> None:
        self._forget_next_look()
        if self.running:
            self._next_look = self._clock.callLater(seconds, self._look)

    def _forget_next_look(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    def _look(self) -> None:
        """
        Compare the file with what is in force:
          1. the same: look again after C{poll_seconds};
          2. different, and different from the last look too: let it settle;
          3. different, but as it was at the last look: reload.
        """
        self._next_look = None
        stamp = FileStamp.of(self._checker.path)
        if stamp == self._checker.stamp:  # 1
            self._seen = stamp
            self._settling_looks = 0
            self._complaint = ""
            self._look_in(self._poll_seconds)
        elif stamp != self._seen and self._settling_looks < _MOST_SETTLING_LOOKS:  # 2
            self._seen = stamp
            self._settling_looks += 1
            self._look_in(self._settle_seconds)
        else:  # 3
            self._seen = stamp
            self._settling_looks = 0
            reloading = Deferred.fromCoroutine(self._reload())
            reloading.addErrback(
                lambda failure: self._log.failure("Reloading the keys failed", failure)
            )
            reloading.addCallback(lambda _: self._look_in(self._poll_seconds))

    async def _reload(self) -> None:
        try:
            reading = await self._in_thread(self._checker.read)
        except ReloadFailed as problem:
            if str(problem) != self._complaint:
                self._complaint = str(problem)
                self._log.error(
                    "{problem} ({path})", problem=self._complaint, path=str(self._checker.path)
                )
            return
        if not self.running:
            return
        self._complaint = ""
        count = self._checker.adopt(reading)
        self._log.info(
            "The key file {path} changed: {count} key(s) are in force.",
            path=str(self._checker.path),
            count=count,
        )
        self._on_change()
