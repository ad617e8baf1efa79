"""
The head of a message, read whole: its first line and header fields.

llhttp does the parsing, in C, in one call.  Around it stand the checks of what
llhttp lets pass or does not judge (RFC 9112, sections 3, 5, 6.1 and 11.2): a
head is either unambiguous or refused, because the gateway decides by it who
gets in and how many bytes belong to the request.
"""

from __future__ import annotations

import re
from functools import lru_cache

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from twisted_llama.errors import (
    EngineUnavailable,
    GatewayError,
    MalformedRequest,
    MethodNotAllowed,
    UnsupportedTransferCoding,
    UnsupportedVersion,
)

#: One header field: its name in lower case, its name as it came, its value.
Field = tuple[bytes, bytes, bytes]

#: Methods that some path of the gateway or the engine has.
METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE"})

_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([!-~]+) HTTP/([0-9])\.([0-9])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_FIELD_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_AUTHORITY = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+=%-]+)(?::[0-9]{0,5})?")
_FRAMING_FIELDS = re.compile(
    rb"\r\n(transfer-encoding|content-length):[ \t]*([^\r]*)", re.IGNORECASE
)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([/?].*)?", re.IGNORECASE)


class _Fields:
    """
    Collects what llhttp reports.
    """

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: list[Field] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), name, value.rstrip(b" \t")))


class RequestHead:
    """
    A request as its head describes it.

    @ivar method: such as C{b"POST"}.
    @ivar target: in origin form (C{b"/v1/models?x=1"}) or C{b"*"}.
    @ivar version: C{b"HTTP/1.1"} or C{b"HTTP/1.0"}.
    @ivar fields: the header fields in order, repeated ones too.
    @ivar first: for each name, in lower case, the first value that came.
    @ivar length_bytes: the body's length, C{None} if it comes in chunks.
    @ivar keep_alive: whether the client wants to use the connection again.
    """

    __slots__ = ("fields", "first", "keep_alive", "length_bytes", "method", "target", "version")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        version: bytes,
        fields: list[Field],
        first: dict[bytes, bytes],
        length_bytes: int | None,
        keep_alive: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.first = first
        self.length_bytes = length_bytes
        self.keep_alive = keep_alive

    @property
    def expects_continue(self) -> bool:
        """
        Whether the client waits for C{100 Continue} before it sends its body.
        """
        return (
            self.version == b"HTTP/1.1"
            and self.first.get(b"expect", b"").lower() == b"100-continue"
            and self.length_bytes != 0
        )


def parse_request_head(head: bytes) -> RequestHead:
    """
    Read the head of a request.

    @param head: from the first byte of the request line through the empty
        line.

    @raise MalformedRequest: if it breaks the grammar or can be read in more
        than one way.
    @raise UnsupportedTransferCoding: for a coding other than C{chunked}.
    @raise UnsupportedVersion: for another major version than 1.
    @raise MethodNotAllowed: for C{CONNECT} and C{TRACE}.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise MalformedRequest("The request line is malformed.")
    method, target, major, minor = line.groups()
    if major != b"1" or minor not in b"01":
        raise UnsupportedVersion
    if not _FIELD_LINES.fullmatch(head, line.end()):
        raise MalformedRequest("A header field is malformed.")
    if method in _REFUSED_METHODS:
        raise MethodNotAllowed(("GET", "HEAD", "POST", "OPTIONS"))
    if method not in METHODS:
        raise MalformedRequest("The request method is unknown.")
    collected = _Fields()
    parser = HttpRequestParser(collected)
    fields = collected.fields
    try:
        parser.feed_data(head)
    except HttpParserUpgrade:
        # Upgrade is a hop-by-hop offer that a server may ignore, and we do.
        pass
    except HttpParserError as error:
        codings = _FRAMING_FIELDS.findall(head)
        if len(codings) == 1 and codings[0][0].lower() == b"transfer-encoding" and codings[0][1]:
            raise _coding_error(codings[0][1]) from error
        raise MalformedRequest(f"The request's head is malformed: {error}.") from error
    first = {key: value for key, _, value in reversed(fields)}
    version = b"HTTP/1." + minor
    length = _request_length(fields, first, version)
    authority = _host(fields, first, version)
    return RequestHead(
        method,
        target if target[0] == 47 else _origin_form(method, target, authority),
        version,
        fields,
        first,
        length,
        _keeps_alive(fields, version) if b"connection" in first else version == b"HTTP/1.1",
    )


def _coding_error(coding: bytes) -> GatewayError:
    """
    What is wrong with a lone Transfer-Encoding that is not C{chunked}: where
    C{chunked} is not the last coding, nobody knows where the body ends.
    """
    codings = [part.strip().lower() for part in coding.split(b",")]
    if b"chunked" in codings[:-1]:
        return MalformedRequest("Transfer-Encoding must end in 'chunked'.")
    return UnsupportedTransferCoding()


def _keeps_alive(fields: list[Field], version: bytes) -> bool:
    """
    What C{Connection} says of the time after the answer.  (llhttp says it too,
    but not of a message that has ended with its head.)
    """
    options = {
        option.strip().lower()
        for key, _, value in fields
        if key == b"connection"
        for option in value.split(b",")
    }
    return b"close" not in options and (version == b"HTTP/1.1" or b"keep-alive" in options)


def _request_length(fields: list[Field], first: dict[bytes, bytes], version: bytes) -> int | None:
    """
    The length of the body in bytes, C{None} for a chunked one.
    """
    coding = first.get(b"transfer-encoding")
    if coding is not None:
        if version != b"HTTP/1.1" or b"content-length" in first:
            raise MalformedRequest("Transfer-Encoding must come alone, in HTTP/1.1.")
        if sum(key == b"transfer-encoding" for key, _, _ in fields) > 1 or not coding:
            raise MalformedRequest("Transfer-Encoding must be given once.")
        if coding.lower() != b"chunked":
            raise _coding_error(coding)
        return None
    length = first.get(b"content-length")
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise MalformedRequest("Content-Length is not a plain decimal number.")
    if sum(key == b"content-length" for key, _, _ in fields) > 1:
        raise MalformedRequest("Content-Length must be given once.")
    return int(length)


def _host(fields: list[Field], first: dict[bytes, bytes], version: bytes) -> bytes | None:
    host = first.get(b"host")
    if host is None:
        if version == b"HTTP/1.1":
            raise MalformedRequest("The Host header is missing.")
        return None
    if not _AUTHORITY.fullmatch(host):
        raise MalformedRequest("The Host header is not a host name with an optional port.")
    if sum(key == b"host" for key, _, _ in fields) > 1:
        raise MalformedRequest("The Host header must be given once.")
    return host


def _origin_form(method: bytes, target: bytes, authority: bytes | None) -> bytes:
    if target == b"*" and method == b"OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or authority is None or absolute[1].lower() != authority.lower():
        raise MalformedRequest("The request target must be a path, or agree with the Host header.")
    rest: bytes = absolute[2] or b"/"
    return rest if rest.startswith(b"/") else b"/" + rest


class ResponseHead:
    """
    A response of the engine as its head describes it; never changed.

    @ivar status: 100 to 599.
    @ivar reason: the reason phrase, possibly empty.
    @ivar fields: the header fields in order.
    @ivar length_bytes: the body's length; C{None} if it is not announced.
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
        "length_bytes",
        "reason",
        "status",
    )

    def __init__(
        self,
        status: int,
        reason: bytes,
        fields: tuple[Field, ...],
        length_bytes: int | None,
        chunked: bool,
        keep_alive: bool,
        event_stream: bool,
    ) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.length_bytes = length_bytes
        self.chunked = chunked
        self.keep_alive = keep_alive
        self.event_stream = event_stream
        self.dated = any(key == b"date" for key, _, _ in fields)


@lru_cache(maxsize=256)
def parse_response_head(head: bytes) -> ResponseHead:
    """
    Read the head of one of the engine's responses.

    The engine says the same few heads over and over (every stream begins with
    the same bytes), so the readings are kept.

    @param head: from the first byte of the status line through the empty line.

    @raise EngineUnavailable: if it is not valid, unambiguous HTTP/1.
    """
    line = _STATUS_LINE.match(head)
    if line is None or not _FIELD_LINES.fullmatch(head, line.end()):
        raise EngineUnavailable("The engine's answer is not valid HTTP.")
    collected = _Fields()
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
    if lengths and (len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0])):
        raise EngineUnavailable("The engine's answer has an unclear Content-Length.")
    status_line = line[0]
    return ResponseHead(
        int(line[2]),
        status_line[13:-2],
        tuple(fields),
        int(lengths[0]) if lengths else None,
        bool(codings),
        _keeps_alive(fields, b"HTTP/1." + line[1]),
        values.get(b"content-type", b"").lower().startswith(b"text/event-stream"),
    )
