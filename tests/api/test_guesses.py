"""
Wrong keys, one after the other.
"""

from __future__ import annotations

from ipaddress import ip_network
from itertools import count as count_up

import pytest
from twisted.internet.defer import fail
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from tests.api.conftest import MakeWorld
from tests.api.ends import KEY, OK
from tests.api.test_errors import INVALID, check
from tests.api.world import World
from twisted_llama.auth.checkers import RefusedKey
from twisted_llama.auth.guesses import BATCH

WRONG = b"sk-nobody-has-this-key"
_NUMBERS = count_up()
CODE = "too_many_invalid_keys"


def guess(world: World, count: int, host: str = "192.0.2.7") -> list[int]:
    """
    Show wrong keys that nobody has shown before.

    @return: the statuses.
    """
    client = world.client(host)
    for _ in range(count):
        client.ask(b"GET", b"/v1/models", key=WRONG + b"%d" % next(_NUMBERS))
    statuses = [answer.status for answer in client.answers]
    client.leave()
    return statuses


def test_an_address_that_guesses_is_held_off(world: World) -> None:
    """
    Twenty are called wrong; then it is 429 until the time that it names has passed.
    """
    assert guess(world, BATCH) == [401] * BATCH
    client = world.client().ask(key=WRONG)
    error = check(client, 429, "rate_limit_error", CODE, False)
    assert str(error["message"]).startswith("Incorrect API key provided")
    assert "in 1 s" in str(error["message"])
    assert WRONG not in client.received
    assert client.answer[b"retry-after"] == b"1"
    assert client.answer.all(b"www-authenticate") == []
    world.pass_time(1)
    client.ask(key=WRONG)
    check(client, 401, INVALID, "invalid_api_key", False)
    assert guess(world, BATCH)[-1] == 429
    client.ask(key=WRONG + b"again")
    assert client.answers[-1][b"retry-after"] == b"2"


def test_valid_keys_from_there_are_served(world: World) -> None:
    """
    So that a guesser locks out nobody behind the same address; and others hear nothing of it.
    """
    assert guess(world, 50)[-1] == 429
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.engine.answer(OK)
    assert client.answer.status == 200
    assert guess(world, 1, "192.0.2.8") == [401]
    assert guess(world, 1) == [429]


@pytest.mark.parametrize(
    "field", [None, (b"Authorization", b"Basic YTpi"), (b"Authorization", b"Bearer")]
)
def test_who_shows_no_key_does_not_guess(world: World, field: tuple[bytes, bytes] | None) -> None:
    """
    401 as always, and no step towards 429; also while the address is held off.
    """
    fields = [field] if field else []
    client = world.client()
    for _ in range(2 * BATCH):
        client.ask(b"GET", b"/v1/models", *fields, key=None)
    assert {answer.status for answer in client.answers} == {401}
    assert guess(world, BATCH + 1)[-2:] == [401, 429]
    client.ask(b"GET", b"/v1/models", *fields, key=None)
    assert client.answers[-1].status == 401


def test_a_gateway_without_keys_says_so(world: World) -> None:
    """
    However often it is asked: that is nobody's guess.
    """
    world.keys._principals.clear()
    assert set(guess(world, 2 * BATCH)) == {401}


def test_keys_that_have_expired_count_too(world: World) -> None:
    for number in range(BATCH + 1):
        world.keys.add(b"sk-short-%d" % number, "short", expires=world.wall_clock() + 5)
    world.pass_time(5)
    client = world.client()
    for number in range(BATCH + 1):
        client.ask(key=b"sk-short-%d" % number)
    assert [answer.status for answer in client.answers[-2:]] == [401, 429]


def test_one_wrong_key_is_no_guess_however_often(world: World) -> None:
    """
    A program with an old key gets the answer that it always got.
    """
    client = world.client()
    for _ in range(10 * BATCH):
        client.ask(b"GET", b"/v1/models", key=WRONG)
    assert {answer.status for answer in client.answers} == {401}


def test_behind_a_proxy_the_forwarded_address_counts(make_world: MakeWorld) -> None:
    world = make_world(trusted_proxies=(ip_network("10.0.0.0/8"),))

    def ask(said: bytes) -> int:
        client = world.client("10.0.0.1").ask(
            b"GET", b"/v1/models", (b"X-Forwarded-For", said), key=WRONG + said
        )
        status = client.answer.status
        client.leave()
        return status

    for at in range(BATCH):
        assert ask(b"2001:db8::%x" % at) == 401
    assert ask(b"2001:db8::ffff") == 429
    assert ask(b"2001:db8:0:1::1") == 401
    assert ask(b"203.0.113.9") == 401


def test_a_checker_that_takes_its_time(make_world: MakeWorld) -> None:
    """
    What it refuses counts as well.
    """
    world = make_world(login=lambda credentials: fail(RefusedKey("unknown")))
    assert guess(world, BATCH + 1)[-2:] == [401, 429]


def test_all_doors_count_together(make_world: MakeWorld) -> None:
    world = make_world(metrics_auth_enabled=True)
    guess(world, BATCH)
    assert world.client().ask(b"GET", b"/metrics", key=WRONG).answer.code == CODE
    assert world.client().ask(b"GET", b"/metrics", key=KEY).answer.status == 200


def test_logged_once_a_minute_and_counted(world: World) -> None:
    """
    With the address and how many, and nothing of the keys.
    """
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        guess(world, 100)
        world.pass_time(60)
        guess(world, BATCH + 1)
    finally:
        globalLogPublisher.removeObserver(events.append)
    warnings = [event for event in events if event["log_level"] is LogLevel.warn]
    assert [(event["count"], event["address"]) for event in warnings] == [
        (BATCH, "192.0.2.7"),
        (80 + BATCH, "192.0.2.7"),
    ]
    assert not any(WRONG.decode() in str(event) for event in events)
    reasons = [exchange.error_reason for exchange in world.exchanges]
    assert reasons[: BATCH + 1] == ["unknown"] * BATCH + ["held_off"]
    client = world.client().ask(b"GET", b"/metrics", (b"Accept", b"text/plain"), key=None)
    held_off = reasons.count("held_off")
    name = b'llm_gateway_auth_failures_total{reason="held_off"}'
    assert b"%b %d" % (name, held_off) in client.answer.body
