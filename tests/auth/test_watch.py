"""
Noticing that the key file changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from twisted_llama.auth.checkers import KeyfileChecker, Reading
from twisted_llama.auth.watch import POLL_SECONDS, SETTLE_SECONDS, KeyfileWatch

ALICE = "alice:sk-0123456789abcdef\n"
BOB = "bob:sk-fedcba9876543210\n"


class Watched:
    """A file that is watched on a clock moved by hand, and what came of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write(ALICE)
        self.clock = Clock()
        self.checker = KeyfileChecker(path, self.clock.seconds)
        self.checker.load()
        self.counts: list[int] = []
        self.problem: Exception | None = None
        self.watch = KeyfileWatch(self.checker, self.clock, self.on_change)

    def on_change(self) -> None:
        """Note the number of keys, or fail as told."""
        self.counts.append(self.checker.count)
        if self.problem is not None:
            raise self.problem

    def write(self, text: str) -> None:
        """Replace the file, so that its inode tells even within one tick of its clock."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o600)
        os.replace(fresh, self.path)

    def wait(self) -> None:
        """As long as a change may take to be in force."""
        self.clock.advance(POLL_SECONDS)
        self.clock.advance(SETTLE_SECONDS)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A running watch on a file with one key; it leaves nothing on the clock."""
    watched = Watched(tmp_path / "api_keys.txt")
    watched.watch.startService()
    yield watched
    if watched.watch.running:
        watched.watch.stopService()
    assert watched.clock.getDelayedCalls() == []


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What is logged, as lines of text."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def test_a_change_is_in_force_within_five_seconds(watched: Watched) -> None:
    """That is what is promised, bind mounts included."""
    assert POLL_SECONDS + SETTLE_SECONDS <= 5
    watched.write(ALICE + BOB)
    watched.wait()
    assert watched.counts == [2]
    watched.write(BOB)
    watched.wait()
    assert watched.counts == [2, 1]


def test_nothing_happens_while_nothing_changes(watched: Watched) -> None:
    """Neither a reload nor a callback."""
    for _ in range(5):
        watched.wait()
    assert watched.counts == []


def test_a_change_in_place_is_seen(watched: Watched) -> None:
    """By its size or its times."""
    with watched.path.open("a") as opened:
        opened.write(BOB)
    watched.wait()
    assert watched.counts == [2]


def test_a_turned_link_is_seen(watched: Watched, tmp_path: Path) -> None:
    """As a ConfigMap does it."""
    (tmp_path / "next").write_text(ALICE + BOB)
    (tmp_path / "link").symlink_to("next")
    os.replace(tmp_path / "link", watched.path)
    watched.wait()
    assert watched.counts == [2]


def test_a_file_caught_half_written_is_waited_for(watched: Watched) -> None:
    """Truncated at one look, whole at the next: no key is ever missing."""
    watched.write("")
    watched.clock.advance(POLL_SECONDS)
    watched.write(ALICE + BOB)
    watched.clock.advance(SETTLE_SECONDS)
    assert watched.counts == []
    watched.clock.advance(SETTLE_SECONDS)
    assert watched.counts == [2]


def test_a_change_taken_back_is_none(watched: Watched, tmp_path: Path) -> None:
    """Put away and put back between two looks."""
    os.rename(watched.path, tmp_path / "aside")
    watched.clock.advance(POLL_SECONDS)
    os.rename(tmp_path / "aside", watched.path)
    watched.checker.load()
    watched.wait()
    assert watched.counts == []


def test_a_file_that_always_changes_is_read_in_the_end(watched: Watched) -> None:
    """A file that something touches every moment must not hide its new keys."""
    watched.write(BOB + ALICE)
    watched.clock.advance(POLL_SECONDS)
    for number in range(20):
        watched.write(f"{BOB}{ALICE}# {number}\n")
        watched.clock.advance(SETTLE_SECONDS)
    assert watched.counts
    assert watched.counts[0] == 2


def test_a_missing_file_leaves_the_keys_and_is_told_once(
    watched: Watched, logged: list[str]
) -> None:
    """And the file is taken again when it is back."""
    watched.path.unlink()
    for _ in range(4):
        watched.wait()
    assert watched.checker.count == 1
    assert watched.counts == []
    complaints = [line for line in logged if "cannot be read" in line]
    assert len(complaints) == 1
    assert str(watched.path) in complaints[0]
    watched.write(ALICE + BOB)
    watched.wait()
    watched.wait()
    assert watched.counts == [2]


def test_an_error_in_the_callback_does_not_end_the_watch(
    watched: Watched, logged: list[str]
) -> None:
    """It is logged, and the next change is noticed."""
    watched.problem = RuntimeError("boom")
    watched.write(ALICE + BOB)
    watched.wait()
    assert any("Reloading the keys failed" in line for line in logged)
    watched.problem = None
    watched.write(BOB)
    watched.wait()
    assert watched.counts == [2, 1]


def test_a_reload_by_another_way_is_not_repeated(watched: Watched) -> None:
    """C{POST /reload} was quicker."""
    watched.write(ALICE + BOB)
    watched.checker.load()
    watched.wait()
    assert watched.counts == []


def test_a_file_that_appears_is_taken(tmp_path: Path) -> None:
    """The first key is made while the gateway runs."""
    path = tmp_path / "api_keys.txt"
    clock, counts = Clock(), list[int]()
    checker = KeyfileChecker(path, clock.seconds)
    checker.load()
    watch = KeyfileWatch(checker, clock, lambda: counts.append(checker.count))
    watch.startService()
    path.write_text(ALICE)
    clock.advance(POLL_SECONDS)
    clock.advance(SETTLE_SECONDS)
    assert counts == [1]
    watch.stopService()


def test_a_stopped_watch_is_silent(watched: Watched) -> None:
    """Nothing is left on the clock."""
    watched.watch.stopService()
    assert watched.clock.getDelayedCalls() == []
    watched.write(BOB)
    watched.wait()
    assert watched.counts == []


def test_a_reading_in_a_thread_that_ends_after_the_stop_is_dropped(tmp_path: Path) -> None:
    """The clock stands still while it is read, and a stop in between holds."""
    watched = Watched(tmp_path / "api_keys.txt")
    reads: list[tuple[Callable[[], Reading], Deferred[Reading]]] = []

    def in_thread(read: Callable[[], Reading]) -> Deferred[Reading]:
        reading: Deferred[Reading] = Deferred()
        reads.append((read, reading))
        return reading

    watch = KeyfileWatch(watched.checker, watched.clock, watched.on_change, in_thread=in_thread)
    watch.startService()
    watched.write(ALICE + BOB)
    watched.wait()
    assert watched.clock.getDelayedCalls() == []
    read, reading = reads.pop()
    reading.callback(read())
    assert watched.counts == [2]
    watched.write(BOB)
    watched.wait()
    watch.stopService()
    read, reading = reads.pop()
    reading.callback(read())
    assert watched.counts == [2]
    assert watched.checker.count == 2
    assert watched.clock.getDelayedCalls() == []
