"""
The access log: one line for every request that named a protected path.

The line is made at once, when the exchange is finished, and handed to a
L{writer.LogWriter}: that costs the reactor two microseconds, evenly.  Making the
lines in the writer's thread would cost the same processor time, and would take
the interpreter lock for milliseconds at a stretch from the reactor, just when
tokens are waiting to be relayed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Final, Literal

from twisted.logger import Logger

from .clean_text import percent_escaped, redacted
from .endpoints import ENDPOINTS
from .exchange import Exchange

_KNOWN: Final[dict[bytes, str]] = {
    word.encode("ascii"): word for word in (*ENDPOINTS, "GET", "POST", "HEAD", "OPTIONS", "DELETE")
}


@lru_cache(maxsize=64)
def _to_the_second(epoch_seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_seconds))


# Where it pays to be quick, several requests end in the same millisecond.
@lru_cache(maxsize=16)
def _timestamp(epoch_milliseconds: int) -> str:
    seconds, milliseconds = divmod(epoch_milliseconds, 1000)
    return f"{_to_the_second(seconds)}.{milliseconds:03d}Z"


def _key_word(key_id: str) -> str:
    if key_id.isascii() and (
        key_id.isalnum() or key_id.replace("_", "").replace("-", "").isalnum()
    ):
        return key_id
    return _escaped_key_word(key_id)


@lru_cache(maxsize=1024)
def _escaped_key_word(key_id: str) -> str:
    return percent_escaped(key_id.encode("utf-8", "backslashreplace"))


def format_text(exchange: Exchange) -> str:
    """
    Make the line of C{LOG_FORMAT=text}: seven fields between C{" | "}, the time
    (of the end) in UTC and the duration in whole milliseconds.

    @return: the line, without its end.
    """
    duration = exchange.finished - exchange.started
    ended = _timestamp(int((exchange.started_wall + duration) * 1000))
    path = exchange.path
    method = exchange.method
    line = (
        f"{ended} | {_key_word(exchange.key_id)} | "
        f"{_KNOWN.get(method) or percent_escaped(method)} "
        f"{_KNOWN.get(path) or percent_escaped(path)} | {exchange.status} | "
        f"{int(duration * 1000 + 0.5)} | {exchange.bytes_sent} | "
        f"{percent_escaped(exchange.request_id)}"
    )
    # A key that was sent as a path or a request id is still a key.
    return redacted(line) if "sk-" in line else line


def format_json(exchange: Exchange) -> str:
    """
    Make the line of C{LOG_FORMAT=json}: an object with the time (of the end) in
    UTC, durations in milliseconds, and C{null} for what is not known; C{tokens}
    are the generated ones.

    Words come from L{percent_escaped}, which leaves nothing that JSON would
    have to escape.

    @return: the line, without its end.
    """
    duration = exchange.finished - exchange.started
    ended = _timestamp(int((exchange.started_wall + duration) * 1000))
    path = exchange.path
    method = exchange.method
    first_byte = exchange.first_byte_seconds
    model = exchange.read_model()
    tokens = exchange.generated_tokens
    line = (
        f'{{"ts":"{ended}",'
        f'"key_id":"{_key_word(exchange.key_id)}",'
        f'"method":"{_KNOWN.get(method) or percent_escaped(method)}",'
        f'"path":"{_KNOWN.get(path) or percent_escaped(path)}",'
        f'"status":{exchange.status},'
        f'"duration_ms":{duration * 1000:.1f},'
        f'"bytes":{exchange.bytes_sent},'
        f'"request_id":"{percent_escaped(exchange.request_id)}",'
        f'"queue_ms":{exchange.queue_seconds * 1000:.1f},'
        f'"first_byte_ms":{"null" if first_byte is None else f"{first_byte * 1000:.1f}"},'
        f'"model":{"null" if model is None else encode_basestring_ascii(model)},'
        f'"tokens":{"null" if tokens is None else tokens}}}'
    )
    return redacted(line) if "sk-" in line else line


class AccessLog:
    """
    Write a line for every finished exchange with a protected path.

    @param put_all: takes lines, at once: L{writer.LogWriter.put_all}.  C{None} if
        there is nowhere to write; then no line is even made.
    @param log_format: which of the two forms.
    """

    _log = Logger()

    def __init__(
        self,
        put_all: Callable[[Sequence[str]], None] | None,
        log_format: Literal["text", "json"] = "text",
    ) -> None:
        self._put_all = put_all
        self._format = format_json if log_format == "json" else format_text

    def observe(self, exchanges: Sequence[Exchange]) -> None:
        """
        Log finished exchanges.  Those with a public path, or too broken to
        name one, are left out.
        """
        if self._put_all is None:
            return
        form = self._format
        lines = []
        for exchange in exchanges:
            if exchange.public or not exchange.named_path:
                continue
            try:
                lines.append(form(exchange))
            except Exception:
                # A defect in telling of one must not cost the others.
                self._log.failure("While logging {exchange}", exchange=exchange)
        self._put_all(lines)
