"""
What an answer says about itself: tokens, time, model.

llama-server puts C{usage} or C{timings} at the end of an answer, of an event
stream in its last events.  While the answer passes, only its last bytes are
remembered; they are read when it is over, so that counting costs a token next
to nothing and holds nothing up.
"""

from __future__ import annotations

import re
from functools import lru_cache

from attrs import define

#: Enough for the three events at the end of a stream, with long names in them.
TAIL_BYTES = 2560
#: C{data: [DONE]} and its like are no events of their own here: they say nothing.
_SHORT_BYTES = 64

_NUMBER = re.compile(rb"[ \t]*([0-9]{1,15})(\.[0-9]{1,15})?")
_MODEL = re.compile(rb'"model":[ \t]*"([!#-\[\]-~ ]{1,200})"')
#: As llama-server writes it, in one look.
_USAGE = re.compile(
    rb'"usage":[ \t]*\{[ \t]*"completion_tokens":[ \t]*([0-9]{1,15}),[ \t]*'
    rb'"prompt_tokens":[ \t]*([0-9]{1,15})[,}]'
)


# Not frozen, for one is made for every request, and freezing doubles what that costs.
@define
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
    Remembers the end of an answer: of one that is all events, the last two.  To keep
    more would cost a token more than all else that is done here: what is forgotten
    soon leaves its memory, still in the processor's caches, to the next token.
    """

    __slots__ = ("_before", "_last")

    def __init__(self) -> None:
        self._before = self._last = b""

    def feed(self, payload: bytes) -> None:
        """
        More of the answer has passed.
        """
        if len(payload) > TAIL_BYTES:
            payload = payload[-TAIL_BYTES:]
        last = self._last
        if len(payload) < _SHORT_BYTES or not last.endswith(b"\n\n"):
            self._last = (last + payload)[-TAIL_BYTES:]
        else:
            self._before = last
            self._last = payload

    def ends_event(self) -> bool:
        """
        Whether the last event that has passed is whole.
        """
        tail = self._last[-4:]
        return not tail or tail.endswith((b"\n\n", b"\r\r")) or tail == b"\r\n\r\n"

    def read(self) -> Usage:
        """
        Read what is remembered.
        """
        tail = (self._before + self._last)[-TAIL_BYTES:]
        model_at = tail.rfind(b'"model":')
        name_at = tail.find(b'"', model_at + 8) + 1 if model_at >= 0 else 0
        model = _model(tail[model_at : tail.find(b'"', name_at) + 1]) if name_at else None
        # What the model wrote cannot look like these names: quotes in it stand behind
        # backslashes.
        usage_at = tail.rfind(b'"usage":')
        timings_at = tail.rfind(b'"timings":')
        prompt = generated = None
        usage = _USAGE.match(tail, usage_at) if usage_at >= 0 else None
        if usage is not None:
            generated, prompt = int(usage[1]), int(usage[2])
        elif usage_at >= 0:
            prompt = _count(tail, b'"prompt_tokens":', usage_at)
            generated = _count(tail, b'"completion_tokens":', usage_at)
        if timings_at < 0:
            return Usage(prompt, generated, None, model)
        if prompt is None:
            prompt = _count(tail, b'"prompt_n":', timings_at)
            if prompt is not None:
                prompt += _count(tail, b'"cache_n":', timings_at) or 0
        if generated is None:
            generated = _count(tail, b'"predicted_n":', timings_at)
        return Usage(prompt, generated, _seconds(tail, timings_at), model)


@lru_cache(maxsize=64)
def _model(member: bytes) -> str | None:
    """
    The name in C{"model": "name"}.
    """
    match = _MODEL.fullmatch(member)
    return None if match is None else match[1].decode("ascii")


def _count(tail: bytes, name: bytes, start: int) -> int | None:
    """
    The first number with this name.
    """
    at = tail.find(name, start)
    match = _NUMBER.match(tail, at + len(name)) if at >= 0 else None
    return None if match is None else int(match[1])


def _seconds(tail: bytes, start: int) -> float | None:
    """
    How long the answer took to generate.
    """
    at = tail.find(b'"predicted_ms":', start)
    match = _NUMBER.match(tail, at + 15) if at >= 0 else None
    return None if match is None else float(match[0]) / 1000
