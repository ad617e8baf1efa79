"""
Which engine there is, what it is told, and what is said of one that somebody else runs.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import psutil
import pytest

from tests.contract.conftest import BACKEND_KEY
from tests.gateway.running import Gateway, running, until
from tests.gateway.scripted_engine import Asked, ScriptedEngine, say
from tests.gateway.talking import CHAT, Client, chat, fresh_id, named
from tests.tiny_model import tiny_model


def test_the_engines_key_is_in_a_private_file_alone(real: Gateway) -> None:
    """Mode 600 in a directory of mode 700; not in any command line or environment."""
    _, key = real.engine_address()
    engine = psutil.Process(real.engine_pid())
    argv = engine.cmdline()
    path = Path(argv[argv.index("--api-key-file") + 1])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.is_relative_to("/dev/shm") or not os.access("/dev/shm", os.W_OK)
    for process in (psutil.Process(real.process.pid), engine, *engine.children(recursive=True)):
        assert key not in " ".join(process.cmdline())
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert key.encode() not in environment
    secrets = [secret.encode() for secret in real.keys.values()]
    assert not any(secret in Path(f"/proc/{engine.pid}/environ").read_bytes() for secret in secrets)


def test_the_engines_command_line(real: Gateway) -> None:
    """The model, the loopback address, and the settings."""
    argv = psutil.Process(real.engine_pid()).cmdline()
    argv = argv[argv.index("twisted_llama.engine.embedded") + 1 :]
    told = {name: argv[argv.index(name) + 1] for name in ("-m", "--host", "-c", "-ngl", "-t")}
    assert told == {
        "-m": str(tiny_model()),
        "--host": "127.0.0.1",
        "-c": "8192",
        "-ngl": "0",
        "-t": "1",
    }


def test_the_engine_listens_on_loopback_alone(real: Gateway) -> None:
    """And wants its key where it matters."""
    port, key = real.engine_address()
    engine = psutil.Process(real.engine_pid())
    listening = {c.laddr.ip for c in engine.net_connections("inet") if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    with Client.connected(port) as client:
        client.post(CHAT, chat(), None, "Connection: close\r\n")
        assert client.read().status == 401
    with Client.connected(port) as client:
        client.post(CHAT, chat(), key, "Connection: close\r\n")
        assert client.read().status == 200


def program(path: Path) -> Path:
    """
    Make a llama-server that is the mock engine.
    """
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m twisted_llama.engine.mock "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("named_by", ["LLAMA_SERVER_BIN", "PATH"])
def test_where_auto_looks_for_an_engine(tmp_path: Path, named_by: str) -> None:
    """LLAMA_SERVER_BIN first, and llama-server on PATH before the embedded engine."""
    on_path = program(tmp_path / "bin" / "llama-server")
    settings: dict[str, object] = {
        "PATH": f"{on_path.parent}:{os.environ['PATH']}",
        "MODEL_PATH": tiny_model(),
        "ENGINE": "auto",
    }
    wanted = on_path
    if named_by == "LLAMA_SERVER_BIN":
        wanted = program(tmp_path / "named" / "my-server")
        settings[named_by] = wanted
    with running(Gateway(tmp_path, settings)) as gateway:
        assert gateway.ask("POST", CHAT, body=chat()).status == 200
        latest = gateway.data_dir / "logs" / "_boot" / "latest.txt"
        until(latest.exists, "the boot log")
        assert f"llama-server {wanted}\n" in latest.read_text()


def test_mock_backend_is_the_mock_engine(tmp_path: Path) -> None:
    """The seeds' name for it, in any spelling of true."""
    with running(Gateway(tmp_path, {"MOCK_BACKEND": "YES"})) as gateway:
        assert gateway.ask("POST", CHAT, body=chat()).status == 200
        assert gateway.ask("POST", CHAT, body=chat(stream=True)).body.endswith(b"[DONE]\n\n")


class AilingEngine(ScriptedEngine):
    """
    One whose C{/health} says what a test wants.
    """

    health = "500 Internal Server Error"

    def answer(self, asked: Asked) -> bool:
        """
        Answer a request.
        """
        if asked.line.startswith("GET /health "):
            return say(asked, b"{}", status=self.health)
        return super().answer(asked)


def test_an_external_engine_that_says_it_is_ill(tmp_path: Path) -> None:
    """/ready says no and when to come again; requests are relayed all the same."""
    engine = AilingEngine()
    settings = {"ENGINE": "external", "PORT_BACKEND": engine.port}
    try:
        with running(Gateway(tmp_path, settings), ready=False) as gateway:
            until(lambda: gateway.health()["engine"]["state"] == "failed", "it is asked")
            refused = gateway.ask("GET", "/ready", key=None)
            assert refused.status == 503
            assert int(refused["Retry-After"] or 0) >= 1
            assert refused.json["status"] == "degraded"
            request_id = fresh_id("relayed")
            answer = gateway.ask("POST", CHAT, body=chat(), headers=named(request_id))
            assert answer.status == 200
            (sent,) = (one for one in engine.asked() if one.id == request_id)
            assert sent.values("Authorization") == []
            engine.health = "200 OK"
            assert gateway.ask("POST", "/reload", body=b"").status == 200
            gateway.wait_ready()
            assert gateway.health()["status"] == "ok"
    finally:
        engine.close()


def test_the_key_of_an_external_engine(front: Gateway, engine: ScriptedEngine) -> None:
    """BACKEND_API_KEY in the place of the client's."""
    request_id = fresh_id("key")
    front.ask("POST", CHAT, body=chat(), headers={**named(request_id), "X-Api-Key": "client's"})
    asked = engine.wait(request_id)
    assert asked.values("Authorization") == [f"Bearer {BACKEND_KEY}"]
    assert asked.values("X-Api-Key") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_end_it_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    """What runs is finished, the engine and the key file are gone, the status is 0."""
    settings = {"ENGINE": "mock", "EXTRA_ARGS": "--delay-ms 20 --tokens 40"}
    with running(Gateway(tmp_path, settings)) as gateway:
        engine = psutil.Process(gateway.engine_pid())
        with Client.connected(gateway.port) as client:
            client.post(CHAT, chat(40, stream=True), gateway.key)
            received = client.hear(2)
            gateway.signal(number)
            received += client.rest()
        assert received.endswith(b"0\r\n\r\n")
        assert b"[DONE]" in received
        assert gateway.wait_ended() == 0
        assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE


def test_starting_twice_leaves_the_first_alone(tmp_path: Path) -> None:
    """The second one says which port is taken, and nothing of the first's is touched."""
    directories = [tmp_path / "first", tmp_path / "second"]
    for directory in directories:
        directory.mkdir()
    with running(Gateway(directories[0], {"ENGINE": "mock"})) as first:
        engine, started = first.engine_pid(), first.health()["engine"]["ready_since"]
        same = {"DATA_DIR": first.data_dir, "ENGINE": "mock", "PORT": first.port}
        second = Gateway(directories[1], same)
        try:
            assert second.wait_ended() == 1
        finally:
            second.end(1)
        (line,) = (line for line in second.output.splitlines() if "FATAL" in line)
        assert "PORT" in line
        assert str(first.port) in line
        assert first.engine_pid() == engine
        assert first.health()["engine"]["ready_since"] == started
        assert first.ask("POST", CHAT, body=chat()).status == 200
