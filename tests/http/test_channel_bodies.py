"""
The bodies of requests: asked for, not asked for, too large.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from twisted.internet.defer import Deferred

from tests.http.bench import Bench, get, post, post_chunks, statuses
from tests.http.splits import split
from twisted_llama.http.channel import AHEAD_BYTES, SKIP_BYTES

SMUGGLED = get(b"/page/smuggled")


def test_expect_continue_is_answered_when_the_body_is_read() -> None:
    bench = Bench()
    head = get(b"/echo", b"Content-Length: 4", b"Expect: 100-Continue", method=b"POST")
    wire = bench.connect(head)
    assert wire.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    bench.send(wire, b"body")
    assert statuses(wire.sent) == [100, 200]
    assert wire.sent.endswith(b"body")


def test_expect_continue_is_not_answered_when_nobody_reads() -> None:
    """
    The client may send the body or not: the connection cannot go on.
    """
    bench = Bench()
    wire = bench.connect(get(b"/page", b"Content-Length: 4", b"Expect: 100-continue"), SMUGGLED)
    assert statuses(wire.sent) == [200]
    assert b"Connection: close\r\n" in wire.sent
    assert wire.ended == "half"


def test_expect_continue_with_the_body_there_already() -> None:
    wire = Bench().connect(post(b"/echo", b"body", b"Expect: 100-continue"))
    assert statuses(wire.sent) == [200]


def test_unwanted_body_is_skipped() -> None:
    bench = Bench()
    wire = bench.connect(get(b"/page/1", b"Content-Length: %d" % SKIP_BYTES), b"GET ", b"x" * 1000)
    assert statuses(wire.sent) == [200]
    bench.send(wire, b"y" * (SKIP_BYTES - 1004) + get(b"/page/2"))
    assert statuses(wire.sent) == [200, 200]
    assert wire.sent.endswith(b"</page/2>")


def test_unwanted_body_that_never_comes() -> None:
    bench = Bench()
    wire = bench.connect(get(b"/page", b"Content-Length: 10"))
    bench.pass_time(61)
    assert statuses(wire.sent) == [200]
    assert wire.ended == "half"


@pytest.mark.parametrize(
    "head",
    [
        get(b"/page", b"Content-Length: %d" % (SKIP_BYTES + 1)),
        get(b"/page", b"Transfer-Encoding: chunked"),
    ],
)
def test_unwanted_body_that_may_be_long_ends_the_connection(head: bytes) -> None:
    bench = Bench()
    wire = bench.connect(head, SMUGGLED)
    assert statuses(wire.sent) == [200]
    assert b"Connection: close\r\n" in wire.sent
    assert wire.ended == "half"


def test_announced_body_over_the_limit() -> None:
    bench = Bench(max_body_bytes=10)
    wire = bench.connect(post(b"/echo", b"x" * 11), SMUGGLED)
    assert statuses(wire.sent) == [413]
    assert wire.ended == "half"
    assert statuses(bench.connect(post(b"/echo", b"x" * 10)).sent) == [200]


@given(split(post_chunks(b"/echo", b"x" * 6, b"y" * 5) + SMUGGLED))
def test_chunks_over_the_limit(pieces: list[bytes]) -> None:
    """
    However they come; all in one read with the head, too.
    """
    wire = Bench(max_body_bytes=10).connect(*pieces)
    assert statuses(wire.sent) == [413]
    assert wire.ended == "half"


@given(split(post_chunks(b"/echo", b"x" * 5, b"y" * 5)))
def test_chunks_at_the_limit(pieces: list[bytes]) -> None:
    wire = Bench(max_body_bytes=10).connect(*pieces)
    assert statuses(wire.sent) == [200]
    assert wire.sent.endswith(b"xxxxxyyyyy")


def test_body_that_is_asked_for_later() -> None:
    """
    Until then it waits, and a long one is not read.
    """
    bench = Bench()
    body = b"x" * 300_000
    wire = bench.connect(get(b"/later", b"Content-Length: %d" % len(body), method=b"POST"))
    at = 0
    while not wire.paused:
        bench.send(wire, body[at : at + 16384])
        at += 16384
    assert at <= AHEAD_BYTES + 16384
    reading = bench.later.waiting[0].read_body()
    assert isinstance(reading, Deferred)
    assert not wire.paused
    bench.send(wire, body[at:])
    got: list[bytes] = []
    reading.addCallback(got.extend)
    assert b"".join(got) == body


def test_answer_before_the_body_is_whole() -> None:
    """
    An answer may end while its body is being read; the rest is skipped.
    """
    bench = Bench()
    wire = bench.connect(get(b"/later", b"Content-Length: 10", method=b"POST"))
    request = bench.later.waiting[0]
    reading = request.read_body()
    assert isinstance(reading, Deferred)
    bench.send(wire, b"12345")
    request.write(b"enough")
    request.finish()
    bench.send(wire, b"67890" + get(b"/page/next"))
    assert statuses(wire.sent) == [200, 200]
    assert wire.sent.endswith(b"</page/next>")
    assert not reading.called
