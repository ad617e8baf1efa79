"""
The limits of keys: what counts, what is given back, and what answers say of it.
"""

from __future__ import annotations

import pytest

from tests.api.conftest import MakeWorld
from tests.api.ends import KEY, OK, Client
from tests.api.world import OTHER_KEY, World
from twisted_llama.api.limiter import go_duration
from twisted_llama.http.site import ClientLimits


def left(world: World) -> int:
    """
    How many requests the key has left, by asking once.
    """
    client = world.client().ask(b"GET", b"/v1/models")
    if client.received == b"":
        world.engine.answer(OK)
    return int(client.answer[b"x-ratelimit-remaining-requests"])


def test_every_answer_says_what_is_left(make_world: MakeWorld) -> None:
    """
    The limit, the rest of it, and when all of it is free again.
    """
    world = make_world(max_requests_per_minute=3)
    client = world.client()
    for _ in range(3):
        client.ask()
        world.engine.answer(OK)
    assert [
        (
            answer[b"x-ratelimit-limit-requests"],
            answer[b"x-ratelimit-remaining-requests"],
            answer[b"x-ratelimit-reset-requests"],
        )
        for answer in client.answers
    ] == [(b"3", b"2", b"1m0s"), (b"3", b"1", b"1m0s"), (b"3", b"0", b"1m0s")]


def test_the_engines_own_figures_do_not_pass(world: World) -> None:
    """
    They would be those of all clients together; and none comes twice.
    """
    client = world.client().ask()
    world.engine.answer(OK.replace(b"\r\n\r\n", b"\r\nX-RateLimit-Limit-Requests: 7\r\n\r\n"))
    assert client.answer[b"x-ratelimit-limit-requests"] == b"100"


def test_a_key_with_a_limit_of_its_own(make_world: MakeWorld) -> None:
    """
    It goes before MAX_REQUESTS_PER_MINUTE, and two secrets of one key id share it.
    """
    world = make_world(max_requests_per_minute=1)
    world.keys.add(KEY, "user", 2)
    world.keys.add(b"sk-next-one", "user", 2)
    client = world.client()
    for key in (KEY, b"sk-next-one", KEY, b"sk-next-one", OTHER_KEY):
        client.ask(key=key)
        if key != KEY or len(client.answers) == 0:
            world.engine.answer(OK)
    assert [answer.status for answer in client.answers] == [200, 200, 429, 429, 200]


def refused_by_full_queue(world: World) -> Client:
    """
    C{queue_full}.
    """
    for _ in range(2):
        world.client().ask(b"POST", b"/v1/x", key=OTHER_KEY, body=b"{}")
    return world.client().ask(b"POST", b"/v1/x", body=b"{}")


def refused_after_waiting(world: World) -> Client:
    """
    C{queue_timeout}.
    """
    world.client().ask(b"POST", b"/v1/x", key=OTHER_KEY, body=b"{}")
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.pass_time(11)
    return client


def refused_for_its_size(world: World) -> Client:
    """
    C{payload_too_large}, by its length.
    """
    return world.client().ask(b"POST", b"/v1/x", (b"Content-Length", b"101"))


def refused_for_its_chunks(world: World) -> Client:
    """
    C{payload_too_large}, while it is read.
    """
    client = world.client().ask(b"POST", b"/v1/x", (b"Transfer-Encoding", b"chunked"))
    return client.send(b"65\r\n" + b"x" * 101)


def refused_for_its_framing(world: World) -> Client:
    """
    C{bad_request}.
    """
    client = world.client().ask(b"POST", b"/v1/x", (b"Transfer-Encoding", b"chunked"))
    return client.send(b"what?\r\n")


def refused_for_being_slow(world: World) -> Client:
    """
    C{request_timeout}.
    """
    client = world.client().ask(b"POST", b"/v1/x", (b"Content-Length", b"10"))
    world.pass_time(6)
    return client


@pytest.mark.parametrize(
    ("refuse", "status"),
    [
        (refused_by_full_queue, 503),
        (refused_after_waiting, 503),
        (refused_for_its_size, 413),
        (refused_for_its_chunks, 413),
        (refused_for_its_framing, 400),
        (refused_for_being_slow, 408),
    ],
)
def test_refused_requests_do_not_count(make_world: MakeWorld, refuse: object, status: int) -> None:
    """
    Each kind of refusal gives back what it had taken.
    """
    world = make_world(
        max_requests_per_minute=2,
        max_queue_size=1,
        queue_timeout=10,
        client_limits=ClientLimits(max_body_bytes=100, body_timeout_seconds=5),
    )
    world.keys.add(OTHER_KEY, "other", 1000)
    for _ in range(3):
        client: Client = refuse(world)  # type: ignore[operator]  # one of the functions above
        assert client.answer.status == status
        for other in world.clients:
            other.leave()
    assert left(world) == 1


def test_a_client_that_leaves_in_the_queue_does_not_count(make_world: MakeWorld) -> None:
    """
    Nor does one that leaves before its body is there.
    """
    world = make_world(max_requests_per_minute=2)
    world.client().ask(b"POST", b"/v1/x", key=OTHER_KEY, body=b"{}")
    for _ in range(3):
        world.client().ask(b"POST", b"/v1/x", body=b"{}").leave()
        world.client().ask(b"POST", b"/v1/x", (b"Content-Length", b"10")).send(b"x").leave()
    for client in world.clients:
        client.leave()
    assert left(world) == 1


def test_requests_over_the_limit_do_not_count(make_world: MakeWorld) -> None:
    """
    Who asks again too early does not wait longer for it.
    """
    world = make_world(max_requests_per_minute=1)
    client = world.client().ask()
    world.engine.answer(OK)
    for _ in range(59):
        world.pass_time(1)
        client.ask()
    assert client.answers[-1][b"retry-after"] == b"1"
    world.pass_time(1)
    client.ask()
    world.engine.answer(OK)
    assert client.answers[-1].status == 200


def test_what_the_engine_refuses_counts(make_world: MakeWorld) -> None:
    """
    It was accepted here, whatever came of it.
    """
    world = make_world(max_requests_per_minute=3)
    client = world.client().ask()
    world.engine.answer(OK.replace(b"200 OK", b"400 Bad Request"))
    assert client.answer.status == 400
    world.accepts = False
    world.pool.close()
    client.ask(b"POST", b"/v1/x", body=b"{}")
    world.attempts[0].refuse()
    assert client.answers[-1].status == 502
    world.accepts = True
    assert left(world) == 0


def test_public_and_unknown_paths_do_not_count(make_world: MakeWorld) -> None:
    """
    They ask nothing of the engine.
    """
    world = make_world(max_requests_per_minute=2)
    for target in (b"/ping", b"/health", b"/ready", b"/metrics", b"/nothing"):
        world.client().ask(b"GET", target)
    assert left(world) == 1


def test_cheap_reads_do_not_wait(world: World) -> None:
    """
    While the engine is busy, and only while it can answer at all.
    """
    world.client().ask(b"POST", b"/v1/x", body=b"{}")
    reading = world.client().ask(b"GET", b"/v1/models")
    world.engine.answer(OK)
    assert reading.answer.status == 200
    assert world.gate.active == 1
    world.status = world.status.__class__("loading")
    world.gate.set_engine("loading")
    waiting = world.client().ask(b"GET", b"/v1/models")
    assert world.gate.waiting == 1
    waiting.leave()
    world.gate.set_engine("failed", "The model file is broken.")
    refused = world.client().ask(b"GET", b"/v1/models")
    assert (refused.answer.status, refused.answer.code) == (502, "engine_unavailable")
    assert refused.answer.json["error"]["message"] == "The model file is broken."


def test_fair_between_keys(world: World) -> None:
    """
    One that has sent much waits longer than one that has sent little.
    """
    world.client().ask(b"POST", b"/v1/0", body=b"{}")
    for number in (b"1", b"2", b"3"):
        world.client().ask(b"POST", b"/v1/" + number, body=b"{}")
    world.client().ask(b"POST", b"/v1/other", key=OTHER_KEY, body=b"{}")
    order = []
    for _ in range(5):
        order.append(world.engine.received.rsplit(b"POST ", 1)[1].split(b" ")[0])
        world.engine.answer(OK)
    assert order == [b"/v1/0", b"/v1/other", b"/v1/1", b"/v1/2", b"/v1/3"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, b"0s"), (12, b"12s"), (59, b"59s"), (60, b"1m0s"), (90, b"1m30s")],
)
def test_durations(seconds: int, said: bytes) -> None:
    """
    As Go writes them.
    """
    assert go_duration(seconds) == said
