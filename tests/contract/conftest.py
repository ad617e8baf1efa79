"""
Gateways that the tests of the contract share.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.conftest import Require
from tests.gateway.running import Gateway, make_secret, running
from tests.gateway.scripted_engine import ScriptedEngine
from tests.tiny_model import tiny_model

#: The address of the proxy that the shared gateway trusts.
PROXY = "127.0.0.9"
#: What the shared gateway shows to its engine.
BACKEND_KEY = "marked-secret-of-the-backend"
#: Where MODEL_NAME and the like are set for a file of settings.
FILE_QUEUE_TIMEOUT = 7


@pytest.fixture(scope="session")
def engine() -> Iterator[ScriptedEngine]:
    """
    The engine of gateways that have none of their own.
    """
    scripted = ScriptedEngine()
    yield scripted
    scripted.close()


@pytest.fixture(scope="session")
def front(tmp_path_factory: pytest.TempPathFactory, engine: ScriptedEngine) -> Iterator[Gateway]:
    """
    A gateway before the scripted engine, with settings from a file and the environment.
    """
    directory = tmp_path_factory.mktemp("front")
    config = directory / "gateway.yaml"
    config.write_text(f"queue_timeout: {FILE_QUEUE_TIMEOUT}\nport_backend: 1\n")
    settings = {
        "ENGINE": "external",
        "PORT_BACKEND": engine.port,
        "BACKEND_API_KEY": BACKEND_KEY,
        "GATEWAY_CONFIG": config,
        "MAX_CONCURRENT_REQUESTS": 64,
        "TRUSTED_PROXIES": f"{PROXY}/32",
        "METRICS_AUTH_ENABLED": "On",
        "CLIENT_WRITE_TIMEOUT": 1,
        "RELAY_BUFFER_BYTES": 65536,
        "PROXY_EXTRA_PATHS": "/slots, /extra",
    }
    gateway = Gateway(directory, settings)
    gateway.secrets.add(BACKEND_KEY)
    with running(gateway):
        yield gateway


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Iterator[Gateway]:
    """
    A gateway with a real engine, found by itself, that serves one request at a time and lets
    ten wait.
    """
    require(find_spec("xllamacpp"), "the embedded engine is missing: pip install xllamacpp")
    settings = {
        "MODEL_PATH": tiny_model(),
        "CTX": 8192,
        "NGL": 0,
        "THREADS": 1,
        "MAX_CONCURRENT_REQUESTS": 1,
        "MAX_QUEUE_SIZE": 10,
    }
    keys = {name: make_secret() for name in ("first", "second")}
    with running(Gateway(tmp_path_factory.mktemp("real"), settings, keys)) as gateway:
        yield gateway
