"""
Engines that die, and gateways that are killed.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.gateway.running import Gateway, key_files_of, processes_of, running, until
from tests.gateway.talking import CHAT, Answer, Client, Stream, ask, chat, fresh_id, named
from tests.tiny_model import tiny_model

SLOW_MOCK = {"ENGINE": "mock", "EXTRA_ARGS": "--delay-ms 20 --tokens 500"}

#: What the dynamic linker says.
NO_LIBRARY = (
    "llama-server: error while loading shared libraries: libcudart.so.12: "
    "cannot open shared object file: No such file or directory"
)


def state(gateway: Gateway) -> str:
    """
    The engine's state.
    """
    return str(gateway.health()["engine"]["state"])


def test_an_engine_killed_in_a_stream(tmp_path: Path) -> None:
    """The client is told, those who come meanwhile wait, and nobody has to help."""
    with running(Gateway(tmp_path, SLOW_MOCK)) as gateway:
        pid = gateway.engine_pid()
        cut, waited = fresh_id("cut"), fresh_id("waited")
        with Client.connected(gateway.port) as client:
            client.post(CHAT, chat(500, stream=True), gateway.key, f"X-Request-Id: {cut}\r\n")
            received = client.hear(4)
            os.kill(pid, signal.SIGKILL)
            received += client.rest()
        assert Stream.of(received).error["code"] == "engine_unavailable"
        until(lambda: state(gateway) != "ready", "the crash is noticed")
        assert gateway.ask("GET", "/ready").status == 503
        answer = gateway.ask("POST", CHAT, body=chat(), headers=named(waited))
        assert answer.status == 200
        engine = gateway.wait_ready().health()["engine"]
        assert engine["last_exit"]["signal"] == "SIGKILL"
        assert engine["last_exit"]["reason"]
        assert engine["restarts"] == 1
        assert engine["pid"] != pid
        assert gateway.access_status(cut) == 502
        assert gateway.access_status(waited) == 200


@pytest.fixture
def breakable(tmp_path: Path) -> tuple[Path, Path]:
    """
    A llama-server that dies at once unless a file is there.

    @return: the program and the file.
    """
    program, cure = tmp_path / "llama-server", tmp_path / "cured"
    program.write_text(
        "#!/bin/sh\n"
        f"[ -e {cure} ] || {{ echo '{NO_LIBRARY}' >&2; exit 127; }}\n"
        f'exec {sys.executable} -m twisted_llama.engine.mock "$@"\n'
    )
    program.chmod(0o755)
    return program, cure


def breaking(program: Path, max_restarts: int) -> dict[str, object]:
    """
    The settings of a gateway with that engine.
    """
    return {
        "ENGINE": "llama-server",
        "LLAMA_SERVER_BIN": program,
        "MODEL_PATH": tiny_model(),
        "MAX_RESTARTS": max_restarts,
    }


def failed(gateway: Gateway) -> dict[str, Any]:
    """
    Wait until the engine is given up.

    @return: what /health says of it then.
    """
    until(lambda: state(gateway) == "failed", "given up", 45)
    health = gateway.health()
    assert health["status"] == "degraded"
    return dict(health["engine"])


@pytest.mark.slow
def test_five_crashes_in_a_row(breakable: tuple[Path, Path], tmp_path: Path) -> None:
    """The gateway stays, says why, and SIGHUP brings the engine back when the cause is gone."""
    program, cure = breakable
    directory = tmp_path / "gateway"
    directory.mkdir()
    with running(Gateway(directory, breaking(program, 4)), ready=False) as gateway:
        waiting: list[Answer] = []
        patient = threading.Thread(
            target=lambda: waiting.append(gateway.ask("POST", CHAT, body=chat()))
        )
        patient.start()
        engine = failed(gateway)
        patient.join(10)
        assert engine["restarts"] == 4
        assert engine["last_exit"]["code"] == 127
        assert "librar" in engine["last_exit"]["reason"]
        refused = gateway.ask("POST", CHAT, body=chat())
        for answer in (*waiting, refused):
            assert answer.status == 502
            assert answer.error["code"] == "engine_unavailable"
        assert len(waiting) == 1
        ready = gateway.ask("GET", "/ready")
        assert ready.status == 503
        assert ready["Retry-After"]
        assert ask(gateway.health_port, "GET", "/").status == 200
        cure.touch()
        gateway.signal(signal.SIGHUP)
        gateway.wait_ready()
        assert gateway.ask("POST", CHAT, body=chat()).status == 200


def test_an_engine_that_is_never_restarted(breakable: tuple[Path, Path], tmp_path: Path) -> None:
    """Given up at the first crash; POST /reload tries again, once more in vain."""
    program, cure = breakable
    directory = tmp_path / "gateway"
    directory.mkdir()
    with running(Gateway(directory, breaking(program, 0)), ready=False) as gateway:
        failed(gateway)
        assert gateway.ask("POST", "/reload", body=b"").json == {"status": "ok", "keys_loaded": 1}
        until(lambda: gateway.output.count("Engine is failed") == 2, "given up again")
        cure.touch()
        assert gateway.ask("POST", "/reload", body=b"").status == 200
        gateway.wait_ready()
        os.kill(gateway.engine_pid(), signal.SIGSEGV)
        assert failed(gateway)["last_exit"]["signal"] == "SIGSEGV"


def test_a_binary_that_this_processor_cannot_run(tmp_path: Path) -> None:
    """The reason is said plainly, in /health and in the log."""
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\nkill -ILL $$\n")
    program.chmod(0o755)
    directory = tmp_path / "gateway"
    directory.mkdir()
    with running(Gateway(directory, breaking(program, 0)), ready=False) as gateway:
        last_exit = failed(gateway)["last_exit"]
        assert last_exit["signal"] == "SIGILL"
        assert "instruction" in last_exit["reason"]
        gateway.printed(re.escape(last_exit["reason"]))


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    """It begins like a GGUF file and is none."""
    model = tmp_path / "broken.gguf"
    model.write_bytes(tiny_model().read_bytes()[:5000])
    settings = {"ENGINE": "embedded", "MODEL_PATH": model, "MAX_RESTARTS": 0, "NGL": 0}
    directory = tmp_path / "gateway"
    directory.mkdir()
    with running(Gateway(directory, settings), ready=False) as gateway:
        assert "model" in failed(gateway)["last_exit"]["reason"].lower()


def test_a_gateway_that_is_killed_leaves_no_engine(tmp_path: Path) -> None:
    """Not even in the middle of a stream; the next one removes its key file."""
    gateway = Gateway(tmp_path, SLOW_MOCK)
    try:
        gateway.wait_ready()
        engine = psutil.Process(gateway.engine_pid())
        with Client.connected(gateway.port) as client:
            client.post(CHAT, chat(500, stream=True), gateway.key)
            client.hear(3)
            gateway.signal(signal.SIGKILL)
            assert gateway.wait_ended() == -signal.SIGKILL
            until(lambda: not engine.is_running(), "the engine is gone", 5)
        assert not processes_of(gateway.process.pid)
        next_directory = tmp_path / "next"
        next_directory.mkdir()
        with running(Gateway(next_directory, {"ENGINE": "mock"})):
            assert not key_files_of(gateway.process.pid, gateway.temporary)
    finally:
        gateway.destroy()


def test_an_engine_killed_with_the_gateway_stopping(tmp_path: Path) -> None:
    """An engine that does not end by itself is made to."""
    with running(Gateway(tmp_path, SLOW_MOCK)) as gateway:
        engine = psutil.Process(gateway.engine_pid())
        os.kill(engine.pid, signal.SIGSTOP)
        gateway.signal(signal.SIGTERM)
        gateway.printed("SIGTERM")
        gateway.signal(signal.SIGTERM)
        assert gateway.wait_ended(8) == 0
        assert not engine.is_running()


def test_while_the_model_loads(tmp_path: Path) -> None:
    """All ports answer, requests wait, and who may not wait is told when to ask again."""
    settings = {
        "ENGINE": "mock",
        "EXTRA_ARGS": "--load-seconds 1.5",
        "MAX_QUEUE_SIZE": 1,
        "HOST": "0.0.0.0",
    }
    with running(Gateway(tmp_path, settings), ready=False) as gateway:
        assert ask(gateway.health_port, "GET", "/any?thing").status == 200
        assert gateway.ask("GET", "/ping").status == 200
        health = gateway.health()
        assert health["status"] == "loading"
        assert health["engine"]["state"] in ("starting", "loading")
        ready = gateway.ask("GET", "/ready")
        assert ready.status == 503
        assert int(ready["Retry-After"] or 0) >= 1
        with Client.connected(gateway.port) as client:
            client.post(CHAT, chat(), gateway.key)
            gateway.wait_queue(0, 1)
            refused = gateway.ask("POST", CHAT, body=chat())
            assert refused.status == 503
            assert refused.error["code"] == "model_loading"
            assert int(refused["Retry-After"] or 0) >= 1
            assert client.read().status == 200
        assert gateway.health()["status"] == "ok"
