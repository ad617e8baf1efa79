"""
Inputs written by hand: what is known to be tried on gateways, and what has to
be refused.  Coverage does not lead there by itself, since one refusal runs
through the same lines as the next.
"""

from __future__ import annotations

from collections.abc import Sequence

from fuzz import channel_words, head, relay
from fuzz.gateway import KEY
from fuzz.script import write_script

_HEAD = b"Host: a\r\nAuthorization: Bearer %b\r\n" % KEY
_POST = b"POST /v1/chat/completions HTTP/1.1\r\n" + _HEAD + b"Content-Length: 2\r\n\r\n{}"
_CHUNKED = b"POST /v1/stream HTTP/1.1\r\n" + _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_PING = b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"

Steps = Sequence[bytes | str | int]

#: Header lines that make two readings of a request possible, or are none.
_BAD_LINES = [
    b"Content-Length: 5\r\nContent-Length: 5",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Content-Length: 5, 5",
    b"Content-Length: +5",
    b"Content-Length: 0x5",
    b"Content-Length: 05",
    b"Content-Length: -1",
    b"Content-Length: ",
    b"Content-Length: 9999999999999999999",
    b"Content-Length : 5",
    b" Content-Length: 5",
    b"Content-Length\r\n",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:",
    b"X: y\r\n folded",
    b"X: y\nContent-Length: 5",
    b"X: y\rContent-Length: 5",
    b"X: a\x00b",
    b"X: a\x01b",
    b"X: a\x7fb",
    b"X: \xff\xfe",
    b"X\x80: y",
    b"X(: y",
    b": y",
    b"X y",
    b"Host: a",
    b"Host: b, c",
    b"Connection: host, authorization, content-length",
    b"Connection: x-secret\r\nX-Secret: y",
    b"Content_Length: 5",
    b"X-Api-Key: %b" % KEY,
    b"Proxy-Authorization: Bearer x",
    b"Upgrade: websocket\r\nConnection: Upgrade",
    b"TE: trailers\r\nTrailer: X",
    b"Expect: 100-continue",
    b"X-Request-Id: a b",
    b"X-Forwarded-For: 203.0.113.9",
]
_BAD_LINES_OF_REQUESTS = [
    b"get / HTTP/1.1",
    b"GET  / HTTP/1.1",
    b"GET /  HTTP/1.1",
    b"GET / HTTP/1.1 ",
    b"GET / HTTP/1.2",
    b"GET / HTTP/2.0",
    b"GET / http/1.1",
    b"GET /",
    b"GET\t/ HTTP/1.1",
    b"GET / HTTP/1.1\r",
    b"CONNECT a:1 HTTP/1.1",
    b"TRACE / HTTP/1.1",
    b"BREW / HTTP/1.1",
    b"GET a HTTP/1.1",
    b"GET * HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"GET http://b/v1/models HTTP/1.1",
    b"GET http://a/v1/models HTTP/1.1",
    b"GET http://a HTTP/1.1",
    b"GET http://u@a/ HTTP/1.1",
    b"GET /\x80 HTTP/1.1",
]
_TARGETS = [
    b"/v1/%2e%2e/ping",
    b"/v1/../ping",
    b"/v1/./models",
    b"/v1//models",
    b"//v1/models",
    b"/v1/models/..",
    b"/ping;/v1",
    b"/ping%3b",
    b"/v1%2fmodels",
    b"/v1%5cmodels",
    b"/v1\\models",
    b"/%00",
    b"/%0a",
    b"/%7f",
    b"/%23",
    b"/%3f",
    b"/%25",
    b"/%2525",
    b"/%22",
    b"/%3c",
    b"/%7b",
    b"/%5e",
    b"/%60",
    b"/%7c",
    b"/%C3%A9",
    b"/%c3%a9",
    b"/%4",
    b"/%zz",
    b"/%41?%41#x",
    b"/a#b",
    b"/a?b?c",
    b"/{a}",
    b"/PING",
    b"/ping/",
    b"/.ping",
    b"/ping.",
    b"/...",
]


def _request(line: bytes, *lines: bytes) -> bytes:
    return b"".join((line, b"\r\n", _HEAD, *(b"%b\r\n" % each for each in lines), b"\r\n"))


_CHANNEL: list[Steps] = [
    *([_request(b"POST /v1/x HTTP/1.1", line) + b"hello" + _PING] for line in _BAD_LINES),
    *([_request(line) + _PING] for line in _BAD_LINES_OF_REQUESTS),
    *([_request(b"GET %b HTTP/1.1" % target) + _PING] for target in _TARGETS),
    *([b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target + _PING] for target in _TARGETS),
    # Limits: ahead, to be skipped, too large, and after the last answer.
    ["engine holds", _POST, *(step for _ in range(10) for step in (b"x", 15, "cut"))],
    ["engine holds", _POST, *(step for _ in range(10) for step in (_PING, 4, "cut"))],
    [
        _request(b"POST /nothing HTTP/1.1", b"Content-Length: 330000"),
        *(step for _ in range(10) for step in (b"x", 15, "cut")),
    ],
    [
        _request(b"POST /nothing HTTP/1.1", b"Content-Length: 60000"),
        *(step for _ in range(2) for step in (b"x", 15, "cut")),
        _PING,
    ],
    [_CHUNKED, b"400\r\n" + b"x" * 1024 + b"\r\n", b"0\r\n\r\n", _PING],
    [_CHUNKED, "cut", b"3f0\r\n", b"x", 10, "cut", b"0\r\n\r\n", _PING],
    [b"nonsense\r\n\r\n", *(step for _ in range(10) for step in (b"x", 15, "cut"))],
    [b"GET /", b"x", 9, b" HTTP/1.1\r\n", _HEAD, b"\r\n"],
    [b"GET / HTTP/1.1\r\n", b"X: y\r\n", 4, _HEAD, b"\r\n"],
    [b"GET / HTTP/1.1\r\nX: ", b"y", 9, "cut", b"\r\n\r\n"],
    # Chunks.
    *(
        [_CHUNKED + body + _PING]
        for body in (
            b"5\nhello\r\n0\r\n\r\n",
            b"55\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\r\n0\r\nX: y\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"5;\r\nhello\r\n0\r\n\r\n",
            b'5;a="b\r\nhello\r\n0\r\n\r\n',
            b"5;a=b\nc\r\nhello\r\n0\r\n\r\n",
            b"fffffffffffffffff\r\n",
            b"0\r\nContent-Length: 5\r\n\r\n",
            b"0\r\n bad\r\n\r\n",
            b"0\n\n",
        )
    ),
    # Times.
    [b"GET /v1/models HT", "a minute passes", _PING],
    [_request(b"POST /v1/x HTTP/1.1", b"Content-Length: 5"), "a minute passes", b"hello"],
    [_request(b"POST /v1/x HTTP/1.1", b"Content-Length: 5"), "seconds pass", b"h", "seconds pass"],
    [_PING, "a minute passes", _PING],
    [b"\r\n", "cut", b"\r\n"],
    # Who does not read, leaves, or is not wanted any more.
    ["reads no more", _POST, _PING, 4, "seconds pass", "reads again", _PING],
    ["reads no more", _POST, _PING, 4, "a minute passes", "a minute passes"],
    ["reads no more", b"nonsense\r\n\r\n", "a minute passes"],
    ["engine holds", _POST, "engine streams", "reads no more", "engine goes on", "leaves"],
    ["engine holds", _POST, "engine streams", "engine goes on", "engine goes on", "engine closes"],
    ["engine holds", _POST, "engine streams", "gateway revokes keys", _PING],
    ["engine holds", _POST, "gateway revokes keys", _PING],
    ["engine holds", _POST, "engine streams", "gateway drains", "engine goes on", _PING],
    ["gateway drains", _POST, _PING],
    [_PING, "gateway drains", "seconds pass", _PING],
    [b"GET /", "gateway drains", "seconds pass"],
    ["engine refuses", _POST, _PING, "engine accepts", _POST],
    ["engine loads", _POST, "other client", _POST, "other client", _POST, "engine is ready"],
    ["engine loads", _POST, "a minute passes"],
    ["engine loads", _POST, "gateway drains"],
    ["engine loads", _POST, "engine has failed", _POST],
    ["engine loads", _POST, "leaves", "engine is ready"],
    [
        "engine holds",
        _POST,
        "other client",
        _POST,
        "other client",
        _POST,
        "leaves",
        "a minute passes",
    ],
    [
        "other client",
        "other client",
        _request(b"GET /v1/x HTTP/1.1", b"X-Forwarded-For: 203.0.113.9, 198.51.100.7"),
    ],
]

_OK = b"HTTP/1.1 200 OK\r\n"
_STREAM = _OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_HELLO = _OK + b"Content-Length: 5\r\n\r\nhello"


def _answer_with(line: bytes) -> Steps:
    return [_OK + line + b"\r\n\r\nhello", "closes"]


_RELAY: list[Steps] = [
    [_HELLO],
    [_HELLO, "cut", b"more"],
    [_HELLO + b"more"],
    [_HELLO + _HELLO],
    [_HELLO, "cut", _HELLO],
    [_HELLO, "closes"],
    [_STREAM + b"9\r\ndata: x\n\n\r\n0\r\n\r\n"],
    [_STREAM, "cut", b"9\r\ndata: x\n\n\r\n", "cut", b"0\r\n\r\n"],
    [_STREAM + b"9\r\ndata: x\n\n\r\n", "closes"],
    [_STREAM + b"9\r\ndata: x\n\n\r\n", "breaks off"],
    [_STREAM + b"9\r\ndata", "closes"],
    [_STREAM + b"9\r\ndata: x\n\n\r\n", "a minute passes"],
    [_STREAM, "the client reads no more", b"9\r\ndata: x\n\n\r\n", "cut", b"9\r\ndata: x\n\n\r\n"],
    [_STREAM, "the client leaves", b"9\r\ndata: x\n\n\r\n"],
    [_OK + b"\r\nhello", "closes"],
    [_OK + b"\r\nhello", "breaks off"],
    [_OK + b"\r\nhello", "a minute passes"],
    [_OK + b"Content-Length: 5\r\n\r\nhel", "closes"],
    ["closes"],
    ["breaks off"],
    ["a minute passes"],
    [b"nonsense\r\n\r\n"],
    [b"HTTP/1.1 200", "closes"],
    [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" + _HELLO],
    [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + _HELLO],
    [b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"],
    [b"HTTP/1.1 204 No Content\r\n\r\n"],
    [b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"],
    [b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"],
    [b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"],
    [b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"],
    [b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    [b"HTTP/1.1 600 X\r\n\r\n"],
    [b"HTTP/1.1 20 X\r\n\r\n"],
    [b"HTTP/2.0 200 OK\r\n\r\n"],
    *(_answer_with(line) for line in _BAD_LINES),
    *(
        [_OK + b"Transfer-Encoding: chunked\r\n\r\n" + body]
        for body in (
            b"5\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\r\n0\r\n\r\nmore",
            b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
            b"5\r\nhello\r\n0\r\n bad\r\n\r\n",
            b"5\nhello\r\n0\r\n\r\n",
            b"55\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\r\n0\r\nX: y\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"4\r\nhello\r\n0\r\n\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"5;a=b\r\nhello\r\n0\r\n\r\n",
            b"05\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n",
            b"fffffffffffffffff\r\n",
        )
    ),
]


def _seeds_of_relay() -> list[bytes]:
    programs = [write_script(steps, relay.PIECES, relay.EVENTS) for steps in _RELAY]
    return [bytes((way,)) + program for way in range(len(relay.WAYS)) for program in programs]


def _seeds_of_head() -> list[bytes]:
    programs: list[Steps] = [
        *([_request(b"POST /v1/x HTTP/1.1", line)] for line in _BAD_LINES),
        *([_request(line)] for line in _BAD_LINES_OF_REQUESTS),
        *([_request(b"GET %b HTTP/1.1" % target)] for target in _TARGETS),
        *([target] for target in _TARGETS),
    ]
    return [write_script(steps, head.PIECES, head.EVENTS) for steps in programs]


def seeds(target: str) -> list[bytes]:
    """
    The inputs of a target.
    """
    if target == "channel":
        pieces, events = channel_words.PIECES, channel_words.EVENTS
        return [write_script(steps, pieces, events) for steps in _CHANNEL]
    if target == "relay":
        return _seeds_of_relay()
    return _seeds_of_head() if target == "head" else []
