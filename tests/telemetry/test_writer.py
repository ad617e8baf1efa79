"""
Tests of the thread that writes log lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from twisted_llama.telemetry import writer as writer_module
from twisted_llama.telemetry.sinks import FileSink
from twisted_llama.telemetry.writer import LogWriter


class MemorySink:
    """
    Keeps lines; can be held up, and can be made to lose them.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.losing = False
        self.closed = 0
        self.entered = Event()
        self.open_to_all = Event()
        self.open_to_all.set()

    def write(self, lines: Sequence[str]) -> int:
        self.entered.set()
        assert self.open_to_all.wait(10)
        if self.losing:
            return len(lines)
        self.lines += lines
        return 0

    def close(self) -> None:
        self.closed += 1


def end(writer: LogWriter, clock: Clock) -> None:
    """
    Stop a writer whose thread can end, and wait for it.
    """
    thread = writer._thread
    done = writer.stopService()
    if thread is not None:
        thread.join(10)
    clock.advance(0.01)
    assert done.called


@contextmanager
def warnings_of_loss() -> Iterator[list[int]]:
    """
    Collect the counts of the warnings.
    """
    counts: list[int] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace", "").endswith("LogWriter"):
            counts.append(event["count"])

    globalLogPublisher.addObserver(observe)
    try:
        yield counts
    finally:
        globalLogPublisher.removeObserver(observe)


def until(condition: Callable[[], bool], event: Event) -> None:
    """
    Wait for the thread to do something, at most ten seconds.
    """
    assert event.wait(10)
    assert condition()


def test_lines_arrive_in_order(tmp_path: Path) -> None:
    """All of them are in the file when the service has stopped."""
    clock = Clock()
    writer = LogWriter(clock, FileSink(tmp_path / "a.log", 10**6, 1), "a.log", linger_seconds=0)
    writer.startService()
    for number in range(5000):
        writer.put(f"line {number}")
    end(writer, clock)
    assert (tmp_path / "a.log").read_text().splitlines() == [f"line {n}" for n in range(5000)]
    assert writer.lost == 0


def test_lines_put_together() -> None:
    """They are written, lost and counted like single ones; none is nothing."""
    clock = Clock()
    sink = MemorySink()
    writer = LogWriter(clock, sink, "memory", capacity_lines=3, linger_seconds=0)
    writer.put_all(["a", "b"])
    assert sink.lines == ["a", "b"]
    writer.startService()
    sink.open_to_all.clear()
    sink.entered.clear()
    writer.put_all(["c", "d"])
    until(lambda: True, sink.entered)
    writer.put_all([])
    writer.put_all(["e", "f"])
    writer.put_all(["g", "h"])
    writer.put_all(["i", "j"])
    assert writer.lost == 2
    sink.open_to_all.set()
    end(writer, clock)
    assert sink.lines == list("abcdefgh")


def test_before_start_and_after_stop_lines_are_written_at_once() -> None:
    """What is said at start-up is out before the process may exit."""
    clock = Clock()
    sink = MemorySink()
    writer = LogWriter(clock, sink, "memory")
    writer.put("before")
    assert sink.lines == ["before"]
    writer.startService()
    end(writer, clock)
    writer.put("after")
    assert sink.lines == ["before", "after"]
    assert sink.closed == 1


def test_lines_put_while_stopping_are_written() -> None:
    """The last words of other services are not lost."""
    clock = Clock()
    sink = MemorySink()
    writer = LogWriter(clock, sink, "memory")
    writer.startService()
    thread = writer._thread
    assert thread is not None
    done = writer.stopService()
    thread.join(10)
    writer.put("late")
    clock.advance(0.01)
    assert done.called
    assert sink.lines == ["late"]


def test_the_thread_is_roused_again_after_a_batch() -> None:
    """A second line does not wait for a third."""
    clock = Clock()
    sink = MemorySink()
    writer = LogWriter(clock, sink, "memory", linger_seconds=0)
    writer.startService()
    for line in ("one", "two", "three"):
        sink.entered.clear()
        writer.put(line)
        assert sink.entered.wait(10)
    end(writer, clock)
    assert sink.lines == ["one", "two", "three"]


def test_a_blocked_sink_holds_up_nobody() -> None:
    """Lines beyond the capacity are lost, counted, and warned of once a minute."""
    clock = Clock()
    sink = MemorySink()
    sink.open_to_all.clear()
    writer = LogWriter(clock, sink, "memory", capacity_lines=3, linger_seconds=0)
    writer.startService()
    writer.put("held")
    until(lambda: True, sink.entered)
    with warnings_of_loss() as counts:
        for number in range(10):
            writer.put(f"line {number}")
        assert writer.lost == 7
        assert counts == [1]
        clock.advance(59)
        writer.put("too many")
        assert counts == [1]
        clock.advance(1)
        writer.put("too many")
        assert counts == [1, 8]
        sink.open_to_all.set()
        end(writer, clock)
        assert counts == [1, 8]
    assert sink.lines == ["held", "line 0", "line 1", "line 2"]


def test_waiting_lines_are_bounded_by_their_length_too() -> None:
    """A few tracebacks may be longer than many requests."""
    clock = Clock()
    sink = MemorySink()
    sink.open_to_all.clear()
    writer = LogWriter(clock, sink, "memory", capacity_characters=100, linger_seconds=0)
    writer.startService()
    writer.put("held")
    until(lambda: True, sink.entered)
    writer.put("x" * 101)
    writer.put("y")
    assert writer.lost == 1
    sink.open_to_all.set()
    end(writer, clock)
    assert sink.lines == ["held", "x" * 101]


def test_lines_that_cannot_be_written_are_reported() -> None:
    """At the next line, and the rest at the end."""
    clock = Clock()
    sink = MemorySink()
    sink.losing = True
    writer = LogWriter(clock, sink, "memory", linger_seconds=0)
    with warnings_of_loss() as counts:
        writer.put("one")
        assert counts == [1]
        writer.startService()
        writer.put("two")
        end(writer, clock)
        assert counts == [1, 1]
    assert writer.lost == 2


def test_a_loss_seen_by_the_thread_is_reported_with_the_next_line() -> None:
    """No timer is needed for it."""
    clock = Clock()
    sink = MemorySink()
    sink.losing = True
    writer = LogWriter(clock, sink, "memory", linger_seconds=0)
    writer.startService()
    with warnings_of_loss() as counts:
        while not counts:
            writer.put("lost")
        assert sum(counts) > 0
    end(writer, clock)


def test_stopping_does_not_wait_for_ever() -> None:
    """A thread that is stuck is left behind, and lines after it are lost."""
    clock = Clock()
    sink = MemorySink()
    sink.open_to_all.clear()
    writer = LogWriter(clock, sink, "memory", linger_seconds=0)
    writer.startService()
    thread = writer._thread
    assert thread is not None
    writer.put("held")
    until(lambda: True, sink.entered)
    writer.put("waits")
    done: Deferred[None] = writer.stopService()
    clock.pump([0.01] * 10)
    assert not done.called
    clock.advance(writer_module.STOP_SECONDS)
    assert done.called
    writer.put("too late")
    assert writer.lost == 2
    assert sink.closed == 0
    sink.open_to_all.set()
    thread.join(10)
    assert not thread.is_alive()


def test_stopping_what_never_started() -> None:
    """It is done at once."""
    writer = LogWriter(Clock(), MemorySink(), "memory")
    assert writer.stopService().called
