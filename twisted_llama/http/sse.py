"""
What an answer says about itself: tokens, time, model.

llama-server puts C{usage} or C{timings} at the end of an answer, of an event
stream in its last events.  While the answer passes, only its last bytes are
remembered; they are read when it is over, so that counting costs a token next
to nothing and holds nothing up.
"""

from __future__ import annotations

import re
from collections import deque

from attrs import frozen

#: Enough for the events at the end of a stream, with long identifiers.
TAIL_BYTES = 8192

# A quote behind a backslash stands inside a string that the model wrote.
_NUMBER = rb'(?<!\\)"%b":\s*([0-9]+(?:\.[0-9]+)?)'
_PROMPT_TOKENS = re.compile(_NUMBER % b"prompt_tokens")
_COMPLETION_TOKENS = re.compile(_NUMBER % b"completion_tokens")
_PREDICTED = re.compile(_NUMBER % b"predicted_n")
_PREDICTED_MS = re.compile(_NUMBER % b"predicted_ms")
_PROMPT_N = re.compile(_NUMBER % b"prompt_n")
_CACHE_N = re.compile(_NUMBER % b"cache_n")
_MODEL = re.compile(rb'(?<!\\)"model":\s*"([!#-\[\]-~ ]{1,200})"')


@frozen
class Usage:
    """
    What the engine reported at the end of an answer; C{None} where it did not.
    """

    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    generation_seconds: float | None = None
    model: str | None = None


class UsageTap:
    """
    Remembers the end of an answer.
    """

    __slots__ = ("_bytes", "_pieces")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._bytes = 0

    def feed(self, payload: bytes) -> None:
        """
        More of the answer has passed.
        """
        pieces = self._pieces
        pieces.append(payload)
        self._bytes += len(payload)
        while self._bytes - len(pieces[0]) > TAIL_BYTES:
            self._bytes -= len(pieces.popleft())

    def ends_event(self) -> bool:
        """
        Whether the last event that has passed is whole.
        """
        tail = b"".join(tuple(self._pieces)[-4:])[-4:]
        return not tail or tail.endswith((b"\n\n", b"\r\r")) or tail == b"\r\n\r\n"

    def read(self) -> Usage:
        """
        Read what is remembered.
        """
        tail = b"".join(self._pieces)[-TAIL_BYTES:]
        if b'"usage"' not in tail and b'"timings"' not in tail:
            return Usage(model=_text(_MODEL, tail))
        prompt = _number(_PROMPT_TOKENS, tail)
        if prompt is None:
            evaluated = _number(_PROMPT_N, tail)
            if evaluated is not None:
                prompt = evaluated + (_number(_CACHE_N, tail) or 0)
        generated = _number(_COMPLETION_TOKENS, tail)
        if generated is None:
            generated = _number(_PREDICTED, tail)
        milliseconds = _number(_PREDICTED_MS, tail)
        return Usage(
            None if prompt is None else int(prompt),
            None if generated is None else int(generated),
            None if milliseconds is None else milliseconds / 1000,
            _text(_MODEL, tail),
        )


def _last(pattern: re.Pattern[bytes], tail: bytes) -> bytes | None:
    found: list[bytes] = pattern.findall(tail)
    return found[-1] if found else None


def _number(pattern: re.Pattern[bytes], tail: bytes) -> float | None:
    found = _last(pattern, tail)
    return None if found is None else float(found)


def _text(pattern: re.Pattern[bytes], tail: bytes) -> str | None:
    found = _last(pattern, tail)
    return None if found is None else found.decode("ascii")
