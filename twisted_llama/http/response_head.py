"""
The head of the engine's answer, read whole and as strictly as a request's.
"""

from __future__ import annotations

import re
from functools import lru_cache

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from twisted_llama.errors import EngineUnavailable
from twisted_llama.http.head import FIELD_LINES, LENGTH, Field, Fields, keeps_alive, split_length

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")


class ResponseHead:
    """
    A response of the engine as its head describes it, but for the length of
    its body; never changed.

    @ivar status: 100 to 599.
    @ivar reason: the reason phrase, possibly empty.
    @ivar fields: the header fields in order; perhaps without C{Content-Length}.
    @ivar chunked: whether the body comes in chunks.
    @ivar keep_alive: whether the engine keeps the connection open afterwards.
    @ivar event_stream: whether the body is a stream of server-sent events.
    @ivar dated: whether it has a C{Date}.
    """

    __slots__ = (
        "chunked",
        "dated",
        "event_stream",
        "fields",
        "keep_alive",
        "reason",
        "status",
    )

    def __init__(
        self,
        status: int,
        reason: bytes,
        fields: tuple[Field, ...],
        chunked: bool,
        keep_alive: bool,
        event_stream: bool,
    ) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.chunked = chunked
        self.keep_alive = keep_alive
        self.event_stream = event_stream
        self.dated = any(key == b"date" for key, _, _ in fields)


def read_response_head(head: bytes) -> tuple[ResponseHead, int | None]:
    """
    As L{parse_response_head}, remembering what was read: the engine says the
    same few heads over and over, but for the length of the body.
    """
    rest, length_bytes = split_length(head)
    if length_bytes is None:
        return _recall_response_head(rest)
    try:
        known, other_length = _recall_response_head(rest)
    except EngineUnavailable:
        return parse_response_head(head)
    if other_length is not None or known.chunked:
        return parse_response_head(head)
    return known, length_bytes


def parse_response_head(head: bytes) -> tuple[ResponseHead, int | None]:
    """
    Read the head of one of the engine's responses.

    @param head: from the first byte of the status line through the empty line.

    @return: the head, and the length of the body in bytes; C{None} if it is
        not announced.

    @raise EngineUnavailable: if it is not valid, unambiguous HTTP/1.
    """
    line = _STATUS_LINE.match(head)
    if line is None or not FIELD_LINES.fullmatch(head, line.end()):
        raise EngineUnavailable("The engine's answer is not valid HTTP.")
    collected = Fields()
    parser = HttpResponseParser(collected)
    try:
        parser.feed_data(head)
    except HttpParserUpgrade:
        # 101 is refused by the connection; an Upgrade header alone is hop-by-hop.
        pass
    except HttpParserError as error:
        raise EngineUnavailable(f"The engine's answer is not valid HTTP: {error}.") from error
    fields = collected.fields
    values = {key: value for key, _, value in reversed(fields)}
    codings = [value for key, _, value in fields if key == b"transfer-encoding"]
    lengths = [value for key, _, value in fields if key == b"content-length"]
    if codings and (lengths or line[1] == b"0" or [c.lower() for c in codings] != [b"chunked"]):
        raise EngineUnavailable(
            "The engine's answer has a Transfer-Encoding that is not 'chunked'."
        )
    if lengths and (len(lengths) > 1 or not LENGTH.fullmatch(lengths[0])):
        raise EngineUnavailable("The engine's answer has an unclear Content-Length.")
    status_line = line[0]
    known = ResponseHead(
        int(line[2]),
        status_line[13:-2],
        tuple(fields),
        bool(codings),
        keeps_alive(fields, b"HTTP/1." + line[1]),
        values.get(b"content-type", b"").lower().startswith(b"text/event-stream"),
    )
    return known, int(lengths[0]) if lengths else None


_recall_response_head = lru_cache(maxsize=256)(parse_response_head)
