"""
Collecting a head from the bytes of a connection, within limits.
"""

from __future__ import annotations

import re
from typing import NoReturn

from attrs import frozen

from twisted_llama.errors import HeaderFieldsTooLarge, MalformedRequest, UriTooLong

_METHOD = re.compile(rb"[A-Z]{1,20} ")
#: A line feed without its carriage return, or the other way round.
_BARE = re.compile(rb"(?<!\r)\n|\r[^\n]")


@frozen
class HeadLimits:
    """
    How large a request's head may be.

    @ivar max_line_bytes: the request line, without its CR LF.
    @ivar max_field_bytes: one header line, without its CR LF.
    @ivar max_fields: the number of header lines.
    """

    max_line_bytes: int = 8192
    max_field_bytes: int = 8192
    max_fields: int = 64


class HeadReader:
    """
    Reads one head.

    @ivar begun: whether any byte of the head has come.
    @ivar excess: the bytes behind the head that was returned last; who takes them
        leaves nothing.
    """

    __slots__ = ("_buffer", "_limits", "_lines", "_skipped", "begun", "excess")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._buffer: bytearray | None = None
        self._lines = 0
        self._skipped = False
        self.begun = False
        self.excess = b""

    def feed(self, data: bytes) -> bytes | None:
        """
        Read on.

        @return: the head, with the empty line that ends it, once it is whole.

        @raise UriTooLong: if the request line is longer than the limit.
        @raise HeaderFieldsTooLarge: if there are too many header lines, or one
            is too long.
        @raise MalformedRequest: as soon as it cannot become a head any more.
        """
        if self._buffer is None:
            # One empty line may come before a request (RFC 9112, section 2.2).
            if data[:2] == b"\r\n" and not self._skipped:
                self._skipped = True
                data = data[2:]
                if not data:
                    return None
            self.begun = True
            end = data.find(b"\r\n\r\n") + 4
            if end > 3:
                return self._take(data, end)
            self._buffer = bytearray()
        return self._grow(data)

    def _take(self, data: bytes, end: int) -> bytes:
        head = data[:end]
        self._check(head)
        self.excess = data[end:]
        self._buffer = None
        self._lines = 0
        self._skipped = self.begun = False
        return head

    def _grow(self, data: bytes) -> bytes | None:
        buffer = self._buffer
        assert buffer is not None
        seen = max(0, len(buffer) - 3)
        buffer += data
        if buffer[:2] == b"\r\n" and not self._skipped:
            self._skipped = True
            del buffer[:2]
            seen = 0
            if not buffer:
                # As in L{feed}: nothing of a head has come yet.
                self._buffer = None
                self.begun = False
                return None
        end = buffer.find(b"\r\n\r\n", seen) + 4
        if end > 3:
            return self._take(bytes(buffer), end)
        if (buffer and buffer != b"\r" and not 65 <= buffer[0] <= 90) or _BARE.search(buffer, seen):
            raise MalformedRequest("The request's head is malformed.")
        self._lines += data.count(b"\n")
        last_line_bytes = len(buffer) - buffer.rfind(b"\n") - 1
        if not self._lines and last_line_bytes > self._limits.max_line_bytes + 1:
            self._refuse_line(bytes(buffer[:32]))
        if self._lines and last_line_bytes > self._limits.max_field_bytes + 1:
            raise HeaderFieldsTooLarge("MAX_HEADER_LINE_SIZE", self._limits.max_field_bytes)
        if self._lines > self._limits.max_fields + 2:
            raise HeaderFieldsTooLarge("MAX_HEADERS", self._limits.max_fields)
        return None

    def _refuse_line(self, start: bytes) -> NoReturn:
        """
        A request line is too long; without a method it is not even one.
        """
        if _METHOD.match(start):
            raise UriTooLong(self._limits.max_line_bytes)
        raise MalformedRequest("The request line is malformed.")

    def _check(self, head: bytes) -> None:
        limits = self._limits
        if len(head) > limits.max_line_bytes and head.find(b"\r\n") > limits.max_line_bytes:
            self._refuse_line(head[:32])
        if head.count(b"\r\n") - 2 > limits.max_fields:
            raise HeaderFieldsTooLarge("MAX_HEADERS", limits.max_fields)
        if len(head) > limits.max_field_bytes and any(
            len(line) > limits.max_field_bytes for line in head.split(b"\r\n")[1:]
        ):
            raise HeaderFieldsTooLarge("MAX_HEADER_LINE_SIZE", limits.max_field_bytes)
