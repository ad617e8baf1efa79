"""
The engine's output: bytes into clean, bounded lines, and the last of them kept.

Pure.  What an engine prints may hold what a client sent, so control characters
are made visible before a line goes anywhere.
"""

from __future__ import annotations

import re
from collections import deque

MAX_LINE_BYTES = 8192
TAIL_LINES = 200
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class LineSplitter:
    """
    Cuts one stream of bytes into lines.

    A line longer than the limit is cut there and its rest is dropped, so that
    neither memory nor a log grows with it.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._pending = b""
        self._dropping = False

    def feed(self, received: bytes) -> list[str]:
        """
        @return: the lines that are complete now, without their ends.
        """
        *complete, rest = (self._pending + received).split(b"\n")
        lines = []
        for line in complete:
            if self._dropping:
                self._dropping = False
            else:
                lines.append(self._clean(line))
        self._pending = b"" if self._dropping else rest
        if len(self._pending) > self._max_line_bytes:
            lines.append(self._clean(self._pending))
            self._pending = b""
            self._dropping = True
        return lines

    def finish(self) -> list[str]:
        """
        @return: the last line, if the stream ended without an end of line.
        """
        rest, self._pending = self._pending, b""
        return [self._clean(rest)] if rest else []

    def _clean(self, line: bytes) -> str:
        text = line[: self._max_line_bytes].rstrip(b"\r").decode("utf-8", "replace")
        return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class OutputTail:
    """
    The last lines that an engine printed.
    """

    def __init__(self, max_lines: int = TAIL_LINES) -> None:
        self._lines: deque[str] = deque(maxlen=max_lines)

    def add(self, line: str) -> None:
        """
        Remember a line, forgetting the oldest one if there are too many.
        """
        self._lines.append(line)

    def lines(self) -> list[str]:
        """
        @return: a copy, oldest first.
        """
        return list(self._lines)

    def clear(self) -> None:
        """
        Forget all; a new process must not be judged by the words of an old one.
        """
        self._lines.clear()
