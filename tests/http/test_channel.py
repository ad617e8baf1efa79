"""
A client's connection: requests one after the other, bodies, and what is never read as a request.
"""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher

from tests.http.bench import Bench, channel_of, get, post, post_chunks, statuses
from tests.http.splits import split
from twisted_llama.errors import InternalError
from twisted_llama.http.channel import AHEAD_BYTES, SKIP_BYTES
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
        get(b"/page", b"Transfer-Encoding: chunked") + b"5\r\nabc\r\n",
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
    if b"chunked\r\n\r\n5" not in refused:
        assert b"Connection: close\r\n" in wire.sent
    assert wire.ended == "half"
    bench.pass_time(3)
    assert wire.ended == "abort"


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


# -- bodies ------------------------------------------------------------------


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


# -- time --------------------------------------------------------------------


def test_slow_head_is_refused_by_an_absolute_time() -> None:
    """
    A byte now and then does not help.
    """
    bench = Bench(header_timeout_seconds=5.0)
    wire = bench.connect()
    for byte in get(b"/page", b"X: " + b"y" * 100)[:-4]:
        if wire.ended:
            break
        bench.send(wire, bytes((byte,)))
        bench.pass_time(0.5)
    assert statuses(wire.sent) == [408]
    assert bench.clock.seconds() <= 6
    assert wire.ended == "half"
    bench.pass_time(3)
    assert wire.ended == "abort"


def test_idle_connections_are_closed() -> None:
    bench = Bench(header_timeout_seconds=5.0, keepalive_timeout_seconds=20.0)
    silent, used = bench.connect(), bench.connect(get(b"/page"))
    bench.pass_time(6)
    assert (silent.ended, silent.sent) == ("close", b"")
    assert used.ended == ""
    bench.send(used, get(b"/page"))
    bench.pass_time(19)
    assert used.ended == ""
    bench.pass_time(2)
    assert used.ended == "close"
    assert len(statuses(used.sent)) == 2


def test_head_after_a_pause_has_the_time_of_a_head() -> None:
    bench = Bench(header_timeout_seconds=5.0, keepalive_timeout_seconds=20.0)
    wire = bench.connect(get(b"/page"))
    bench.pass_time(19)
    bench.send(wire, b"GET ")
    bench.pass_time(4)
    bench.send(wire, get(b"/page")[4:])
    assert statuses(wire.sent) == [200, 200]


def test_body_with_a_long_pause() -> None:
    bench = Bench(body_timeout_seconds=5.0)
    wire = bench.connect(post(b"/echo", b"x" * 10)[:-5])
    bench.pass_time(4)
    bench.send(wire, b"x")
    bench.pass_time(4)
    assert wire.sent == b""
    bench.pass_time(2)
    assert statuses(wire.sent) == [408]
    assert wire.ended == "half"


def test_body_that_trickles() -> None:
    """
    No pause is too long, and yet it is too slow in the end.
    """
    bench = Bench(body_timeout_seconds=2.0)
    wire = bench.connect(get(b"/echo", b"Content-Length: 1000", method=b"POST"))
    seconds = 0
    while not wire.sent:
        bench.send(wire, b"x")
        bench.pass_time(1)
        seconds += 1
    assert statuses(wire.sent) == [408]
    assert 9 < seconds < 12


def test_body_that_is_slow_but_steady() -> None:
    bench = Bench(body_timeout_seconds=2.0)
    wire = bench.connect(get(b"/echo", b"Content-Length: 60000", method=b"POST"))
    for _ in range(40):
        bench.send(wire, b"x" * 1500)
        bench.pass_time(1)
    assert statuses(wire.sent) == [200]


def test_no_time_limit_while_an_answer_is_made() -> None:
    bench = Bench()
    wire = bench.connect(get(b"/later"))
    bench.pass_time(1000)
    assert (wire.sent, wire.ended) == (b"", "")


# -- clients that leave, and do not read -------------------------------------------


def test_client_that_leaves() -> None:
    bench = Bench()
    wire = bench.connect(get(b"/later") + get(b"/page"))
    wire.lose()
    assert bench.later.gone == 1
    assert bench.watcher.over == [(b"GET", b"/later", False)]
    assert bench.site.channels == set()
    bench.clock.advance(1)
    assert bench.clock.getDelayedCalls() == []


def test_client_that_leaves_before_it_asks() -> None:
    bench = Bench()
    bench.connect(b"GET /").lose()
    assert bench.watcher.over == []


def test_client_that_leaves_while_its_body_is_read() -> None:
    bench = Bench()
    wire = bench.connect(get(b"/echo", b"Content-Length: 10", method=b"POST"), b"123")
    wire.lose()
    assert bench.watcher.over == [(b"POST", b"/echo", False)]


def test_defect_of_who_serves_when_the_client_leaves() -> None:
    """
    It is logged, and the request is counted all the same.
    """
    bench = Bench()
    wire = bench.connect(get(b"/later"))
    bench.later.waiting[0].on_gone = lambda: 1 / 0
    with logged() as events:
        wire.lose()
    assert len(events) == 1
    assert bench.watcher.over == [(b"GET", b"/later", False)]


def test_defect_of_who_counts() -> None:
    """
    It is logged, and costs neither the answer nor the connection.
    """
    bench = Bench()
    bench.watcher.broken = True
    with logged() as events:
        wire = bench.connect(get(b"/page") + get(b"/page"))
    assert statuses(wire.sent) == [200, 200]
    assert len(events) == 2


def test_many_requests_of_a_client_that_reads_nothing() -> None:
    """
    The answers are not piled up: it gets the next one when it has taken the last.
    """
    bench = Bench()
    wire = bench.connect(get(b"/page"))
    wire.fill()
    before = len(wire.sent)
    requests = get(b"/page") * 100
    sent = 0
    while not wire.paused:
        bench.send(wire, requests)
        sent += 100
    assert len(wire.sent) == before
    assert sent * len(get(b"/page")) < AHEAD_BYTES + 2 * len(requests)
    wire.drain()
    assert len(statuses(wire.sent)) == sent + 1
    assert not wire.paused


def test_client_that_reads_nothing_is_cut_off() -> None:
    bench = Bench(write_timeout_seconds=10.0)
    wire = bench.connect(get(b"/page"))
    wire.fill()
    bench.pass_time(9)
    assert wire.ended == ""
    bench.pass_time(2)
    assert wire.ended == "abort"


def test_client_that_reads_slowly_is_not_cut_off() -> None:
    bench = Bench(write_timeout_seconds=10.0)
    wire = bench.connect(get(b"/page"))
    for _ in range(5):
        wire.fill()
        bench.pass_time(9)
        wire.drain()
    assert wire.ended == ""


def test_idle_time_begins_when_the_answer_is_taken() -> None:
    bench = Bench(keepalive_timeout_seconds=5.0)
    wire = bench.connect(get(b"/page"))
    wire.fill()
    bench.pass_time(20)
    bench.send(wire, get(b"/page"))
    assert wire.ended == ""
    wire.drain()
    assert statuses(wire.sent) == [200, 200]


@pytest.mark.parametrize("last", [get(b"/page", b"Connection: close"), b"nonsense\r\n\r\n"])
def test_last_answer_is_waited_for(last: bytes) -> None:
    """
    Whoever reads it slowly gets it whole; whoever does not is cut off.
    """
    bench = Bench(write_timeout_seconds=10.0)
    wire = bench.connect(get(b"/later"))
    later = bench.later.waiting[0]
    later.write(b"x")
    bench.send(wire, last)
    wire.fill()
    later.finish()
    assert wire.ended == ""
    bench.pass_time(5)
    wire.drain()
    assert wire.ended in ("close", "half")
    reader, idler = (bench.connect(get(b"/later", b"Connection: close")) for _ in range(2))
    for wire, request in zip((reader, idler), bench.later.waiting[1:], strict=True):
        request.write(b"a long answer")
        wire.fill()
        request.finish()
        assert wire.ended == ""
    bench.pass_time(9)
    reader.drain()
    assert reader.ended == "close"
    bench.pass_time(2)
    assert idler.ended == "abort"


def test_memory_of_requests_sent_ahead() -> None:
    """
    Each request that is served lets in no more than it has taken.
    """
    bench = Bench()
    wire = bench.connect()
    requests = get(b"/later") * 400
    for _ in range(20):
        while not wire.paused:
            bench.send(wire, requests)
        bench.later.waiting[-1].write(b"x")
        bench.later.waiting[-1].finish()
    assert len(channel_of(wire)._input) <= AHEAD_BYTES + len(requests)


def test_memory_of_an_idle_connection() -> None:
    """
    Nothing of what has passed is kept.
    """
    bench = Bench()
    body = b"x" * 60000
    tracemalloc.start()
    try:
        for _ in range(3):
            bench.connect(get(b"/page"))
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(20):
            wire = bench.connect(post(b"/echo", body) + get(b"/page"))
            wire.sent = b""
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # As many requests as the watcher of the tests remembers hold their bodies;
    # connections that held one each would be at ten times as much.
    bench.watcher.begun_requests.clear()
    assert held - before < 20 * 20000


# -- the end of the gateway ---------------------------------------------------------


def test_drain() -> None:
    """
    Who is idle is closed in a moment; who has begun to ask gets an answer; who is served keeps
    the connection until the end of that.
    """
    bench = Bench()
    idle = bench.connect(get(b"/page"))
    asking = bench.connect(b"GET /page HTTP/1.1\r\n")
    served = bench.connect(get(b"/later"))
    late = bench.connect(get(b"/page"))
    bench.site.drain()
    bench.send(late, get(b"/page"))
    assert statuses(late.sent) == [200, 200]
    assert b"Connection: close\r\n" in late.sent
    bench.pass_time(1.25)
    assert idle.ended == "close"
    assert statuses(asking.sent) == [503]
    assert asking.ended == "half"
    assert served.ended == ""
    bench.later.waiting[0].write(b"x")
    bench.later.waiting[0].finish()
    assert b"Connection: close\r\n" in served.sent
    assert served.ended == "close"
    gone: list[None] = []
    bench.site.when_no_channels().addCallback(gone.append)
    for wire in bench.wires:
        assert gone == []
        wire.lose()
    assert gone == [None]
    again: list[None] = []
    bench.site.when_no_channels().addCallback(again.append)
    assert again == [None]


def test_drain_in_an_answer_whose_head_is_out() -> None:
    bench = Bench()
    wire = bench.connect(get(b"/later"))
    bench.later.waiting[0].write(b"x")
    bench.site.drain()
    bench.pass_time(2)
    bench.later.waiting[0].finish()
    assert wire.ended == ""
    bench.pass_time(1.25)
    assert wire.ended == "close"


def test_connections_beyond_the_limits() -> None:
    bench = Bench(max_connections=3, max_connections_per_address=2)
    first = bench.connect(host="192.0.2.1")
    bench.connect(host="192.0.2.1")
    assert bench.connect(host="192.0.2.1").ended == "close"
    bench.connect(host="192.0.2.2")
    assert bench.connect(host="192.0.2.3").ended == "close"
    first.lose()
    assert bench.connect(host="192.0.2.1").ended == ""


# -- errors ------------------------------------------------------------------------


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
    wire = Bench().connect(*(data[a:b] for a, b in zip(edges, edges[1:], strict=False)))
    assert statuses(wire.sent)[0] == 200
    if len(statuses(wire.sent)) > 1:
        assert statuses(wire.sent)[1] >= 400 or noise.startswith((b"GET", b"\r\nGET"))


class logged:
    """
    Collects the failures that are logged.
    """

    def __enter__(self) -> list[LogEvent]:
        self._events: list[LogEvent] = []
        globalLogPublisher.addObserver(self._observe)
        return self._events

    def _observe(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self._events.append(event)

    def __exit__(self, *_: object) -> None:
        globalLogPublisher.removeObserver(self._observe)
