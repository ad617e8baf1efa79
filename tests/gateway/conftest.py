"""
Gateways that tests share.  A test may ask them what it likes, but leaves them as they were;
one that kills, reloads or ends a gateway starts its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.conftest import Require
from tests.gateway.running import Gateway, make_secret, running
from tests.gateway.scripted_engine import ScriptedEngine
from tests.tiny_model import tiny_model

ORIGIN = "https://app.test"
#: Of the shared gateway with the mock engine: one token takes so long.
TOKEN_SECONDS = 0.02


@pytest.fixture(scope="session")
def limited_keys() -> list[str]:
    """
    Keys of the shared gateway, each for two requests a minute; a test takes (C{pop}) its own.
    """
    return [make_secret() for _ in range(6)]


@pytest.fixture(scope="session")
def mocked(tmp_path_factory: pytest.TempPathFactory, limited_keys: list[str]) -> Iterator[Gateway]:
    """
    A gateway with the mock engine: 20 ms for each token, 500 of them unless C{max_tokens} says
    otherwise, and sixteen slots.
    """
    gateway = Gateway(
        tmp_path_factory.mktemp("mocked"),
        {
            "ENGINE": "mock",
            "MODEL_NAME": "little.gguf",
            "EXTRA_ARGS": f"-np 16 --delay-ms {TOKEN_SECONDS * 1000} --tokens 500",
            "CORS_ORIGINS": ORIGIN,
            "MAX_REQUEST_BODY_SIZE": 100_000,
        },
        {"user": make_secret(), "other": make_secret()},
        key_lines=tuple(f"limited-{at}:{secret}:2" for at, secret in enumerate(limited_keys)),
    )
    with running(gateway):
        yield gateway


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Iterator[Gateway]:
    """
    A gateway with a real engine and a tiny model.
    """
    require(find_spec("xllamacpp"), "the embedded engine is missing: pip install xllamacpp")
    settings = {
        "ENGINE": "embedded",
        "MODEL_PATH": tiny_model(),
        "CTX": 8192,
        "NGL": 0,
        "THREADS": 1,
        "EXTRA_ARGS": "-np 2",
    }
    with running(Gateway(tmp_path_factory.mktemp("embedded"), settings)) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def engine() -> Iterator[ScriptedEngine]:
    """
    The engine of the following gateways.
    """
    scripted = ScriptedEngine()
    yield scripted
    scripted.close()


def external(engine: ScriptedEngine, **settings: object) -> dict[str, object]:
    """
    The settings of a gateway in front of a scripted engine.
    """
    return {"ENGINE": "external", "PORT_BACKEND": engine.port, **settings}


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory, engine: ScriptedEngine) -> Iterator[Gateway]:
    """
    A gateway that relays to the scripted engine, as much at once as there is.
    """
    settings = external(engine, MAX_CONCURRENT_REQUESTS=64, LOG_FORMAT="json")
    with running(Gateway(tmp_path_factory.mktemp("relay"), settings)) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory, engine: ScriptedEngine) -> Iterator[Gateway]:
    """
    A gateway that relays one request at a time, and lets three wait.
    """
    settings = external(engine, MAX_CONCURRENT_REQUESTS=1, MAX_QUEUE_SIZE=3)
    keys = {name: make_secret() for name in ("first", "second", "third")}
    with running(Gateway(tmp_path_factory.mktemp("narrow"), settings, keys)) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def impatient(
    tmp_path_factory: pytest.TempPathFactory, engine: ScriptedEngine
) -> Iterator[Gateway]:
    """
    A gateway that waits for nothing longer than about a second.
    """
    settings = external(
        engine,
        CLIENT_HEADER_TIMEOUT=0.6,
        CLIENT_BODY_TIMEOUT=0.6,
        KEEPALIVE_TIMEOUT=0.6,
        REQUEST_TIMEOUT=0.8,
        QUEUE_TIMEOUT=0.3,
        MAX_CONCURRENT_REQUESTS=1,
    )
    with running(Gateway(tmp_path_factory.mktemp("impatient"), settings)) as gateway:
        yield gateway
