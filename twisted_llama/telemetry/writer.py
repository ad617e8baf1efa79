"""
Write log lines from a thread, so that a full disk, a slow volume or a pipe that
nobody reads holds up neither the reactor nor a request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Event, Lock, Thread
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from .sinks import Sink

CAPACITY_LINES: Final = 65536
CAPACITY_CHARACTERS: Final = 32 * 1024 * 1024
BATCH_LINES: Final = 1024
LINGER_SECONDS: Final = 0.25
STOP_SECONDS: Final = 2.0
WARNING_SECONDS: Final = 60.0
_STOP_POLL_SECONDS: Final = 0.005


class LogWriter(Service):
    """
    A bounded queue of lines and the one thread that writes them.

    The thread sleeps until there is a line, then waits a moment for more, so
    that it wakes (and takes the interpreter lock) four times a second
    however many requests there are, and never when there are none.

    Before L{startService} and after L{stopService} lines are written directly:
    what is said at start-up must be out before the process may exit, and a
    thread made before C{twistd} forks would not be there after it.

    @param clock: for the warnings and for the wait at the end.
    @param sink: where the lines go; ours from now on.
    @param name: what the sink is called in a warning.
    @param capacity_lines: how many lines may wait; what is put when there are as many
        is lost.
    @param capacity_characters: the same, by their length together.
    @param linger_seconds: how long the thread waits for more lines.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        sink: Sink,
        name: str,
        *,
        capacity_lines: int = CAPACITY_LINES,
        capacity_characters: int = CAPACITY_CHARACTERS,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self._clock = clock
        self._sink = sink
        self._sink_name = name
        self._capacity_lines = capacity_lines
        self._capacity_characters = capacity_characters
        self._linger_seconds = linger_seconds
        self._lines: deque[str] = deque()
        # Each counter is written on one side only, hence in pairs.
        self._characters_put = 0
        self._characters_taken = 0
        self._refused = 0
        self._unwritten = 0
        self._reported = 0
        self._next_report = float("-inf")
        self._queueing = False
        self._roused = False
        self._wake = Event()
        self._quit = Event()
        self._direct_lock = Lock()
        self._thread: Thread | None = None

    @property
    def lost(self) -> int:
        """
        How many lines were lost so far, for want of room or by failed writes.
        """
        return self._refused + self._unwritten

    def put(self, line: str) -> None:
        """
        Have a line written.  Returns at once, from any thread.

        @param line: without its end.
        """
        self.put_all((line,))

    def put_all(self, lines: Sequence[str]) -> None:
        """
        L{put} each of several lines, in less time.
        """
        if not lines:
            return
        if not self._queueing:
            self._write_directly(lines)
            return
        if (
            len(self._lines) >= self._capacity_lines
            or self._characters_put - self._characters_taken > self._capacity_characters
        ):
            self._refused += len(lines)
            self._report_loss()
            return
        self._lines.extend(lines)
        self._characters_put += sum(map(len, lines))
        if not self._roused:
            self._roused = True
            self._wake.set()
            if self._reported != self._refused + self._unwritten:
                self._report_loss()

    def startService(self) -> None:
        """
        Start the thread.
        """
        super().startService()
        self._quit.clear()
        self._thread = Thread(target=self._run, name=f"log {self._sink_name}", daemon=True)
        self._thread.start()
        self._queueing = True

    def stopService(self) -> Deferred[None]:
        """
        Have the rest written and end the thread.

        @return: fires when that is done, or has taken L{STOP_SECONDS}; then the
            thread is left behind (it dies with the process).
        """
        super().stopService()
        self._quit.set()
        self._wake.set()
        done: Deferred[None] = Deferred()
        self._await_end(self._clock.seconds() + STOP_SECONDS, done)
        return done

    def _await_end(self, deadline: float, done: Deferred[None]) -> None:
        thread = self._thread
        if thread is not None and thread.is_alive():
            if self._clock.seconds() < deadline:
                self._clock.callLater(_STOP_POLL_SECONDS, self._await_end, deadline, done)
                return
            self._queueing = False
            self._refused += len(self._lines)
            self._lines.clear()
        else:
            self._queueing = False
            self._thread = None
            with self._direct_lock:
                self._drain()
                self._sink.close()
        self._next_report = float("-inf")
        self._report_loss()
        done.callback(None)

    # -- in the thread -------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._quit.wait(self._linger_seconds)
            quitting = self._quit.is_set()
            # In this order: a line put between the two is taken below, one put
            # after both rouses again.
            self._wake.clear()
            self._roused = False
            self._drain()
            if quitting:
                return

    def _drain(self) -> None:
        lines = self._lines
        while lines:
            batch = [lines.popleft() for _ in range(min(len(lines), BATCH_LINES))]
            self._characters_taken += sum(map(len, batch))
            self._unwritten += self._sink.write(batch)

    # -- elsewhere -----------------------------------------------------------

    def _write_directly(self, lines: Sequence[str]) -> None:
        if self._thread is not None:
            # The thread was left behind, stuck where we would be too.
            self._refused += len(lines)
            return
        with self._direct_lock:
            lost = self._sink.write(lines)
        if lost:
            self._unwritten += lost
            self._report_loss()

    def _report_loss(self) -> None:
        now = self._clock.seconds()
        lost = self.lost
        count = lost - self._reported
        if not count or now < self._next_report:
            return
        # First, for the warning may come back here as a line to be lost.
        self._next_report = now + WARNING_SECONDS
        self._reported = lost
        self._log.warn(
            "{count} lines of {sink} could not be written and are lost; "
            "requests go on. Is the disk full, or does nobody read the log?",
            count=count,
            sink=self._sink_name,
        )
