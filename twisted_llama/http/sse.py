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

#: Names and numbers, as in C{"prompt_tokens":35}.  What the model wrote cannot
#: look like that: quotes in it stand behind backslashes.
_NUMBERS = re.compile(rb'"([a-z_]+)":[ \t]*([0-9]{1,15}(?:\.[0-9]{1,15})?)')
_MODEL = re.compile(rb'"model":[ \t]*"([!#-\[\]-~ ]{1,200})"')


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
        named = _MODEL.match(tail, max(0, tail.rfind(b'"model":')))
        model = None if named is None else named[1].decode("ascii")
        reports = [at for at in (tail.rfind(b'"usage":'), tail.rfind(b'"timings":')) if at >= 0]
        if not reports:
            return Usage(model=model)
        numbers: dict[bytes, bytes] = dict(_NUMBERS.findall(tail, min(reports)))
        prompt = numbers.get(b"prompt_tokens")
        generated = numbers.get(b"completion_tokens", numbers.get(b"predicted_n"))
        milliseconds = numbers.get(b"predicted_ms")
        if prompt is not None:
            prompt_tokens: int | None = _whole(prompt)
        elif b"prompt_n" in numbers:
            prompt_tokens = _whole(numbers[b"prompt_n"]) + _whole(numbers.get(b"cache_n", b"0"))
        else:
            prompt_tokens = None
        return Usage(
            prompt_tokens,
            None if generated is None else _whole(generated),
            None if milliseconds is None else float(milliseconds) / 1000,
            model,
        )


def _whole(number: bytes) -> int:
    """
    A count, even if it is written with a fraction.
    """
    return int(number.partition(b".")[0])
