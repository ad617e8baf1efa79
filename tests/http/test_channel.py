"""
A client's connection: requests one after the other, bodies, and what is never read as a request.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.python.failure import Failure

from tests.http.bench import Bench, channel_of, get, logged, post, post_chunks, statuses
from tests.http.splits import split
from twisted_llama.errors import InternalError
from twisted_llama.http.head_reader import HeadLimits

SMUGGLED = get(b"/page/smuggled")


def test_requests_sent_ahead_are_answered_in_order() -> None:
    bench = Bench()
    wire = bench.connect(b"".join(get(b"/page/%d" % number) for number in range(50)))
    assert statuses(wire.sent) == [200] * 50
    bodies = [part.split(b"\r\n\r\n")[1] for part in wire.sent.split(b"HTTP/1.1 ")[1:]]
    assert bodies == [b"</page/%d>" % number for number in range(50)]
    assert wire.ended == ""
    assert bench.watcher.over == [(b"GET", b"/page/%d" % number, True) for number in range(50)]


def test_requests_sent_ahead_wait_for_a_slow_answer() -> None:
    bench = Bench()
    wire = bench.connect(get(b"/later") + get(b"/page/2"))
    assert wire.sent == b""
    bench.later.waiting[0].write(b"first")
    bench.later.waiting[0].finish()
    assert wire.sent.index(b"first") < wire.sent.index(b"</page/2>")


CONVERSATION = (
    get(b"/page/1")
    + post(b"/echo", b"GET /page/not HTTP/1.1\r\n\r\n")
    + b"\r\n"
    + post_chunks(b"/echo", b"0\r\n\r\n", b"x" * 300, b"GET / HTTP/1.1\r\n\r\n")
    + post(b"/page", b"a body that is not wanted")
    + get(b"/page/2", method=b"HEAD")
    + get(b"/page/3", b"Connection: close")
    + SMUGGLED
)


@given(split(CONVERSATION))
def test_splits_change_nothing(pieces: list[bytes]) -> None:
    """
    However the bytes of a conversation come, the answers are the same.
    """
    whole = Bench().connect(CONVERSATION)
    split = Bench().connect(*pieces)
    assert split.sent == whole.sent
    assert statuses(split.sent) == [200, 200, 200, 405, 200, 200]
    assert split.ended in ("close", "half")
    assert b"smuggled" not in split.sent


@pytest.mark.parametrize(
    "refused",
    [
        b"GET /page HTTP/1.1\r\n\r\n",
        b"get /page HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /page HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        b"GET /page HTTP/1.1\nHost: a\r\n\r\n",
        b"GET /page HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /page HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET //page HTTP/1.1\r\nHost: a\r\n\r\n",
        get(b"/page", b"X: y" * 3000),
        get(b"/page" + b"x" * 9000),
        get(b"/page", *[b"X: y"] * 65),
    ],
)
def test_nothing_behind_a_refused_request_is_one(refused: bytes) -> None:
    """
    One answer, and whatever comes then is swallowed until the client has had time to read it.
    """
    bench = Bench()
    wire = bench.connect(refused + SMUGGLED, SMUGGLED, SMUGGLED)
    assert len(statuses(wire.sent)) == 1
    assert statuses(wire.sent)[0] >= 400
    assert b"smuggled" not in wire.sent
    assert b"Connection: close\r\n" in wire.sent
    assert wire.ended == "half"
    bench.pass_time(3)
    assert wire.ended == "close"


def test_body_that_breaks_its_framing() -> None:
    bench = Bench()
    wire = bench.connect(get(b"/echo", b"Transfer-Encoding: chunked", method=b"POST"))
    bench.send(wire, b"3\r\nabc\r\n", b"5\r\nabcdefg" + SMUGGLED, SMUGGLED)
    assert statuses(wire.sent) == [400]
    assert wire.ended == "half"


def test_endless_bytes_after_the_last_answer() -> None:
    bench = Bench()
    wire = bench.connect(b"nonsense\r\n\r\n")
    assert wire.ended == "half"
    bench.send(wire, *[b"x" * 65536] * 17)
    assert wire.ended == "abort"


@pytest.mark.parametrize(
    ("request_bytes", "kept"),
    [
        (get(b"/page"), True),
        (get(b"/page", b"Connection: close"), False),
        (get(b"/page", b"Connection: keep-alive, Close"), False),
        (get(b"/page", version=b"HTTP/1.0"), False),
        (get(b"/page", b"Connection: keep-alive", version=b"HTTP/1.0"), False),
    ],
)
def test_keeping_the_connection(request_bytes: bytes, kept: bool) -> None:
    wire = Bench().connect(request_bytes)
    assert statuses(wire.sent) == [200]
    assert (b"Connection: close\r\n" in wire.sent) is not kept
    assert wire.ended == ("" if kept else "close")


def test_http_1_0_gets_no_chunks() -> None:
    bench = Bench()
    wire = bench.connect(get(b"/later", version=b"HTTP/1.0"))
    bench.later.waiting[0].write(b"some")
    bench.later.waiting[0].write(b"thing")
    bench.later.waiting[0].finish()
    assert wire.sent.endswith(b"\r\n\r\nsomething")
    assert b"chunked" not in wire.sent
    assert wire.ended == "close"


def test_head() -> None:
    wire = Bench().connect(get(b"/page", method=b"HEAD") + get(b"/page"))
    first, second = wire.sent.split(b"HTTP/1.1 ")[1:]
    assert first.endswith(b"\r\n\r\n")
    assert b"Content-Length: 7\r\n" in first
    assert second.endswith(b"</page>")


def test_error_takes_the_place_of_what_was_prepared() -> None:
    """
    Not a header is left of the answer that it was to be.
    """
    bench = Bench()
    wire = bench.connect(get(b"/later"))
    request = bench.later.waiting[0]
    request.setHeader(b"Content-Length", b"10000")
    request.setHeader(b"X-Other", b"1")
    request.addCookie(b"a", b"b")
    request.setETag(b"x")
    channel_of(wire).fail(request, InternalError())
    assert statuses(wire.sent) == [500]
    assert wire.sent.count(b"Content-Length") == 1
    for name in (b"X-Other", b"ookie", b"ETag"):
        assert name not in wire.sent
    assert wire.ended == ""


def test_error_after_the_head_cuts_the_answer_off() -> None:
    bench = Bench()
    wire = bench.connect(get(b"/later"))
    bench.later.waiting[0].write(b"x")
    channel_of(wire).fail(bench.later.waiting[0], InternalError())
    assert len(statuses(wire.sent)) == 1
    assert wire.ended == "abort"


def test_limits_of_the_head_are_those_of_the_settings() -> None:
    bench = Bench(head=HeadLimits(max_line_bytes=30, max_field_bytes=20, max_fields=2))
    wires = [
        bench.connect(get(b"/page" + b"x" * 12)),
        bench.connect(get(b"/page" + b"x" * 13)),
        bench.connect(get(b"/page", b"X: " + b"y" * 17)),
        bench.connect(get(b"/page", b"X: " + b"y" * 18)),
        bench.connect(get(b"/page", b"X: 1", b"X: 2")),
    ]
    # The first names no page.
    assert [statuses(wire.sent)[0] for wire in wires] == [404, 414, 200, 431, 431]
    assert bench.watcher.refusals == [
        "uri_too_long",
        "header_fields_too_large",
        "header_fields_too_large",
    ]


@given(st.binary(max_size=200), st.lists(st.integers(0, 400), max_size=6))
def test_anything_at_all(noise: bytes, cuts: list[int]) -> None:
    """
    Whatever is sent, there is no exception, and what is no request gets one answer at most.
    """
    data = get(b"/page") + noise
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    wire = Bench().connect(*(data[a:b] for a, b in pairwise(edges)))
    assert statuses(wire.sent)[0] == 200
    if len(statuses(wire.sent)) > 1:
        assert statuses(wire.sent)[1] >= 400 or noise.startswith((b"GET", b"\r\nGET"))


def test_defect_of_who_renders_errors() -> None:
    """
    Nobody waits for ever because of it.
    """
    bench = Bench()
    wire = bench.connect(get(b"/later"))
    request = bench.later.waiting[0]
    bench.site.render_error = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]
    with logged() as events:
        request.processingFailed(Failure(InternalError()))
    assert len(events) == 1
    assert wire.ended == "abort"


def test_failure_when_all_is_over() -> None:
    """
    There is nobody to tell, whether the client has left or has its answer.
    """
    bench = Bench()
    wire = bench.connect(get(b"/later"))
    first = bench.later.waiting[0]
    first.channel.writeSequence([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok"])
    first.startedWriting = 1
    first.finish()
    first.processingFailed(Failure(InternalError()))
    assert statuses(wire.sent) == [200]
    bench.send(wire, get(b"/later"))
    wire.lose()
    bench.later.waiting[1].processingFailed(Failure(InternalError()))
    assert statuses(wire.sent) == [200]
