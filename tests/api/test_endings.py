"""
However a request ends, and at whatever moment, it gives back all that it held, and one
observer is told of it once.  What is checked of every gateway at the end of a test stands in
L{World.assert_nothing_left <tests.api.world.World.assert_nothing_left>}.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from twisted.internet.defer import Deferred

from tests.api.conftest import MakeWorld
from tests.api.ends import KEY, OK, STREAM_HEAD, Client, chunk
from tests.api.world import EPOCH, World
from twisted_llama.errors import Draining
from twisted_llama.limits.decision import Decision

EVENT = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'


class SlowLimits:
    """
    Limits that answer when the test says so, as those in another process do.
    """

    def __init__(self) -> None:
        self.asked: list[Deferred[Decision]] = []
        self.given_back: list[str] = []

    def take(self, key_id: str, limit: int) -> Deferred[Decision]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def give_back(self, key_id: str, decision: Decision) -> None:
        self.given_back.append(key_id)


def stage_limits(world: World) -> Client:
    """
    The limit of its key is being asked for.
    """
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    assert len(world.limits.asked) == 1  # type: ignore[union-attr]  # SlowLimits
    return client


def stage_body(world: World) -> Client:
    """
    Its body has come in part.
    """
    return world.client().ask(b"POST", b"/v1/x", (b"Content-Length", b"10")).send(b"12345")


def stage_queue(world: World) -> Client:
    """
    It waits for a slot, which another one holds.
    """
    world.client().ask(b"POST", b"/v1/x", key=b"sk-the-key-of-others", body=b"{}")
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    assert world.gate.waiting == 1
    return client


def stage_connecting(world: World) -> Client:
    """
    It has a slot, and a connection to the engine is being made.
    """
    world.accepts = False
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    assert len(world.attempts) == 1
    return client


def stage_asked(world: World) -> Client:
    """
    The engine has it, and has not answered.
    """
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    assert world.engine.received.endswith(b"\r\n\r\n{}")
    return client


def stage_half_head(world: World) -> Client:
    """
    The head of the answer has come in part.
    """
    client = stage_asked(world)
    world.engine.answer(b"HTTP/1.1 200 O")
    return client


def stage_stream(world: World) -> Client:
    """
    The answer is an event stream under way.
    """
    client = stage_asked(world)
    world.engine.answer(STREAM_HEAD + chunk(EVENT))
    return client


def stage_length(world: World) -> Client:
    """
    The answer is one of known length, under way.
    """
    client = stage_asked(world)
    world.engine.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    return client


BEFORE_ANSWER = [
    stage_limits,
    stage_body,
    stage_queue,
    stage_connecting,
    stage_asked,
    stage_half_head,
]
IN_ANSWER = [stage_stream, stage_length]
STAGES = BEFORE_ANSWER + IN_ANSWER
Stage = Callable[[World], Client]


def world_for(stage: Stage, make_world: MakeWorld) -> World:
    """
    A gateway in which a request can get there.
    """
    return make_world(limits=SlowLimits()) if stage is stage_limits else make_world()


@pytest.mark.parametrize("stage", STAGES)
def test_client_leaves(make_world: MakeWorld, stage: Stage) -> None:
    """
    Everything is given up, the engine's connection is closed, and the log says 499.
    """
    world = world_for(stage, make_world)
    client = stage(world)
    ends = len(world.engine_ends)
    client.leave()
    (exchange,) = [e for e in world.exchanges if e.key_id == "user"]
    assert (exchange.status, exchange.outcome) == (499, "client_gone")
    assert world.attempts == []
    if stage in (stage_asked, stage_half_head, stage_stream, stage_length):
        assert world.engine.transport.closed == "abortConnection"
    else:
        assert len(world.engine_ends) == ends, "a client that is gone has reached the engine"
    for other in world.clients:
        other.leave()
    world.assert_nothing_left()


@pytest.mark.parametrize("stage", BEFORE_ANSWER)
def test_revoked_before_its_answer(make_world: MakeWorld, stage: Stage) -> None:
    """
    A reload without its key: it is told so, like anybody whose key is not known.
    """
    world = world_for(stage, make_world)
    client = stage(world)
    world.keys.remove(KEY)
    world.reload()
    world.settle()
    assert (client.answer.status, client.answer.code) == (401, "invalid_api_key")
    assert client.answer[b"www-authenticate"] == b"Bearer"
    (exchange,) = [e for e in world.exchanges if e.key_id == "user"]
    assert (exchange.status, exchange.error_reason) == (401, "unknown")
    assert world.attempts == []


@pytest.mark.parametrize("stage", STAGES)
def test_others_go_on_at_a_reload(make_world: MakeWorld, stage: Stage) -> None:
    """
    A reload ends nothing whose key is still there.
    """
    world = world_for(stage, make_world)
    client = stage(world)
    before = client.received
    world.keys.remove(b"sk-the-key-of-others")
    world.keys.add(b"sk-new-one", "new")
    if stage is not stage_queue:
        world.reload()
        world.settle()
        assert client.received == before
        assert not client.closed


def check_broken_stream(client: Client, code: str) -> None:
    """
    Check that a stream was ended with an event that says why, and that no client can take it
    for whole.
    """
    answer = client.answer
    assert not answer.whole
    assert client.closed
    events = [event for event in answer.body.split(b"\n\n") if event]
    assert b"[DONE]" not in answer.body
    assert events[-1].startswith(b"data: ")
    error = json.loads(events[-1][6:])["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert answer.body.startswith(EVENT)


def test_stream_of_a_revoked_key(world: World) -> None:
    """
    It ends at the reload, with an event that says why and no [DONE].
    """
    client = stage_stream(world)
    world.keys.remove(KEY)
    world.reload()
    world.settle()
    check_broken_stream(client, "invalid_api_key")
    assert world.engine.closed
    (exchange,) = world.exchanges
    assert (exchange.status, exchange.outcome) == (401, "cut")
    assert exchange.error_code == "invalid_api_key"


def test_stream_broken_within_an_event(world: World) -> None:
    """
    The error is an event of its own even then.
    """
    client = stage_stream(world)
    world.engine.answer(chunk(b'data: {"choi'))
    world.keys.remove(KEY)
    world.reload()
    world.settle()
    check_broken_stream(client, "invalid_api_key")
    assert b'data: {"choi\n\ndata: {"error"' in client.answer.body


def test_stream_of_an_expired_key(world: World) -> None:
    """
    It ends at the moment when the key does, without a reload.
    """
    world.keys.add(b"sk-short-lived", "short", expires=EPOCH + 30)
    client = world.client().ask(b"POST", b"/v1/x", key=b"sk-short-lived", body=b"{}")
    world.engine.answer(STREAM_HEAD + chunk(EVENT))
    world.pass_time(29.75)
    world.engine.answer(chunk(EVENT))
    assert not client.closed
    world.pass_time(0.25)
    check_broken_stream(client, "invalid_api_key")
    assert world.engine.closed
    assert world.exchanges[0].error_reason == "expired"


@pytest.mark.parametrize("stage", [stage_body, stage_asked])
def test_key_expires_before_its_answer(world: World, stage: Stage) -> None:
    """
    The request is refused at that moment.
    """
    world.keys.add(KEY, "user", expires=EPOCH + 3)
    client = stage(world)
    world.pass_time(3)
    assert (client.answer.status, client.answer.code) == (401, "invalid_api_key")


def test_key_that_outlives_its_request(world: World) -> None:
    """
    Nothing waits for the expiry of a key whose request is done.
    """
    world.keys.add(KEY, "user", expires=EPOCH + 3600)
    client = world.client().ask()
    world.engine.answer(OK)
    assert client.answer.status == 200


@pytest.mark.parametrize("stage", STAGES)
def test_ended_by_the_drain(make_world: MakeWorld, stage: Stage) -> None:
    """
    What has not ended within DRAIN_TIMEOUT is ended, each in its way.
    """
    world = world_for(stage, make_world)
    client = stage(world)
    world.gate.drain()
    world.site.drain()
    world.running.end_all(Draining(1))
    world.settle()
    if stage is stage_stream:
        check_broken_stream(client, "draining")
    elif stage is stage_length:
        assert not client.answer.whole
        assert client.closed
    else:
        assert (client.answer.status, client.answer.code) == (503, "draining")
        assert client.closed
    (exchange,) = [e for e in world.exchanges if e.key_id == "user"]
    assert exchange.status == 503
