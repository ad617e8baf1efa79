"""
What an answer says about itself: tokens, time, model.

llama-server puts C{usage} or C{timings} at the end of an answer, of an event
stream in its last events.  While the answer passes, only its last bytes are
remembered; they are read when it is over, so that counting costs a token next
to nothing and holds nothing up.
"""

from __future__ import annotations

import re

from attrs import frozen

#: Enough for the three events at the end of a stream, with long names in them.
#: Every open stream holds as much.
TAIL_BYTES = 2560

_VALUE = re.compile(rb':[ \t]*(?:([0-9]{1,15}(?:\.[0-9]{1,15})?)|"([!#-\[\]-~ ]{1,200})")')


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
        # A list, since a deque takes a whole block of memory at once.
        self._pieces: list[bytes] = []
        self._bytes = 0

    def feed(self, payload: bytes) -> None:
        """
        More of the answer has passed.
        """
        pieces = self._pieces
        pieces.append(payload)
        self._bytes += len(payload)
        while self._bytes - len(pieces[0]) > TAIL_BYTES:
            self._bytes -= len(pieces.pop(0))

    def ends_event(self) -> bool:
        """
        Whether the last event that has passed is whole.
        """
        tail = b"".join(self._pieces[-4:])[-4:]
        return not tail or tail.endswith((b"\n\n", b"\r\r")) or tail == b"\r\n\r\n"

    def read(self) -> Usage:
        """
        Read what is remembered.
        """
        tail = b"".join(self._pieces)[-TAIL_BYTES:]
        model = _text(tail, b'"model"')
        if b'"usage"' not in tail and b'"timings"' not in tail:
            return Usage(model=model)
        prompt = _number(tail, b'"prompt_tokens"')
        if prompt is None:
            evaluated = _number(tail, b'"prompt_n"')
            if evaluated is not None:
                prompt = evaluated + (_number(tail, b'"cache_n"') or 0)
        generated = _number(tail, b'"completion_tokens"')
        if generated is None:
            generated = _number(tail, b'"predicted_n"')
        milliseconds = _number(tail, b'"predicted_ms"')
        return Usage(
            None if prompt is None else int(prompt),
            None if generated is None else int(generated),
            None if milliseconds is None else milliseconds / 1000,
            model,
        )


def _last(tail: bytes, name: bytes) -> re.Match[bytes] | None:
    """
    The last value with this name, quotes and all.
    """
    end = len(tail)
    while (at := tail.rfind(name, 0, end)) >= 0:
        # A quote behind a backslash stands inside a string that the model wrote.
        if tail[at - 1 : at] != b"\\":
            match = _VALUE.match(tail, at + len(name))
            if match is not None:
                return match
        end = at
    return None


def _number(tail: bytes, name: bytes) -> float | None:
    match = _last(tail, name)
    return None if match is None or match[1] is None else float(match[1])


def _text(tail: bytes, name: bytes) -> str | None:
    match = _last(tail, name)
    return None if match is None or match[2] is None else match[2].decode("ascii")
