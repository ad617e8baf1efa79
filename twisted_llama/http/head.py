"""
The head of a request, read whole: its first line and header fields.

llhttp does the parsing, in C, in one call.  Around it stand the checks of what
llhttp lets pass or does not judge (RFC 9112, sections 3, 5, 6.1 and 11.2): a
head is either unambiguous or refused, because the gateway decides by it who
gets in and how many bytes belong to the request.
"""

from __future__ import annotations

import re
from functools import lru_cache

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from twisted_llama.errors import (
    GatewayError,
    MalformedRequest,
    MethodNotAllowed,
    UnsupportedTransferCoding,
    UnsupportedVersion,
)
from twisted_llama.http.target import judge_target

#: One header field: its name in lower case, its name as it came, its value.
Field = tuple[bytes, bytes, bytes]

#: Methods that some path of the gateway or the engine has.
METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE"})

_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([!-~]+) HTTP/([0-9])\.([0-9])\r\n")
FIELD_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_AUTHORITY = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+=%-]+)(?::[0-9]{0,5})?")
_FRAMING_FIELDS = re.compile(
    rb"\r\n(transfer-encoding|content-length):[ \t]*([^\r]*)", re.IGNORECASE
)
#: What a key may be made of (RFC 6750, section 2.1).
_TOKEN68 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="
#: Longer heads are not remembered; nor are more than some hundred.
_REMEMBERED_BYTES = 4096
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([/?].*)?", re.IGNORECASE)


class Fields:
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
    A request as its head describes it, but for the length of its body; never
    changed, for many requests may share one.

    @ivar method: such as C{b"POST"}.
    @ivar target: in origin form (C{b"/v1/models?x=1"}) or C{b"*"}.
    @ivar path: the one plain form of its path (see L{judge_target}).
    @ivar query: the query with its question mark, or nothing.
    @ivar ambiguity: why the request cannot be served, if its target has more
        than one reading; empty if it has not.
    @ivar version: C{b"HTTP/1.1"} or C{b"HTTP/1.0"}.
    @ivar fields: the header fields in order, repeated ones too; perhaps
        without C{Content-Length} and C{Authorization}.
    @ivar first: for each name, in lower case, the first value that came.
    @ivar keep_alive: whether the client wants to use the connection again.
    @ivar expects_continue: whether the client waits for C{100 Continue} before
        it sends its body, if it has one.
    """

    __slots__ = (
        "ambiguity",
        "expects_continue",
        "fields",
        "first",
        "keep_alive",
        "method",
        "path",
        "query",
        "target",
        "version",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        version: bytes,
        fields: tuple[Field, ...],
        first: dict[bytes, bytes],
        keep_alive: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.first = first
        self.keep_alive = keep_alive
        self.expects_continue = (
            version == b"HTTP/1.1" and first.get(b"expect", b"").lower() == b"100-continue"
        )
        self.path, self.query = target, b""
        self.ambiguity = ""
        if target != b"*":
            try:
                self.path, self.query = judge_target(target)
            except MalformedRequest as error:
                self.path = target.partition(b"?")[0]
                self.ambiguity = str(error)


def read_request_head(head: bytes) -> tuple[RequestHead, int | None, bytes | None]:
    """
    As L{parse_request_head}, remembering what was read.

    Programs that talk to the gateway say the same head over and over; all that
    changes is the length of the body and, from one user to the next, the key.
    So those two lines are read by themselves, and the rest is looked up, which
    also keeps keys out of what is remembered.

    @return: the head, the length of the body as L{parse_request_head} gives it,
        and the value of C{Authorization}, C{None} if there is none.
    """
    rest, length_bytes = split_length(head)
    rest, bearer = _split_bearer(rest)
    if len(rest) <= _REMEMBERED_BYTES:
        try:
            known, other_length = _recall_request_head(rest)
        except GatewayError:
            # To be said of the head as it came.
            pass
        else:
            first = known.first
            if length_bytes is None:
                length_bytes = other_length
            elif other_length != 0 or b"content-length" in first:
                # Two lengths, or chunks and a length.
                return _read_anew(head)
            if bearer is None:
                return known, length_bytes, first.get(b"authorization")
            if b"authorization" not in first:
                return known, length_bytes, bearer
    return _read_anew(head)


def _read_anew(head: bytes) -> tuple[RequestHead, int | None, bytes | None]:
    known, length_bytes = parse_request_head(head)
    return known, length_bytes, known.first.get(b"authorization")


def _split_bearer(head: bytes) -> tuple[bytes, bytes | None]:
    """
    Take a plain C{Authorization: Bearer} line out of a head.

    @return: the head without it, and its value; the head as it is and C{None}
        if there is none, or none that is plain.
    """
    at = head.find(b"\r\nAuthorization: Bearer ")
    if at < 0:
        at = head.find(b"\r\nauthorization: Bearer ")
        if at < 0:
            return head, None
    end = head.find(b"\r\n", at + 24)
    # All of it is made of these: so nothing is left of it without them.
    if head[at + 24 : end].strip(_TOKEN68) or end == at + 24:
        return head, None
    return head[:at] + head[end:], head[at + 17 : end]


def split_length(head: bytes) -> tuple[bytes, int | None]:
    """
    Take a plain C{Content-Length} line out of a head.

    @return: the head without it, and the length; the head as it is and C{None}
        if there is none, or none that is plain.
    """
    at = head.find(b"\r\nContent-Length: ")
    if at < 0:
        at = head.find(b"\r\ncontent-length: ")
        if at < 0:
            return head, None
    end = head.find(b"\r\n", at + 18)
    digits = head[at + 18 : end]
    if not digits.isdigit() or len(digits) > 18 or (digits[0] == 48 and digits != b"0"):
        return head, None
    return head[:at] + head[end:], int(digits)


def parse_request_head(head: bytes) -> tuple[RequestHead, int | None]:
    """
    Read the head of a request.

    @param head: from the first byte of the request line through the empty
        line.

    @return: the head, and the length of the body in bytes; C{None} if that
        comes in chunks.

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
    if not FIELD_LINES.fullmatch(head, line.end()):
        raise MalformedRequest("A header field is malformed.")
    if method in _REFUSED_METHODS:
        raise MethodNotAllowed(("GET", "HEAD", "POST", "OPTIONS"))
    if method not in METHODS:
        raise MalformedRequest("The request method is unknown.")
    collected = Fields()
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
    known = RequestHead(
        method,
        target if target[0] == 47 else _origin_form(method, target, authority),
        version,
        tuple(fields),
        first,
        keeps_alive(fields, version) if b"connection" in first else version == b"HTTP/1.1",
    )
    return known, length


_recall_request_head = lru_cache(maxsize=512)(parse_request_head)


def _coding_error(coding: bytes) -> GatewayError:
    """
    What is wrong with a lone Transfer-Encoding that is not C{chunked}: where
    C{chunked} is not the last coding, nobody knows where the body ends.
    """
    codings = [part.strip().lower() for part in coding.split(b",")]
    if b"chunked" in codings[:-1]:
        return MalformedRequest("Transfer-Encoding must end in 'chunked'.")
    return UnsupportedTransferCoding()


def keeps_alive(fields: list[Field], version: bytes) -> bool:
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
    if not LENGTH.fullmatch(length):
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
