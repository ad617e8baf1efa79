"""
The body of a request while it comes.
"""

from __future__ import annotations

from typing import Protocol

from twisted_llama.errors import MalformedRequest, PayloadTooLarge
from twisted_llama.http.framing import BodyFraming, ChunkedFraming, FramingError, LengthFraming

#: The slowest a body may come after its first seconds, beside the longest pause
#: in it.
BYTES_PER_SECOND = 1024
GRACE_SECONDS = 10.0


class BodyLimits(Protocol):
    """
    How large a body may be, and how long a pause in it, in seconds.
    """

    @property
    def max_body_bytes(self) -> int: ...
    @property
    def body_timeout_seconds(self) -> float: ...


class RequestBody:
    """
    Collects a body, and knows when it is late.

    @ivar pieces: what has come of it.
    @ivar kept: whether it is wanted; what is not is only got out of the way.
    @ivar deadline: when the next of it must have come, in seconds.
    """

    __slots__ = ("_framing", "_limits", "_received_bytes", "_since", "deadline", "kept", "pieces")

    def __init__(
        self, length_bytes: int | None, limits: BodyLimits, now: float, kept: bool
    ) -> None:
        """
        @param length_bytes: C{None} for one that comes in chunks.
        """
        self._framing: BodyFraming = (
            ChunkedFraming() if length_bytes is None else LengthFraming(length_bytes)
        )
        self._limits = limits
        self._since = now
        self._received_bytes = 0
        self.pieces: list[bytes] = []
        self.kept = kept
        self.deadline = now + limits.body_timeout_seconds

    @property
    def finished(self) -> bool:
        """
        Whether it is whole; then L{excess} is what came behind it.
        """
        return self._framing.finished

    @property
    def excess(self) -> bytes:
        """
        What came behind the body and belongs to the next request.
        """
        return self._framing.excess

    def feed(self, data: bytes, now: float) -> None:
        """
        Some of it has come.

        @raise MalformedRequest: if its framing is broken.
        @raise PayloadTooLarge: if there is more of it than is allowed.
        """
        try:
            payload = self._framing.feed(data)
        except FramingError as error:
            raise MalformedRequest(f"The request's body is malformed: {error}.") from error
        self._received_bytes += len(payload)
        if self.kept:
            if self._received_bytes > self._limits.max_body_bytes:
                raise PayloadTooLarge(self._limits.max_body_bytes)
            if payload:
                self.pieces.append(payload)
        pause_seconds = self._limits.body_timeout_seconds
        self.deadline = min(
            now + pause_seconds,
            self._since
            + max(pause_seconds, GRACE_SECONDS)
            + self._received_bytes / BYTES_PER_SECOND,
        )
