"""
The guard: who is let in, by what, and who decides.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from tests.api.conftest import MakeWorld
from tests.api.ends import KEY, OK
from tests.api.world import World
from twisted_llama.auth.checkers import RefusedKey
from twisted_llama.auth.realm import Principal


@pytest.mark.parametrize(
    "field",
    [
        (b"Authorization", b"Bearer " + KEY),
        (b"authorization", b"bearer " + KEY),
        (b"AUTHORIZATION", b"BEARER " + KEY),
        (b"X-Api-Key", KEY),
        (b"x-api-key", KEY),
    ],
)
def test_a_key_in_either_header(world: World, field: tuple[bytes, bytes]) -> None:
    """
    OpenAI's way and Anthropic's; neither reaches the engine.
    """
    client = world.client().ask(b"GET", b"/v1/models", field, key=None)
    world.engine.answer(OK)
    assert client.answer.status == 200
    assert KEY not in world.engine.received
    assert b"Authorization: Bearer engine-key\r\n" in world.engine.received
    (exchange,) = world.exchanges
    assert (exchange.key_id, exchange.authenticated) == ("user", True)


def test_without_keys_everybody_gets_in(make_world: MakeWorld) -> None:
    """
    AUTH_ENABLED=false: no key, no limit; the queue goes by address.
    """
    world = make_world(auth_enabled=False, max_requests_per_minute=1)
    client = world.client()
    for _ in range(3):
        client.ask(b"POST", b"/v1/x", key=None, body=b"{}")
        world.engine.answer(OK)
    assert [answer.status for answer in client.answers] == [200] * 3
    assert client.answers[0].all(b"x-ratelimit-limit-requests") == []
    assert {(e.key_id, e.authenticated) for e in world.exchanges} == {("-", False)}
    world.keys.remove(KEY)
    client.ask(b"POST", b"/v1/x", key=None, body=b"{}")
    world.reload()
    world.engine.answer(OK)
    assert client.answers[-1].status == 200


class SlowLogin:
    """
    A checker that has to ask elsewhere.
    """

    def __init__(self) -> None:
        self.asked: list[Deferred[Principal]] = []
        self.cancelled: list[Deferred[Principal]] = []

    def __call__(self, credentials: object) -> Deferred[Principal]:
        self.asked.append(Deferred(self.cancelled.append))
        return self.asked[-1]


@pytest.fixture
def login() -> SlowLogin:
    """
    The checker of the next fixture.
    """
    return SlowLogin()


@pytest.fixture
def slow(make_world: MakeWorld, login: SlowLogin) -> World:
    """
    A gateway with a checker that takes its time.
    """
    return make_world(login=login)


def test_a_checker_that_takes_its_time(slow: World, login: SlowLogin) -> None:
    """
    The request goes on when it has answered.
    """
    client = slow.client().ask(b"POST", b"/v1/x", body=b"{}")
    assert client.received == b""
    assert slow.engine_ends == []
    login.asked[0].callback(Principal("elsewhere", 7))
    slow.engine.answer(OK)
    assert client.answer.status == 200
    assert client.answer[b"x-ratelimit-limit-requests"] == b"7"
    assert slow.exchanges[0].key_id == "elsewhere"


def test_a_checker_that_refuses_late(slow: World, login: SlowLogin) -> None:
    """
    It is 401 all the same.
    """
    client = slow.client().ask(b"POST", b"/v1/x", body=b"{}")
    login.asked[0].errback(RefusedKey("unknown"))
    assert (client.answer.status, client.answer.code) == (401, "invalid_api_key")
    assert slow.exchanges[0].error_reason == "unknown"


def test_a_client_that_leaves_meanwhile(slow: World, login: SlowLogin) -> None:
    """
    The checker is told that its answer is of no use any more.
    """
    slow.client().ask(b"POST", b"/v1/x", body=b"{}").leave()
    assert login.cancelled == login.asked
    assert [exchange.status for exchange in slow.exchanges] == [499]


def test_a_checker_that_cannot_be_stopped(make_world: MakeWorld) -> None:
    """
    Its answer comes when the client is gone: nothing happens.
    """
    asked: list[Deferred[Principal]] = []

    def login(credentials: object) -> Deferred[Principal]:
        asked.append(Deferred(lambda d: d.callback(Principal("late"))))
        return asked[-1]

    world = make_world(login=login)
    world.client().ask(b"POST", b"/v1/x", body=b"{}").leave()
    assert asked[0].called
    assert world.engine_ends == []
    assert [exchange.status for exchange in world.exchanges] == [499]


def test_a_later_path_behind_a_slow_checker(slow: World, login: SlowLogin) -> None:
    """
    What is raised behind it becomes an answer too.
    """
    client = slow.client().ask(b"GET", b"/nothing")
    login.asked[0].callback(Principal("elsewhere"))
    assert client.answer.status == 404
