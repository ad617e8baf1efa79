"""
How a gateway starts, and what may happen to it while it runs.
"""

from __future__ import annotations

import socket

import pytest
from twisted.internet.defer import Deferred

from tests.api.ends import OK
from tests.assembly.conftest import MakeLife
from tests.assembly.life import SECRET, Life
from twisted_llama.engine.status import EngineStatus
from twisted_llama.errors import StartupError


def test_ports_open_first(make_life: MakeLife) -> None:
    """
    The health port before the gateway's, both before the engine is started.
    """
    life = make_life(port=8000, port_health=8001)
    life.service.privilegedStartService()
    assert [server[0] for server in life.reactor.tcpServers] == [8001, 8000]
    assert life.engine.calls == []
    life.service.startService()
    assert life.engine.calls == ["start"]
    assert "has started" in life.log


def test_the_engines_port_is_taken(make_life: MakeLife) -> None:
    """
    The start ends with one line, before the gateway's own port opens.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        life = make_life(engine="mock", port_backend=taken.getsockname()[1])
        with pytest.raises(StartupError, match=r"^PORT_BACKEND \d+ is taken"):
            life.service.privilegedStartService()
    assert life.listens == [True, False]


def test_no_key_file_yet(make_life: MakeLife) -> None:
    """
    The gateway starts, refuses everybody, and takes keys when they come.
    """
    life = make_life()
    life.key_file.unlink()
    life.start()
    client = life.client().ask(b"GET", b"/v1/models", key=SECRET)
    assert client.answer.status == 401
    life.write_keys(b"user:" + SECRET)
    life.reactor.pump([1.0] * 6)
    client.ask(b"GET", b"/v1/models", key=SECRET)
    assert len(life.engine_ends) == 1


def test_a_key_file_that_cannot_be_read(make_life: MakeLife) -> None:
    """
    That is said aloud, and every request refused.
    """
    life = make_life()
    life.key_file.write_bytes(b"\xff\xfe")
    life.start()
    assert "Until then every request is refused" in life.log
    assert life.client().ask(key=SECRET).answer.status == 401


def test_keys_off(make_life: MakeLife) -> None:
    """
    That is said aloud too.
    """
    life = make_life(auth_enabled="false")
    life.start()
    assert "everybody who reaches the port may use the engine" in life.log


def test_warnings_and_the_boot_log(make_life: MakeLife) -> None:
    """
    What settings were found, and what to look at.
    """
    life = make_life(backend_port="8080")
    life.start()
    assert "BACKEND_PORT" in life.log
    assert "requests per minute and key" in life.log


def test_a_boot_log_that_fails(make_life: MakeLife, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Costs nothing but itself.
    """

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("twisted_llama.assembly.gateway.publish_boot_report", fail)
    life = make_life()
    life.start()
    assert "The boot log could not be written" in life.log
    assert life.engine.calls == ["start"]


def test_an_end_before_the_boot_log(make_life: MakeLife, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nobody waits for a GPU that does not answer.
    """

    async def describe_gpus(*_: object) -> None:
        await Deferred()

    monkeypatch.setattr("twisted_llama.assembly.gateway.describe_gpus", describe_gpus)
    life = make_life()
    life.start()
    life.stop()
    assert "could not be written" not in life.log


def test_the_file_of_keys_changes(make_life: MakeLife) -> None:
    """
    Within five seconds; streams of a key that is gone end.
    """
    life = make_life()
    life.start()
    stream = life.stream()
    life.write_keys(b"other:sk-quite-another-key")
    life.reactor.pump([1.0] * 6)
    life.settle()
    assert stream.closed
    assert b"invalid_api_key" in stream.received
    assert b"[DONE]" not in stream.received


def hang_up(life: Life) -> None:
    """
    SIGHUP, as the handler passes it on.
    """
    life.service._reload_asked()
    life.settle()


def test_sighup(make_life: MakeLife) -> None:
    """
    Keys at once, and another try for an engine that has failed; only for one.
    """
    life = make_life()
    life.start()
    stream = life.stream()
    hang_up(life)
    assert not stream.closed
    assert life.engine.calls == ["start"]
    assert "Reloaded: 1 keys" in life.log
    life.write_keys(b"other:sk-quite-another-key")
    life.engine.status = EngineStatus("failed")
    hang_up(life)
    assert stream.closed
    assert life.engine.calls == ["start", "retry"]


def test_sighup_and_a_bad_file(make_life: MakeLife) -> None:
    """
    The old keys stay, and the engine is tried all the same.
    """
    life = make_life()
    life.start()
    stream = life.stream()
    life.key_file.unlink()
    life.engine.status = EngineStatus("failed")
    hang_up(life)
    assert not stream.closed
    assert life.engine.calls == ["start", "retry"]
    assert "The keys in force stay" in life.log


def test_sighup_with_keys_off(make_life: MakeLife) -> None:
    """
    There is nothing to read.
    """
    life = make_life(auth_enabled="false")
    life.start()
    hang_up(life)
    assert "Reloaded" not in life.log


def test_the_page_tries_a_failed_engine_again(make_life: MakeLife) -> None:
    """
    C{POST /reload} is a SIGHUP for those who have no shell.
    """
    life = make_life()
    life.start()
    life.engine.status = EngineStatus("failed")
    client = life.client().ask(b"POST", b"/reload", key=SECRET)
    assert client.answer.json == {"status": "ok", "keys_loaded": 1}
    assert life.engine.calls == ["start", "retry"]


def test_a_request_while_it_runs(make_life: MakeLife) -> None:
    """
    All of it together.
    """
    life = make_life()
    life.start()
    client = life.client().ask(b"GET", b"/v1/models", key=SECRET)
    life.engine_ends[0].answer(OK)
    assert client.answer.status == 200
    client.leave()
