"""
Engines that break off, clients that do not read, and our own defects: what comes of requests
then.  What is checked at the end of every test is the same as in L{test_endings}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher

from tests.api.conftest import MakeWorld
from tests.api.ends import KEY, OK, chunk
from tests.api.test_endings import (
    EVENT,
    SlowLimits,
    check_broken_stream,
    stage_length,
    stage_stream,
)
from tests.api.world import World
from twisted_llama.limits.decision import Decision


def test_engine_dies_in_a_stream(world: World) -> None:
    """
    The client is told by an event; the status in the log is what broke it.
    """
    client = stage_stream(world)
    world.engine.close()
    check_broken_stream(client, "engine_unavailable")
    (exchange,) = world.exchanges
    assert (exchange.status, exchange.outcome) == (502, "cut")
    assert exchange.bytes_sent == len(EVENT)


def test_engine_falls_silent_in_a_stream(make_world: MakeWorld) -> None:
    """
    REQUEST_TIMEOUT between two reads; no second status line.
    """
    world = make_world(request_timeout=10)
    client = stage_stream(world)
    for _ in range(3):
        world.pass_time(8)
        world.engine.answer(chunk(EVENT))
    world.pass_time(11)
    check_broken_stream(client, "engine_timeout")
    assert client.received.count(b"HTTP/1.1") == 1
    assert world.exchanges[0].status == 504


def test_engine_dies_in_an_answer_of_known_length(world: World) -> None:
    """
    The client sees that it is not whole.
    """
    client = stage_length(world)
    world.engine.close()
    assert client.closed
    assert not client.answer.whole
    assert client.answer.body == b"12345"
    assert (world.exchanges[0].status, world.exchanges[0].outcome) == (502, "cut")


def test_engine_breaks_its_framing(world: World) -> None:
    """
    A broken chunk ends a stream as a lost connection does.
    """
    client = stage_stream(world)
    world.engine.answer(b"nonsense\r\n")
    check_broken_stream(client, "engine_unavailable")


def test_answer_without_length_to_an_old_client(world: World) -> None:
    """
    It has no other sign of the end than the closing: cut hard when it is not whole.
    """
    client = world.client().ask(b"GET", b"/v1/models", version=b"HTTP/1.0")
    world.engine.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"half"))
    world.engine.close()
    assert client.transport.closed == "abortConnection"


def test_kept_connection_that_the_engine_has_closed(world: World) -> None:
    """
    What changes nothing is asked again on a new connection, once; a POST is not.
    """
    client = world.client().ask()
    world.engine.answer(OK)
    assert client.answer.status == 200
    kept = world.engine
    client.ask()
    assert world.engine is kept
    kept.close()
    assert world.engine is not kept
    world.engine.answer(OK)
    assert [answer.status for answer in client.answers] == [200, 200]
    client.ask(b"POST", b"/v1/x", body=b"{}")
    world.engine.close()
    assert client.answers[-1].status == 502


def test_kept_connection_and_an_engine_that_is_gone(world: World) -> None:
    """
    The second attempt fails: then it is 502.
    """
    client = world.client().ask()
    world.engine.answer(OK)
    world.accepts = False
    client.ask()
    world.engine.close()
    world.attempts[0].refuse()
    assert client.answers[-1].code == "engine_unavailable"


def test_client_leaves_at_the_second_attempt(world: World) -> None:
    """
    That is given up like the first.
    """
    client = world.client().ask()
    world.engine.answer(OK)
    world.accepts = False
    client.ask()
    world.engine.close()
    assert len(world.attempts) == 1
    client.leave()
    assert world.attempts == []


def test_slot_goes_to_those_who_wait_before_the_next_request_comes(make_world: MakeWorld) -> None:
    """
    A client that has sent its next request ahead finds the slot of its first one given back.
    """
    world = make_world(max_queue_size=1)
    first = world.client()
    ask = (b"POST", b"/v1/x")
    first.send(first.request(*ask, body=b"1") + first.request(*ask, body=b"2"))
    second = world.client().ask(*ask, key=b"sk-the-key-of-others", body=b"{}")
    assert (world.gate.active, world.gate.waiting) == (1, 1)
    world.engine.answer(OK)
    assert [answer.status for answer in first.answers] == [200]
    assert (world.gate.active, world.gate.waiting) == (1, 1)
    world.engine.answer(OK)
    world.engine.answer(OK)
    assert second.answer.status == 200
    assert [answer.status for answer in first.answers] == [200, 200]


def test_client_that_does_not_read(world: World) -> None:
    """
    It stops the engine, goes on when it reads again, and is cut off when it never does.
    """
    client = stage_stream(world)
    client.transport.fill()
    world.engine.answer(chunk(EVENT))
    assert world.engine.transport.paused
    client.transport.drain()
    assert not world.engine.transport.paused
    client.transport.fill()
    world.engine.answer(chunk(EVENT))
    world.pass_time(62)
    assert client.transport.closed == "abortConnection"
    assert world.engine.closed
    assert world.exchanges[0].status == 499


class BrokenLimits(SlowLimits):
    """
    Limits with a defect that shows only when nobody waits for them any more.
    """

    def take(self, key_id: str, limit: int) -> Deferred[Decision]:
        return Deferred(lambda asked: asked.errback(ZeroDivisionError()))


def test_a_defect_while_serving_one_that_has_left(make_world: MakeWorld) -> None:
    """
    It is logged under the request's id; there is nobody else to tell.
    """
    world = make_world(limits=BrokenLimits())
    events: list[LogEvent] = []
    client = world.client().ask(b"POST", b"/v1/x", (b"X-Request-Id", b"find-me"), body=b"{}")
    globalLogPublisher.addObserver(events.append)
    try:
        client.leave()
    finally:
        globalLogPublisher.removeObserver(events.append)
    (event,) = [event for event in events if "log_failure" in event]
    assert event["request_id"] == "find-me"
    assert [exchange.status for exchange in world.exchanges] == [499]


class HastyLimits(SlowLimits):
    """
    Limits that accept as soon as nobody waits for them any more.
    """

    def take(self, key_id: str, limit: int) -> Deferred[Decision]:
        return Deferred(lambda asked: asked.callback(Decision(True, limit, limit - 1, 60.0, 0.0)))


def test_who_has_left_does_not_wait_for_a_slot(make_world: MakeWorld) -> None:
    """
    Nor for an engine, when a slot is free.
    """
    world = make_world(limits=HastyLimits(), max_concurrent_requests=1)
    for _ in range(3):
        world.client().ask(b"POST", b"/v1/x", body=b"{}").leave()
        assert (world.gate.active, world.gate.waiting) == (0, 0)
    world.gate.set_engine("loading")
    for _ in range(3):
        world.client().ask(b"POST", b"/v1/x", body=b"{}").leave()
        assert (world.gate.active, world.gate.waiting) == (0, 0)
    assert [exchange.status for exchange in world.exchanges] == [499] * 6


def test_a_defect_when_the_turn_has_come(make_world: MakeWorld) -> None:
    """
    It is that request's alone: the next one is served.
    """
    world = make_world(max_queue_size=2)
    ask = (b"POST", b"/v1/x")
    clients = [world.client().ask(*ask, body=b"{}") for _ in range(3)]
    take = world.pool.take

    def broken() -> None:
        world.pool.take = take  # type: ignore[method-assign]  # mended again
        raise ZeroDivisionError

    world.pool.take = broken  # type: ignore[method-assign]  # a defect
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        world.engine.answer(OK)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert len([event for event in events if "log_failure" in event]) == 1
    world.engine.answer(OK)
    assert [client.answer.status for client in clients] == [200, 500, 200]


def test_a_client_that_names_no_host(world: World) -> None:
    """
    HTTP/1.0 did not ask for it, so none can be passed on.
    """
    client = world.client().send(b"GET /v1/models HTTP/1.0\r\nX-Api-Key: " + KEY + b"\r\n\r\n")
    assert b"X-Forwarded-Host" not in world.engine.received
    world.engine.answer(OK)
    assert client.answer.status == 200
    assert client.closed


def test_end_of_all_is_waited_for(world: World) -> None:
    """
    Who drains is told when the last one has ended, and may stop waiting.
    """
    assert world.running.when_none().called
    client = stage_stream(world)
    waits, gives_up = world.running.when_none(), world.running.when_none()
    gives_up.addErrback(lambda _: None)
    gives_up.cancel()
    assert not waits.called
    client.leave()
    assert waits.called
