"""
Heads: what is read, and what is refused because it may be read in two ways.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.errors import (
    EngineUnavailable,
    GatewayError,
    MalformedRequest,
    MethodNotAllowed,
    UnsupportedTransferCoding,
    UnsupportedVersion,
)
from twisted_llama.http.head import RequestHead, parse_request_head, read_request_head
from twisted_llama.http.response_head import parse_response_head, read_response_head


def request(*lines: bytes, first: bytes = b"POST /v1/x?y=1 HTTP/1.1", host: bool = True) -> bytes:
    all_lines = [first, *([b"Host: gateway:8000"] if host else []), *lines]
    return b"\r\n".join(all_lines) + b"\r\n\r\n"


def test_a_plain_request() -> None:
    head, length_bytes = parse_request_head(
        request(b"Content-Length: 12", b"X-Two: a", b"x-two:  b \t", b"Empty:")
    )
    assert (head.method, head.target, head.version) == (b"POST", b"/v1/x?y=1", b"HTTP/1.1")
    assert length_bytes == 12
    assert head.fields == (
        (b"host", b"Host", b"gateway:8000"),
        (b"content-length", b"Content-Length", b"12"),
        (b"x-two", b"X-Two", b"a"),
        (b"x-two", b"x-two", b"b"),
        (b"empty", b"Empty", b""),
    )
    assert head.first[b"x-two"] == b"a"
    assert head.keep_alive
    assert not head.expects_continue


@pytest.mark.parametrize(
    ("lines", "version", "kept"),
    [
        ([], b"1.1", True),
        ([b"Connection: close"], b"1.1", False),
        ([b"Connection: Keep-Alive, CLOSE"], b"1.1", False),
        ([b"Connection: x", b"Connection: close"], b"1.1", False),
        ([b"Connection: upgrade", b"Upgrade: h2c"], b"1.1", True),
        ([], b"1.0", False),
        ([b"Connection: keep-alive"], b"1.0", True),
    ],
)
def test_whether_the_connection_is_kept(lines: list[bytes], version: bytes, kept: bool) -> None:
    head, _ = parse_request_head(request(*lines, first=b"GET / HTTP/" + version))
    assert head.keep_alive is kept


@pytest.mark.parametrize(
    "head",
    [
        request(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        request(b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        request(b"Content-Length: 5", b"Content-Length: 5"),
        request(b"Content-Length: 5, 5"),
        request(b"Content-Length: +5"),
        request(b"Content-Length: -0"),
        request(b"Content-Length: 05"),
        request(b"Content-Length: 0x5"),
        request(b"Content-Length: 5 0"),
        request(b"Content-Length: 1e3"),
        request(b"Content-Length:"),
        request(b"Content-Length: 99999999999999999999"),
        request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        request(b"Transfer-Encoding:"),
        request(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"),
        request(b"X : y"),
        request(b" X: y"),
        request(b"X: y", b" folded"),
        request(b"X: y", b"\tfolded"),
        request(b"X: a\x00b"),
        request(b"X: a\x01b"),
        request(b"X: a\x7fb"),
        request(b"X\x80: b"),
        request(b"X(: b"),
        request(b": b"),
        request(b"no colon"),
        request(b"X: a\rb"),
        request(b"X: a\nY: b"),
        request(host=False),
        request(b"Host: other"),
        request(b"Host: gateway:8000"),
        request(b"Host:", host=False),
        request(b"Host: a, b", host=False),
        request(b"Host: user@a", host=False),
        request(b"Host: a/b", host=False),
        request(b"Host: a b", host=False),
        request(b"Host: a:port", host=False),
        request(b"Host: a", b"Host: a", first=b"GET / HTTP/1.0", host=False),
        request(first=b"post / HTTP/1.1"),
        request(first=b"BREW / HTTP/1.1"),
        request(first=b"GET  / HTTP/1.1"),
        request(first=b"GET / HTTP/1.1 "),
        request(first=b"GET / http/1.1"),
        request(first=b"GET / HTTP/1.10"),
        request(first=b"GET /\tx HTTP/1.1"),
        request(first=b"GET /\xc3\xa9 HTTP/1.1"),
        request(first=b"GET /"),
        request(first=b"GET"),
        request(first=b"GET x HTTP/1.1"),
        request(first=b"GET .evil.test/x HTTP/1.1"),
        request(first=b"GET gateway:8000 HTTP/1.1"),
        request(first=b"GET * HTTP/1.1"),
        request(first=b"GET http://other:8000/x HTTP/1.1"),
        request(first=b"GET http://u@gateway:8000/x HTTP/1.1"),
        request(first=b"GET ftp://gateway:8000/x HTTP/1.1"),
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_refused(head: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_request_head(head)


@pytest.mark.parametrize(
    "coding", [b"gzip", b"gzip, chunked", b"chunked, gzip", b"identity", b"xchunked", b'"chunked"']
)
def test_other_codings_than_chunked(coding: bytes) -> None:
    with pytest.raises((UnsupportedTransferCoding, MalformedRequest)):
        parse_request_head(request(b"Transfer-Encoding: " + coding))


def test_what_has_an_error_of_its_own() -> None:
    for version in (b"2.0", b"1.2", b"0.9"):
        with pytest.raises(UnsupportedVersion):
            parse_request_head(request(first=b"GET / HTTP/" + version))
    with pytest.raises(MalformedRequest):
        parse_request_head(request(b"Transfer-Encoding: chunked, gzip"))
    for method in (b"CONNECT", b"TRACE"):
        with pytest.raises(MethodNotAllowed):
            parse_request_head(request(first=method + b" / HTTP/1.1"))
    with pytest.raises(UnsupportedTransferCoding, match="chunked"):
        parse_request_head(request(b"Transfer-Encoding: gzip, chunked"))


@pytest.mark.parametrize(
    ("first", "target"),
    [
        (b"GET http://gateway:8000/a?b HTTP/1.1", b"/a?b"),
        (b"GET HTTP://GATEWAY:8000/a HTTP/1.1", b"/a"),
        (b"GET http://gateway:8000 HTTP/1.1", b"/"),
        (b"GET http://gateway:8000?b HTTP/1.1", b"/?b"),
        (b"OPTIONS * HTTP/1.1", b"*"),
    ],
)
def test_targets_that_are_no_paths(first: bytes, target: bytes) -> None:
    head, _ = parse_request_head(request(first=first))
    assert head.target == target


def test_chunked_and_expectations() -> None:
    head, length_bytes = parse_request_head(
        request(b"Transfer-Encoding: Chunked", b"Expect: 100-Continue")
    )
    assert length_bytes is None
    assert head.expects_continue
    old, _ = parse_request_head(request(b"Expect: 100-continue", first=b"POST / HTTP/1.0"))
    assert not old.expects_continue


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(junk: bytes) -> None:
    for head in (junk + b"\r\n\r\n", request(junk), request(first=b"GET /" + junk + b" HTTP/1.1")):
        try:
            parse_request_head(head)
        except GatewayError:
            continue


def response(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([first, *lines]) + b"\r\n\r\n"


def test_a_plain_response() -> None:
    head, length_bytes = parse_response_head(
        response(b"Content-Type: text/event-stream; charset=utf-8", b"Transfer-Encoding: chunked")
    )
    assert (head.status, head.reason) == (200, b"OK")
    assert (head.chunked, head.event_stream, head.keep_alive) == (True, True, True)
    assert (length_bytes, head.dated) == (None, False)
    old, _ = parse_response_head(response(b"Date: now", first=b"HTTP/1.0 404 "))
    assert (old.status, old.reason, old.keep_alive, old.dated) == (404, b"", False, True)
    assert not parse_response_head(response(b"Connection: close"))[0].keep_alive


@pytest.mark.parametrize(
    "head",
    [
        response(first=b"HTTP/1.1 99 X"),
        response(first=b"HTTP/1.1 600 X"),
        response(first=b"HTTP/1.1 2000 X"),
        response(first=b"HTTP/2 200 OK"),
        response(first=b"HTTP/1.1200 OK"),
        response(first=b"ICY 200 OK"),
        response(b"Content-Length: 5", b"Content-Length: 6"),
        response(b"Content-Length: 5", b"Content-Length: 5"),
        response(b"Content-Length: +5"),
        response(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        response(b"Transfer-Encoding: gzip"),
        response(b"Transfer-Encoding: chunked, chunked"),
        response(b"Transfer-Encoding: chunked", first=b"HTTP/1.0 200 OK"),
        response(b"X : y"),
        response(b"X: y", b" folded"),
        response(b"X: a\x00b"),
        response(b"X: a\rb"),
        b"HTTP/1.1 200 OK\nX: y\n\r\n\r\n",
    ],
)
def test_responses_that_are_no_valid_http(head: bytes) -> None:
    with pytest.raises(EngineUnavailable):
        parse_response_head(head)


@given(st.binary(max_size=100))
def test_any_answer_is_read_or_refused(junk: bytes) -> None:
    for head in (junk + b"\r\n\r\n", response(junk), response(first=b"HTTP/1.1 " + junk)):
        try:
            parse_response_head(head)
        except EngineUnavailable:
            continue


# -- remembered ------------------------------------------------------------------

_LINES = st.sampled_from(
    [
        b"Content-Length: 5",
        b"Content-Length: 77",
        b"content-length: 5",
        b"CONTENT-LENGTH: 5",
        b"Content-Length: 05",
        b"Content-Length: 0",
        b"Content-Length: +5",
        b"Content-Length:5",
        b"Content-Length: ",
        b"Content-Length: 1234567890123456789",
        b"X-Content-Length: 5",
        b"Content-Length : 5",
        b" Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Authorization: Bearer sk-one",
        b"Authorization: Bearer sk-two",
        b"authorization: Bearer sk-one",
        b"AUTHORIZATION: Bearer sk-one",
        b"Authorization: bearer sk-one",
        b"Authorization: Bearer ",
        b"Authorization: Bearer a b",
        b"Authorization: Bearer \xff",
        b"Authorization: Basic YTpi",
        b"Connection: close",
        b"Expect: 100-continue",
        b"X: y",
        b" folded",
        b"X: a\rb",
        b"",
    ]
)


def said(read: Callable[[bytes], tuple[Any, ...]], raw: bytes) -> tuple[object, ...]:
    """
    Everything that is read in a head, or what is wrong with it.
    """
    try:
        head, length_bytes, *others = read(raw)
    except GatewayError as error:
        return (type(error), str(error))
    # Who remembers gives these by themselves, and may have them in the head too.
    alone = (b"content-length", b"authorization")
    fields = [field for field in head.fields if field[0] not in alone]
    names = [name for name in type(head).__slots__ if name not in ("fields", "first")]
    if isinstance(head, RequestHead):
        others = others or [head.first.get(b"authorization")]
    return (length_bytes, others, fields, *(getattr(head, name) for name in names))


@given(st.lists(_LINES, max_size=5), st.sampled_from([b"1.1", b"1.0"]))
def test_what_is_remembered_is_what_would_be_read(lines: list[bytes], version: bytes) -> None:
    """However often, and whatever other length came before with the same rest."""
    head = request(*lines, first=b"POST /v1/x HTTP/" + version)
    for _ in range(2):
        assert said(read_request_head, head) == said(parse_request_head, head)


@given(st.lists(_LINES, max_size=4))
def test_answers_too(lines: list[bytes]) -> None:
    head = response(*lines)
    for _ in range(2):
        assert said(read_response_head, head) == said(parse_response_head, head)


def test_only_length_and_key_change() -> None:
    """Then the same object stands for both requests."""
    bearer = b"Authorization: Bearer "
    one, *of_one = read_request_head(request(b"Content-Length: 5", b"X-Only: here", bearer + b"k1"))
    two, *of_two = read_request_head(request(bearer + b"k2", b"X-Only: here", b"content-length: 6"))
    assert one is two
    assert of_one == [5, b"Bearer k1"]
    assert of_two == [6, b"Bearer k2"]
    assert not any(b"k1" in value for _, _, value in one.fields)


def test_long_heads_are_not_remembered() -> None:
    head = request(b"X-Long: " + b"x" * 5000, b"Content-Length: 5")
    assert read_request_head(head)[0] is not read_request_head(head)[0]
