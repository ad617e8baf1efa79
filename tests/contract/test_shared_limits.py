"""
Two gateways and one Redis.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Require
from tests.gateway.running import Gateway, make_secret, running, until
from tests.gateway.scripted_engine import ScriptedEngine
from tests.limits.redis_server import FOUND, MISSING, RedisServer

LIMIT = 10
SHARED = "Limits are shared through Redis"
AGAIN = "decides about limits again"
GONE = "cannot be used"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Iterator[RedisServer]:
    """
    A Redis that runs.
    """
    require(FOUND, MISSING)
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, engine: ScriptedEngine, redis: RedisServer
) -> Iterator[list[Gateway]]:
    """
    Two gateways with the same keys that name the same Redis.
    """
    steady = make_secret()
    keys = {f"key-{at}": make_secret() for at in range(4)}
    settings = {
        "ENGINE": "external",
        "PORT_BACKEND": engine.port,
        "MAX_REQUESTS_PER_MINUTE": LIMIT,
        "REDIS_URL": redis.url,
    }

    def make(name: str) -> Gateway:
        directory: Path = tmp_path_factory.mktemp(name)
        gateway = Gateway(directory, settings, keys, key_lines=(f"steady:{steady}:1000000",))
        gateway.secrets.add(steady)
        return gateway

    with running(make("one")) as one, running(make("two")) as two:
        for gateway in (one, two):
            gateway.printed(SHARED)
        yield [one, two]


def let_through(pair: list[Gateway], key: str) -> list[int]:
    """
    Send three times the limit to both gateways by turns, eight at once.

    @return: the statuses.
    """

    def ask(at: int) -> int:
        return pair[at % 2].ask("GET", "/v1/models", key=key).status

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, range(3 * LIMIT)))


def fallbacks(gateway: Gateway) -> float:
    """
    How often a gateway has decided by itself.
    """
    answer = gateway.ask("GET", "/metrics", key=None, headers={"Accept": "text/plain"})
    (line,) = (
        line
        for line in answer.body.decode().splitlines()
        if line.startswith("llm_gateway_limits_fallbacks_total")
    )
    return float(line.split()[1])


def test_exactly_the_limit_between_them(pair: list[Gateway]) -> None:
    """However the requests are spread."""
    statuses = let_through(pair, pair[0].keys["key-0"])
    assert sorted(statuses) == [200] * LIMIT + [429] * 2 * LIMIT


def test_a_redis_that_is_killed_while_requests_run(pair: list[Gateway], redis: RedisServer) -> None:
    """
    Nobody notices; each gateway warns once and counts what it decided by itself; when Redis is
    back, both use it again.
    """
    steady = pair[0].key_lines[0].split(":")[1]
    before = [gateway.output.count(AGAIN) for gateway in pair]
    warned = [gateway.output.count(GONE) for gateway in pair]
    over = threading.Event()
    statuses: list[int] = []

    def ask_on(gateway: Gateway) -> None:
        while not over.is_set():
            statuses.append(gateway.ask("GET", "/v1/models", key=steady).status)

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask_on, gateway) for gateway in pair]
        try:
            until(lambda: len(statuses) > 5, "requests run")
            redis.kill()
            for gateway in pair:
                until(lambda one=gateway: fallbacks(one) > 0, "it decides by itself")
            alone = let_through(pair, pair[0].keys["key-1"])
            redis.start()
            for gateway, times in zip(pair, before, strict=True):
                until(lambda one=gateway, n=times: one.output.count(AGAIN) > n, "Redis is back")
        finally:
            over.set()
        for one in asking:
            one.result()
    assert set(statuses) == {200}
    assert alone.count(200) == 2 * LIMIT, "each by its own windows"
    after = [gateway.output.count(GONE) for gateway in pair]
    assert after == [times + 1 for times in warned]
    statuses = let_through(pair, pair[0].keys["key-2"])
    assert statuses.count(200) == LIMIT
