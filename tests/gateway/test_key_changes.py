"""
Keys that come, go and expire while the gateway runs.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from time import time

import pytest

from tests.gateway.conftest import external
from tests.gateway.running import Gateway, make_secret, running, until
from tests.gateway.scripted_engine import Asked, Gate, ScriptedEngine, begin_stream, event
from tests.gateway.talking import CHAT, Client, Stream, chat, fresh_id


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, engine: ScriptedEngine) -> Iterator[Gateway]:
    """
    A gateway whose key file changes.
    """
    settings = external(engine, MAX_CONCURRENT_REQUESTS=8)
    with running(Gateway(tmp_path_factory.mktemp("keyed"), settings)) as gateway:
        yield gateway


@pytest.fixture
def key(keyed: Gateway) -> Iterator[str]:
    """
    A key that was added to the file, and is removed afterwards.
    """
    secret = make_secret()
    keyed.secrets.add(secret)
    keyed.write_keys(f"added:{secret}")
    assert keyed.ask("POST", "/reload", body=b"").json == {"status": "ok", "keys_loaded": 2}
    yield secret
    keyed.write_keys()
    assert keyed.ask("POST", "/reload", body=b"").json == {"status": "ok", "keys_loaded": 1}


def by_request(gateway: Gateway) -> None:
    """
    Reload with POST /reload.
    """
    assert gateway.ask("POST", "/reload", body=b"").status == 200


def by_signal(gateway: Gateway) -> None:
    """
    Reload with SIGHUP.
    """
    gateway.signal(signal.SIGHUP)


def by_itself(gateway: Gateway) -> None:
    """
    Do nothing: the file is looked at every few seconds.
    """


@contextlib.contextmanager
def streaming(gateway: Gateway, engine: ScriptedEngine, key: str) -> Iterator[Client]:
    """
    A stream under way that the engine would never end.
    """
    gate = Gate()

    def speak(asked: Asked) -> None:
        begin_stream(asked)
        event(asked, b"{}")
        gate.wait()

    request_id = fresh_id("stream")
    engine.script(request_id, speak)
    try:
        with Client.connected(gateway.port) as client:
            client.post(CHAT, chat(stream=True), key, f"X-Request-Id: {request_id}\r\n")
            yield client
    finally:
        gate.open()


@pytest.mark.parametrize("reload", [by_request, by_signal, by_itself])
def test_a_key_that_is_removed(
    keyed: Gateway, engine: ScriptedEngine, key: str, reload: Callable[[Gateway], None]
) -> None:
    """Its running stream ends, others go on; its next request is refused."""
    with streaming(keyed, engine, key) as removed, streaming(keyed, engine, keyed.key) as other:
        received = removed.hear(1)
        assert other.hear(1)
        keyed.write_keys()
        reload(keyed)
        stream = Stream.of(received + removed.rest())
        assert stream.error["code"] == "invalid_api_key"
        other.connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            other.hear(1)
    assert keyed.ask("POST", CHAT, body=chat(), key=key).status == 401


@pytest.mark.parametrize("reload", [by_signal, by_itself])
def test_a_key_that_is_added(keyed: Gateway, reload: Callable[[Gateway], None]) -> None:
    """It is valid from then on."""
    secret = make_secret()
    keyed.secrets.add(secret)
    assert keyed.ask("POST", CHAT, body=chat(), key=secret).status == 401
    keyed.write_keys(f"new:{secret}")
    reload(keyed)
    # Asking with it meanwhile would be guessing.
    until(lambda: keyed.health()["authentication"]["keys"] == 2, "the key is known")
    assert keyed.ask("POST", CHAT, body=chat(), key=secret).status == 200
    keyed.write_keys()
    by_request(keyed)


def test_a_key_that_expires(keyed: Gateway, engine: ScriptedEngine) -> None:
    """Its stream ends at that moment, without a reload."""
    secret = make_secret()
    keyed.secrets.add(secret)
    expires = datetime.fromtimestamp(time() + 1.2, UTC).isoformat()
    keyed.write_keys(f"brief:{secret}::{expires}")
    by_request(keyed)
    with streaming(keyed, engine, secret) as client:
        stream = Stream.of(client.rest())
    assert stream.events[0] == {}
    assert stream.error["code"] == "invalid_api_key"
    refused = keyed.ask("POST", CHAT, body=chat(), key=secret)
    assert refused.status == 401
    assert "expired" in refused.error["message"]
    keyed.write_keys()
    by_request(keyed)


def test_a_file_that_cannot_be_read(keyed: Gateway, key: str) -> None:
    """500, and the old keys stay in force."""
    kept = keyed.key_file.read_bytes()
    keyed.key_file.unlink()
    keyed.key_file.mkdir()
    try:
        answer = keyed.ask("POST", "/reload", body=b"")
        assert answer.status == 500
        assert answer.error["code"] == "reload_failed"
        keyed.signal(signal.SIGHUP)
        assert keyed.ask("POST", CHAT, body=chat(), key=key).status == 200
    finally:
        keyed.key_file.rmdir()
        keyed.key_file.write_bytes(kept)


def test_bad_lines_are_left_out(keyed: Gateway, key: str) -> None:
    """They are named by their number, never by their secret; the others count."""
    bad = make_secret()
    keyed.secrets.add(bad)
    keyed.write_keys(f"added:{key}", f"bad id:{bad}", f"limited:{bad}:many", "# a comment")
    assert keyed.ask("POST", "/reload", body=b"").json["keys_loaded"] == 2
    keyed.printed(r"\b3\b.*")
    assert keyed.ask("POST", CHAT, body=chat(), key=key).status == 200
    assert keyed.ask("POST", CHAT, body=chat(), key=bad).status == 401


def test_no_keys_let_nobody_in(keyed: Gateway, key: str) -> None:
    """An empty file closes the door; with SIGHUP it can be opened again."""
    kept = keyed.key_file.read_bytes()
    keyed.key_file.write_bytes(b"# none\n")
    by_request(keyed)
    assert keyed.health()["authentication"] == {"enabled": True, "keys": 0}
    refused = keyed.ask("POST", CHAT, body=chat(), key=key)
    assert refused.status == 401
    keyed.key_file.write_bytes(kept)
    keyed.signal(signal.SIGHUP)
    until(lambda: keyed.ask("POST", CHAT, body=chat(), key=key).status == 200, "open again")
