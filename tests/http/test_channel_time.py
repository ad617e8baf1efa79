"""
Clients that take their time, that leave, that do not read; and the end of the gateway.
"""

from __future__ import annotations

import tracemalloc

import pytest
from twisted.internet.address import IPv4Address

from tests.http.bench import Bench, channel_of, get, logged, post, statuses
from twisted_llama.http.channel import AHEAD_BYTES

SMUGGLED = get(b"/page/smuggled")


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
    assert wire.ended == "close"
    bench.pass_time(61)
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


def test_connections_that_never_came_to_be_are_not_counted() -> None:
    """As when the system has no room for a connection whose channel is made already."""
    bench = Bench(max_connections=3, max_connections_per_address=2)
    for _ in range(10):
        bench.site.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
    assert bench.connect(host="192.0.2.1").ended == ""
    assert bench.connect(host="192.0.2.1").ended == ""
    assert bench.connect(host="192.0.2.1").ended == "close"
