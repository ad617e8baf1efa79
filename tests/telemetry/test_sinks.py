"""
Tests of the places where lines end, on real files and pipes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.telemetry import sinks
from twisted_llama.telemetry.sinks import AppendingLogFile, FileSink, StreamSink


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[FileSink]:
    """A file of at most 100 bytes, of which two old ones are kept."""
    sink = FileSink(tmp_path / "logs" / "a.log", 100, 2)
    yield sink
    sink.close()


def all_lines(sink: FileSink) -> list[str]:
    """The lines of the file and its rotated ones, oldest first."""
    files = sorted(
        sink.path.parent.glob("a.log*"),
        key=lambda path: int(path.suffix[1:] or 0) if path.suffix != ".log" else 0,
        reverse=True,
    )
    return [line for file in files for line in file.read_text().splitlines()]


def test_lines_are_appended(sink: FileSink) -> None:
    """Each line has its end; the directory is made."""
    assert sink.write(["one", "zwei ä", "\ud800"]) == 0
    sink.close()
    assert sink.write(["three"]) == 0
    assert sink.path.read_text() == "one\nzwei ä\n\\ud800\nthree\n"


def test_new_files_are_not_for_everybody(sink: FileSink) -> None:
    """Others may not read them; a rotated one's successor neither."""
    sink.write(["x" * 100])
    sink.write(["y"])
    assert sink.path.stat().st_mode & 0o007 == 0
    assert (sink.path.parent / "a.log.1").stat().st_mode & 0o007 == 0


def test_rotation_keeps_the_newest(sink: FileSink) -> None:
    """There are never more than two old files, and no line is lost between them."""
    for number in range(100):
        assert sink.write([f"line {number:03d}"]) == 0
    names = sorted(path.name for path in sink.path.parent.iterdir())
    assert names == ["a.log", "a.log.1", "a.log.2"]
    lines = all_lines(sink)
    assert lines == [f"line {number:03d}" for number in range(100 - len(lines), 100)]


@given(st.lists(st.text(st.characters(codec="ascii", categories=["L"]), max_size=60)))
def test_a_long_batch_is_spread_over_files(lines: list[str]) -> None:
    """One batch does not make a file longer than it may be by more than a line."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        sink = FileSink(Path(directory) / "a.log", 100, 1000)
        assert sink.write(lines) == 0
        sink.close()
        if lines:
            assert all_lines(sink) == lines
        for path in Path(directory).iterdir():
            assert path.stat().st_size <= 161


def test_a_lowered_limit_prunes_older_files(sink: FileSink) -> None:
    """What an earlier setting kept is removed at the next rotation."""
    sink.write(["x"])
    for number in range(1, 9):
        (sink.path.parent / f"a.log.{number}").write_text(f"{number}\n")
    (sink.path.parent / "a.log.old").write_text("not ours\n")
    sink.write(["y" * 100])
    sink.write(["z"])
    names = sorted(path.name for path in sink.path.parent.iterdir())
    assert names == ["a.log", "a.log.1", "a.log.2", "a.log.old"]


def test_brackets_in_the_directory(tmp_path: Path) -> None:
    """Rotation finds its files although the directory's name looks like a pattern."""
    sink = FileSink(tmp_path / "[x]" / "a.log", 10, 5)
    for number in range(4):
        sink.write([f"line {number} ..."])
    sink.close()
    assert all_lines(sink) == [f"line {number} ..." for number in range(4)]


def test_a_file_that_was_moved_away_is_made_anew(sink: FileSink) -> None:
    """As logrotate does it."""
    sink.write(["one"])
    sink.path.rename(sink.path.with_name("moved"))
    sink.write(["two"])
    sink.path.unlink()
    sink.write(["three"])
    sink.path.with_name("other").write_text("")
    sink.path.with_name("other").rename(sink.path)
    sink.write(["four"])
    assert sink.path.with_name("moved").read_text() == "one\n"
    assert sink.path.read_text() == "four\n"


def test_two_writers_share_a_file(sink: FileSink) -> None:
    """As when a new gateway starts before the old one has ended."""
    other = FileSink(sink.path, 100, 2)
    for number in range(5):
        sink.write([f"a{number}"])
        other.write([f"b{number}"])
    other.close()
    assert sink.path.read_text().split() == [f"{who}{n}" for n in range(5) for who in "ab"]


def test_a_torn_line_is_ended_first(sink: FileSink) -> None:
    """What an earlier crash left does not become part of the next line."""
    sink.path.parent.mkdir()
    sink.path.write_text('{"ts": "torn')
    sink.write(["whole"])
    assert sink.path.read_text() == '{"ts": "torn\nwhole\n'


class Disk:
    """
    A disk with room for some bytes, in place of the raw file's C{write}.
    """

    def __init__(self, file: AppendingLogFile, room: int | None) -> None:
        self.raw = file._file
        self.room = room

    def write(self, octets: memoryview) -> int | None:
        if self.room is None:
            return None
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = self.raw.write(octets[: self.room])
        self.room -= count
        return count

    def __getattr__(self, name: str) -> object:
        return getattr(self.raw, name)


@pytest.mark.parametrize(
    ("room", "lost", "text"),
    [
        (0, 3, "four\n"),
        (2, 3, "on\nfour\n"),
        (3, 2, "one\nfour\n"),
        (4, 2, "one\nfour\n"),
        (5, 2, "one\nt\nfour\n"),
        (13, 0, "one\ntwo\nthree\nfour\n"),
    ],
)
def test_a_full_disk_loses_lines_and_counts_them(
    sink: FileSink, room: int, lost: int, text: str
) -> None:
    """What there was no room for, and no more; the torn line is ended after it."""
    file = sink.open()
    file._file = Disk(file, room)
    assert sink.write(["one", "two", "three"]) == lost
    assert sink.write(["four"]) == 0
    assert sink.path.read_text() == text


def test_a_descriptor_that_takes_nothing_loses_lines(sink: FileSink) -> None:
    """None, the answer of a non-blocking descriptor, is no success."""
    file = sink.open()
    file._file = Disk(file, None)
    assert sink.write(["one"]) == 1


def test_dev_full(tmp_path: Path) -> None:
    """The system's own full disk, which is no regular file and is never rotated."""
    link = tmp_path / "a.log"
    link.symlink_to("/dev/full")
    sink = FileSink(link, 1, 1)
    assert sink.write(["one", "two"]) == 2
    assert sink.write(["three"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


def test_no_room_even_to_end_a_torn_line(sink: FileSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the file is closed and tried again later."""
    sink.path.parent.mkdir()
    sink.path.write_text("torn")

    def full(file: AppendingLogFile, octets: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(AppendingLogFile, "_write_whole", full)
        assert sink.write(["one"]) == 1
    assert sink.write(["two"]) == 0
    assert sink.path.read_text() == "torn\ntwo\n"


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """Lines are lost and nothing is raised."""
    (tmp_path / "file").write_text("")
    sink = FileSink(tmp_path / "file" / "a.log", 100, 2)
    assert sink.write(["one", "two"]) == 2
    with pytest.raises(FileExistsError):
        sink.open()


def test_a_rotation_that_fails_is_put_off(sink: FileSink) -> None:
    """The old file grows by another length before it is tried again; no line is lost."""
    sink.write(["x" * 100])
    obstacle = sink.path.with_name("a.log.1")
    (obstacle / "in the way").mkdir(parents=True)
    (sink.path.with_name("a.log.2") / "in the way").mkdir(parents=True)
    assert sink.write(["one"]) == 0
    assert sink.write(["two"]) == 0
    assert sink.path.read_text() == "x" * 100 + "\none\ntwo\n"
    obstacle.rename(sink.path.with_name("gone"))
    sink.path.with_name("a.log.2").rename(sink.path.with_name("gone too"))
    sink.write(["y" * 100])
    sink.write(["three"])
    assert sink.path.read_text() == "three\n"


def test_a_stream_gets_lines() -> None:
    """Into a pipe, which stays open."""
    reader, writer = os.pipe()
    try:
        sink = StreamSink(writer)
        assert sink.write(["one", "two"]) == 0
        sink.close()
        assert os.read(reader, 100) == b"one\ntwo\n"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_stream_without_reader_loses_lines() -> None:
    """A broken pipe raises nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert StreamSink(writer).write(["one", "two"]) == 2
    finally:
        os.close(writer)


def test_a_full_non_blocking_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, but not for ever; when it is read, writing goes on."""
    monkeypatch.setattr(sinks, "STALLED_STREAM_SECONDS", 0.001)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        sink = StreamSink(writer)
        assert sink.write(["x" * 1_000_000]) == 1
        os.read(reader, 1_000_000)
        assert sink.write(["y"]) == 0

        def drain(*_: object) -> tuple[list[int], list[int], list[int]]:
            os.read(reader, 1_000_000)
            return [], [writer], []

        monkeypatch.setattr("select.select", drain)
        assert sink.write(["z" * 200_000]) == 0
    finally:
        os.close(reader)
        os.close(writer)
