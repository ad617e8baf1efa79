"""
Real child processes under a real reactor, in a process of its own that can be
killed.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.tiny_model import tiny_model

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0


class Gateway:
    """
    A process that supervises an engine.
    """

    def __init__(self, keys: Path, **spec: Any) -> None:
        self.keys = keys
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.engine.run_supervisor"),
                json.dumps({"keys": str(keys), **spec}),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.seen: list[dict[str, Any]] = []

    def when(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """
        The first report of which something is true.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seen.append(json.loads(line))
            if condition(self.seen[-1]):
                return self.seen[-1]
        pytest.fail(f"never seen, but: {self.seen}")

    def when_state(self, state: str) -> dict[str, Any]:
        return self.when(lambda report: report.get("state") == state)

    def converse(self) -> list[Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        answers: list[Any] = self.when(lambda report: "answers" in report)["answers"]
        return answers

    def stop(self) -> int:
        """
        End it in an orderly way.
        """
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        return self.process.wait(PATIENCE_SECONDS)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """
    Makes gateways, and ends them.
    """
    made: list[Gateway] = []

    def make(**spec: Any) -> Gateway:
        keys = tmp_path / "keys"
        keys.mkdir(exist_ok=True)
        made.append(Gateway(keys, **spec))
        return made[-1]

    yield make
    for one in made:
        one.process.kill()
        one.process.wait()
        for stream in (one.process.stdin, one.process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def wait_gone(pid: int) -> None:
    """
    Return when a process is gone, also as a zombie.
    """
    give_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                # Its new parent is the container's first process, which may never reap.
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} is still there")


def script(path: Path, text: str) -> str:
    """
    Make a program.
    """
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_mock_engine(gateway: Callable[..., Gateway]) -> None:
    """
    It is started, answers with the key only, and is stopped; nothing is left.
    """
    one = gateway(kind="mock")
    pid = one.when_state("ready")["pid"]
    (key_file,) = one.keys.glob("*/api-key")
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = key_file.read_text().strip()
    engine = psutil.Process(pid)
    assert key not in " ".join(engine.cmdline())
    assert key not in str(engine.environ())
    assert os.getsid(pid) == pid
    chat, slots, refused = one.converse()
    assert chat[0] == slots[0] == 200
    assert "This is the" in chat[1]
    assert refused[0] == 401
    assert one.stop() == 0
    assert list(one.keys.iterdir()) == []
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("state", ["starting", "ready"])
def test_kill_9_leaves_no_engine(gateway: Callable[..., Gateway], state: str) -> None:
    """
    The kernel ends the engine when the gateway is killed; the next gateway
    removes the key file that was left.
    """
    one = gateway(kind="mock", extra_args=["--load-seconds", "0"])
    pid = one.when(lambda report: report.get("state") == state and report["pid"])["pid"]
    one.process.send_signal(signal.SIGKILL)
    one.process.wait()
    wait_gone(pid)
    (left,) = one.keys.iterdir()
    other = gateway(kind="mock")
    other.when_state("ready")
    assert not left.exists()
    assert other.stop() == 0


def test_embedded_engine(
    gateway: Callable[..., Gateway], require: Callable[[object, str], None]
) -> None:
    """
    llama.cpp itself, with a model of a few hundred kilobytes.
    """
    require(find_spec("xllamacpp"), "xllamacpp is missing: pip install 'twisted-llama[embedded]'")
    one = gateway(
        kind="embedded", model_path=str(tiny_model()), ctx=256, ngl=0, extra_args=["-np", "2"]
    )
    assert one.when_state("ready")["slots"] == 2
    chat, slots, refused = one.converse()
    assert json.loads(chat[1])["usage"]["completion_tokens"] == 3
    assert len(json.loads(slots[1])) == 2
    assert refused[0] == 401
    assert one.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["--nonsense"], "unknown argument"), (["-m", "/nonexistent.gguf"], "bad model file")],
)
def test_embedded_engine_that_cannot_start(
    gateway: Callable[..., Gateway],
    require: Callable[[object, str], None],
    arguments: list[str],
    reason: str,
) -> None:
    """
    Its own words are understood.
    """
    require(find_spec("xllamacpp"), "xllamacpp is missing: pip install 'twisted-llama[embedded]'")
    one = gateway(
        kind="embedded", model_path=str(tiny_model()), ngl=0, max_restarts=0, extra_args=arguments
    )
    last_exit = one.when_state("failed")["last_exit"]
    assert reason in last_exit["reason"]
    assert last_exit["code"] == 1
    assert one.stop() == 0


def test_killed_engine_is_started_again(gateway: Callable[..., Gateway]) -> None:
    """
    With another process, and no zombie of the old one.
    """
    one = gateway(kind="mock")
    pid = one.when_state("ready")["pid"]
    os.kill(pid, signal.SIGKILL)
    backoff = one.when_state("backoff")
    assert backoff["last_exit"]["signal"] == "SIGKILL"
    assert not psutil.pid_exists(pid)
    again = one.when_state("ready")
    assert again["restarts"] == 1
    assert again["pid"] != pid
    assert one.stop() == 0


def test_script_around_the_engine(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    """
    What a script started is ended with it.
    """
    note = tmp_path / "pid"
    binary = script(
        tmp_path / "server",
        f'#!/bin/sh\n{sys.executable} -P -m twisted_llama.engine.mock "$@" &\n'
        f"echo $! > {note}.new; mv {note}.new {note}\nwait\n",
    )
    one = gateway(kind="llama-server", binary=binary, load_timeout=PATIENCE_SECONDS)
    one.when_state("ready")
    grandchild = int(note.read_text())
    assert one.stop() == 0
    wait_gone(grandchild)


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        (None, 0, "LLAMA_SERVER_BIN"),
        ("not a program\n", 0o755, "LLAMA_SERVER_BIN"),
        ("#!/bin/sh\nkill -ILL $$\n", 0o755, "illegal instruction"),
        ("#!/bin/sh\necho 'CUDA error: out of memory'; exit 1\n", 0o755, "out of memory"),
    ],
)
def test_programs_that_fail(
    gateway: Callable[..., Gateway], tmp_path: Path, text: str | None, mode: int, reason: str
) -> None:
    """
    Each in its own way, said in plain words.
    """
    path = tmp_path / "server"
    if text is not None:
        script(path, text)
    one = gateway(kind="llama-server", binary=str(path), max_restarts=0)
    assert reason in one.when_state("failed")["reason"]
    assert one.stop() == 0


def test_engine_in_public(gateway: Callable[..., Gateway]) -> None:
    """
    It is found out and stopped for good.
    """
    one = gateway(kind="mock", extra_args=["--host", "0.0.0.0"])
    assert "0.0.0.0" in one.when(lambda report: "fatal" in report)["fatal"]
    assert one.stop() == 0
    assert one.seen[-1].get("state") != "ready"


def test_engine_without_a_lock(gateway: Callable[..., Gateway]) -> None:
    """
    It is found out and stopped for good.
    """
    one = gateway(kind="mock", extra_args=["--api-key-file", "/dev/null"])
    assert "no key" in one.when(lambda report: "fatal" in report)["fatal"]
    assert one.stop() == 0
