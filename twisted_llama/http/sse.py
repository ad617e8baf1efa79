"""
What an answer says about itself: tokens, time, model.

llama-server puts C{usage} or C{timings} at the end of an answer, of an event
stream in its last events.  While the answer passes, only its last bytes are
remembered; they are read when it is over, so that counting costs a token next
to nothing and holds nothing up.  Events that hold a token and nothing else are
not even remembered: of a long answer these are all but a few.
"""

from __future__ import annotations

import json
import re
from typing import TypeAlias

#: Enough for the three events at the end of a stream, with long names in them.
TAIL_BYTES = 2560
#: How llama-server ends an event of a chat that holds a token and says nothing else:
#: C{usage} and C{timings} stand behind this, C{payload[ENDING]}.
TOKEN_ENDS = b',"object":"chat.completion.chunk"}\n\n'
ENDING = slice(-len(TOKEN_ENDS), None)
#: C{data: [DONE]} and its like are no events of their own here: they say nothing.
_SHORT_BYTES = 64

_NUMBER = re.compile(rb"[ \t]*([0-9]{1,15})(\.[0-9]{1,15})?")
_MODEL = re.compile(rb'"model":[ \t]*("(?:[^"\\]|\\.){1,200}")')
#: What follows C{"usage":} as llama-server writes it, in one look.
_USAGE = re.compile(rb'\{"completion_tokens":([0-9]{1,15}),"prompt_tokens":([0-9]{1,15})[,}]')

Usage: TypeAlias = tuple[int | None, int | None, float | None]
"""
What the engine reported at the end of an answer: tokens of the prompt, tokens
generated, seconds spent on generating; C{None} where it did not.
"""


class UsageTap:
    """
    Remembers the end of an answer: of one that is all events, the last two.  To keep
    more would cost a token more than all else that is done here: what is forgotten
    soon leaves its memory, still in the processor's caches, to the next token.  The
    two have places of their own, filled in turns, since to look at the one that came
    before is to wait for memory that nobody has touched since.
    """

    __slots__ = ("_even", "_odd", "_odd_is_last", "_whole")

    def __init__(self) -> None:
        self._even = self._odd = b""
        self._odd_is_last = False
        self._whole = True

    def feed(self, payload: bytes) -> bool:
        """
        More of the answer has passed.

        @return: whether an event ended with it.  Then those that follow need not be told
            as long as they are whole and C{payload[ENDING]} is L{TOKEN_ENDS}.
        """
        if len(payload) > TAIL_BYTES:
            payload = payload[-TAIL_BYTES:]
        if not self._whole or len(payload) < _SHORT_BYTES:
            if self._odd_is_last:
                self._odd = (self._odd + payload)[-TAIL_BYTES:]
            else:
                self._even = (self._even + payload)[-TAIL_BYTES:]
        elif self._odd_is_last:
            self._even = payload
            self._odd_is_last = False
        else:
            self._odd = payload
            self._odd_is_last = True
        self._whole = payload.endswith(b"\n\n")
        return self._whole

    def ends_event(self) -> bool:
        """
        Whether the last event that has passed is whole.
        """
        tail = (self._odd if self._odd_is_last else self._even)[-4:]
        return not tail or tail.endswith((b"\n\n", b"\r\r")) or tail == b"\r\n\r\n"

    def read(self) -> Usage:
        """
        Read the figures in what is remembered.
        """
        tail = self._tail()
        # What the model wrote cannot look like these names: quotes in it stand behind
        # backslashes.
        usage_at = tail.rfind(b'"usage":')
        timings_at = tail.rfind(b'"timings":')
        prompt = generated = None
        if usage_at >= 0:
            usage = _USAGE.match(tail, usage_at + 8)
            if usage is not None:
                words = usage.groups()
                generated, prompt = int(words[0]), int(words[1])
            else:
                prompt = _count(tail, b'"prompt_tokens":', usage_at)
                generated = _count(tail, b'"completion_tokens":', usage_at)
        if timings_at < 0:
            return prompt, generated, None
        if prompt is None:
            prompt = _count(tail, b'"prompt_n":', timings_at)
            if prompt is not None:
                prompt += _count(tail, b'"cache_n":', timings_at) or 0
        if generated is None:
            generated = _count(tail, b'"predicted_n":', timings_at)
        return prompt, generated, _seconds(tail, timings_at)

    def read_model(self) -> str | None:
        """
        Read the name of the model in what is remembered.
        """
        tail = self._tail()
        model_at = tail.rfind(b'"model":')
        match = _MODEL.match(tail, model_at) if model_at >= 0 else None
        try:
            return None if match is None else str(json.loads(match[1]))
        except ValueError:
            # The engine's own mistake, and no reason to fail.
            return None

    def _tail(self) -> bytes:
        tail = self._even + self._odd if self._odd_is_last else self._odd + self._even
        return tail[-TAIL_BYTES:]


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
