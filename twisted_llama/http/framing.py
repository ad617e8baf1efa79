"""
Where the body of a message ends (RFC 9112, section 6), for both sides.

Each class is fed the bytes behind a head and gives back the payload in them.
What may be read in two ways is refused, and what only decorates the framing
(chunk extensions, trailers) is dropped.  The reads that event streams consist
of, plain chunks as a whole, are marked as such, so that they can be passed on
as the very bytes that came.
"""

from __future__ import annotations

import re
from typing import Protocol


class FramingError(ValueError):
    """
    The bytes of a body contradict the framing that its head announced.
    """


class BodyFraming(Protocol):
    """
    The reading of one body.

    @ivar finished: whether the body has ended; then L{excess} holds the bytes
        fed behind its end.
    @ivar verbatim: whether what was fed last is one or more whole chunks in
        their plainest spelling, and so fit to be sent on as it is.
    """

    finished: bool
    excess: bytes
    verbatim: bool

    def feed(self, data: bytes) -> bytes:
        """
        Read on.

        @return: the payload, possibly none.

        @raise FramingError: if the body is broken; nothing may be fed then.
        """

    def feed_eof(self) -> None:
        """
        The connection has ended.

        @raise FramingError: if the body was not whole by then.
        """


class LengthFraming:
    """
    A body of a known length, in bytes.
    """

    __slots__ = ("excess", "finished", "left_bytes")
    verbatim = False

    def __init__(self, length_bytes: int) -> None:
        self.left_bytes = length_bytes
        self.finished = length_bytes == 0
        self.excess = b""

    def feed(self, data: bytes) -> bytes:
        """
        See L{BodyFraming.feed}.
        """
        left = self.left_bytes - len(data)
        if left > 0:
            self.left_bytes = left
            return data
        if left < 0:
            self.excess = data[self.left_bytes :]
            data = data[: self.left_bytes]
        self.left_bytes = 0
        self.finished = True
        return data

    def feed_eof(self) -> None:
        """
        See L{BodyFraming.feed_eof}.
        """
        if not self.finished:
            raise FramingError(f"the connection ended {self.left_bytes} bytes early")


class CloseFraming:
    """
    A body that ends with its connection, as responses without a length do.
    """

    __slots__ = ("excess", "finished")
    verbatim = False

    def __init__(self) -> None:
        self.finished = False
        self.excess = b""

    def feed(self, data: bytes) -> bytes:
        """
        See L{BodyFraming.feed}.
        """
        return data

    def feed_eof(self) -> None:
        """
        See L{BodyFraming.feed_eof}.
        """
        self.finished = True


#: A chunk's size line without its CRLF: 15 hex digits keep it below 2**60, and
#: extensions must follow the grammar though nobody reads them.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:;"
    + _TOKEN
    + rb"(?:="
    + rb"(?:"
    + _TOKEN
    + rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"))?)*'
)
_TRAILER_LINE = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*")
_MAX_SIZE_LINE_BYTES = 256
_MAX_TRAILER_BYTES = 8192

_SIZE, _PAYLOAD, _CRLF, _TRAILER = range(4)


class ChunkedFraming:
    """
    A body in chunks.
    """

    __slots__ = ("_left", "_line", "_state", "_trailer_bytes", "excess", "finished", "verbatim")

    def __init__(self) -> None:
        self.finished = False
        self.excess = b""
        self.verbatim = False
        self._state = _SIZE
        self._left = 0
        self._line = b""
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """
        See L{BodyFraming.feed}.
        """
        self.verbatim = False
        if self._state == _SIZE and not self._line:
            # What nearly every read of an event stream is: one chunk, or several, all whole.
            # Sizes are held against the lengths; so one that is written in another way, as
            # HTTP allows, only takes longer.
            size, _, rest = data.partition(b"\r\n")
            payload = rest[:-2]
            if payload and size == b"%x" % len(payload) and rest.endswith(b"\r\n"):
                self.verbatim = True
                return payload
            parts = data.split(b"\r\n")
            if not parts.pop():
                payloads = parts[1::2]
                if parts[::2] == [b"%x" % len(one) for one in payloads] and b"" not in payloads:
                    self.verbatim = True
                    return b"".join(payloads)
        elif self._state == _PAYLOAD and len(data) < self._left:
            self._left -= len(data)
            return data
        return self._walk(data)

    def _walk(self, data: bytes) -> bytes:
        """
        Read whatever there is.
        """
        payload: list[bytes] = []
        position = 0
        while position < len(data) and not self.finished:
            if self._state == _PAYLOAD:
                piece = data[position : position + self._left]
                payload.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _CRLF
            else:
                position = self._take_line(data, position)
        if self.finished:
            self.excess = data[position:]
        return b"".join(payload)

    def _take_line(self, data: bytes, position: int) -> int:
        """
        Complete the line under way, as far as C{data} reaches, and act on it.

        @return: the position behind what was read.
        """
        end = data.find(b"\n", position)
        stop = len(data) if end < 0 else end + 1
        self._line += data[position : min(stop, position + _MAX_TRAILER_BYTES + 1)]
        if self._state == _CRLF and not b"\r\n".startswith(self._line):
            raise FramingError("a chunk is longer than its size")
        longest = _MAX_TRAILER_BYTES if self._state == _TRAILER else _MAX_SIZE_LINE_BYTES
        if len(self._line) + self._trailer_bytes > longest:
            raise FramingError("a chunk's size line or the trailers are too long")
        if end < 0:
            return stop
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n"):
            raise FramingError("a line of the chunk framing does not end in CR LF")
        line = line[:-2]
        if self._state == _SIZE:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise FramingError("a chunk's size is not a hexadecimal number")
            self._left = int(match[1], 16)
            self._state = _PAYLOAD if self._left else _TRAILER
        elif self._state == _CRLF:
            self._state = _SIZE
        elif line:
            if not _TRAILER_LINE.fullmatch(line):
                raise FramingError("a trailer is not a header field")
            self._trailer_bytes += len(line) + 2
        else:
            self.finished = True
        return stop

    def feed_eof(self) -> None:
        """
        See L{BodyFraming.feed_eof}.
        """
        if not self.finished:
            raise FramingError("the connection ended before the last chunk")
