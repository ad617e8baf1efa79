"""
Where log lines end: a file that rotates by size, or a stream such as stderr.

Sinks block, and therefore belong to the thread of a L{writer.LogWriter}.  They
never raise: a line that cannot be written is lost, and counted.
"""

from __future__ import annotations

import glob
import os
import select
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from twisted.python.logfile import LogFile

FILE_MODE: Final = 0o640
STALLED_STREAM_SECONDS: Final = 1.0


class Sink(Protocol):
    """
    Takes lines; used by one thread at a time.
    """

    def write(self, lines: Sequence[str]) -> int:
        """
        Write lines, each without its end.

        @return: how many of them could not be written and are lost.
        """

    def close(self) -> None:
        """
        Let go of the file; a later L{write} opens it again.
        """


def _encoded(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _count_until(full: int, size: int, lines: Sequence[str]) -> int:
    """
    How many of the lines it takes to fill a file of this size; all of them, if
    they do not.

    @param size: below C{full}.
    """
    count = len(lines)
    # Nearly never; to look at each line costs five times as much.
    if size + sum(map(len, lines)) + count >= full:
        count = 0
        while size < full:
            size += len(lines[count]) + 1
            count += 1
    return count


class AppendingLogFile(LogFile):
    """
    Twisted's L{LogFile}, whose rotation and pruning it keeps, with these
    differences: it appends (two processes may share the file, and it may be
    truncated by others); a write is whole or raises; a line left torn by an
    earlier failure is ended first; a failed rotation is put off instead of being
    tried, and failing, at every write; only regular files are rotated.

    @ivar written: how many octets of the last write got through.
    """

    written = 0
    _rotatable = True
    _rotate_from_bytes = 0

    def _openFile(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, FILE_MODE)
        self._file = os.fdopen(descriptor, "ab", 0)
        self.closed = False
        status = os.fstat(descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self.size = status.st_size
        self._rotatable = stat.S_ISREG(status.st_mode)
        self._rotate_from_bytes = 0
        if self._rotatable and self.size and os.pread(descriptor, 1, self.size - 1) != b"\n":
            try:
                self._write_whole(b"\n")
            except OSError:
                self.close()
                raise

    def close(self) -> None:
        """
        Close the file, once.
        """
        if not self.closed:
            super().close()

    def _write_whole(self, octets: bytes) -> None:
        rest = memoryview(octets)
        self.written = 0
        while rest:
            # None is what a non-blocking descriptor answers when it is full.
            written = self._file.write(rest) or 0
            if not written:
                raise BlockingIOError(f"{self.path} takes no more")
            self.size += written
            self.written += written
            rest = rest[written:]

    def write(self, data: bytes) -> None:
        """
        Write all of C{data}, into a new file if the present one is full.

        @raise OSError: it could not be written, or in part only.
        """
        self.written = 0
        if self.shouldRotate():
            self.rotate()
        self._write_whole(data)

    def shouldRotate(self) -> bool:
        """
        Whether the file has reached its length, and rotating may succeed.
        """
        return (
            self._rotatable
            and self.size >= max(1, self.rotateLength)
            and self.size >= self._rotate_from_bytes
        )

    def rotate(self) -> None:
        """
        Rotate; where that is impossible, go on with the old file until it has
        grown by another length.
        """
        try:
            super().rotate()
        except OSError:
            self.close()
            self._openFile()
        if self.size >= self.rotateLength:
            self._rotate_from_bytes = self.size + self.rotateLength

    def listLogs(self) -> list[int]:
        """
        The numbers of the rotated files, also where the directory's name holds
        characters that C{glob} would interpret.
        """
        endings = (name.rpartition(".")[2] for name in glob.glob(glob.escape(self.path) + ".*"))
        return sorted(
            number
            for number in (int(ending) for ending in endings if ending.isdecimal())
            if number > 0
        )


class FileSink:
    """
    A file, rotated by size, that is opened again when somebody has moved it away.

    @param path: the file; its directory is made when needed.
    @param max_bytes: the length at which it is rotated.
    @param keep: how many rotated files are kept.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self.path = path.absolute()
        self._max_bytes = max(1, max_bytes)
        self._keep = keep
        self._file: AppendingLogFile | None = None

    def open(self) -> AppendingLogFile:
        """
        Make sure that the file at the path is the one that is open.

        @raise OSError: it cannot be opened for writing.
        """
        file = self._file
        if file is not None:
            try:
                status = os.stat(self.path)
            except OSError:
                self.close()
            else:
                if (status.st_dev, status.st_ino) == file.identity:
                    return file
                self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self._file = AppendingLogFile(
            self.path.name,
            str(self.path.parent),
            rotateLength=self._max_bytes,
            maxRotatedFiles=self._keep,
        )
        return file

    def write(self, lines: Sequence[str]) -> int:
        """
        Append lines; a batch that is longer than the file may be is spread over
        several.

        @return: how many are lost.
        """
        left = list(lines)
        octets = b""
        try:
            file = self.open()
            while left:
                # One that is too long already could not be rotated, and is tried again later.
                size = file.size if file.size < self._max_bytes else 0
                count = _count_until(self._max_bytes, size, left)
                octets = _encoded(left[:count])
                file.write(octets)
                del left[:count]
        except OSError:
            written = 0 if self._file is None else self._file.written
            if written:
                # A disk that fills up takes the first lines still, and perhaps a
                # part of the next; one that lacks its end alone is whole too.
                del left[: octets.count(b"\n", 0, written + 1)]
            # Opened anew for the next batch, which also ends a torn line.
            self.close()
        return len(left)

    def close(self) -> None:
        """
        Close the file.
        """
        file, self._file = self._file, None
        if file is not None:
            file.close()


class StreamSink:
    """
    A stream that somebody else opened, such as stderr.

    @param descriptor: its file descriptor; it is never closed here.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, lines: Sequence[str]) -> int:
        """
        Write lines, blocking while the reader does not read.

        @return: all or none of them: how many are lost.
        """
        rest = memoryview(_encoded(lines))
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # Somebody made the descriptor non-blocking.
                ready = select.select([], [self._descriptor], [], STALLED_STREAM_SECONDS)
                if not ready[1]:
                    return len(lines)
            except OSError:
                return len(lines)
        return 0

    def close(self) -> None:
        """
        Do nothing: the stream is not ours.
        """
