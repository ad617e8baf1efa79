"""
How a gateway starts, or says why it does not.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.gateway.running import (
    ROOT,
    SCRIPTS,
    Gateway,
    clean_environment,
    make_secret,
    running,
    until,
)
from tests.gateway.talking import CHAT, ask, chat
from tests.tiny_model import tiny_model


def refused(directory: Path, settings: Mapping[str, object], *arguments: str) -> str:
    """
    Start a gateway that must not start.

    @return: what it printed, after its name for such lines.
    """
    command = ("twistd", "-n", "--pidfile=", "llama-gateway", *arguments)
    gateway = Gateway(directory, {"ENGINE": "mock", **settings}, command=command)
    try:
        assert gateway.wait_ended() == 1, gateway.output
    finally:
        gateway.end(1)
    (line,) = re.findall(r"FATAL: (.*(?:\n(?!\d{4}-).*)*)", gateway.output)
    return str(line)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    """The path, and the models that are."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "here.gguf").write_bytes(b"GGUF")
    (models / "notes.txt").touch()
    said = refused(tmp_path, {"ENGINE": "embedded", "MODEL_PATH": models / "gone.gguf"})
    assert "gone.gguf" in said
    assert "here.gguf" in said
    assert "notes" not in said


def test_a_model_that_is_none(tmp_path: Path) -> None:
    """Not GGUF, whatever its name says."""
    model = tmp_path / "page.gguf"
    model.write_text("<!doctype html>")
    said = refused(tmp_path, {"ENGINE": "embedded", "MODEL_PATH": model})
    assert "GGUF" in said
    assert "page.gguf" in said


def test_no_model_named(tmp_path: Path) -> None:
    """Both ways to name one."""
    said = refused(tmp_path, {"ENGINE": "embedded"})
    assert "MODEL_PATH" in said
    assert "MODEL_NAME" in said


def test_a_binary_that_is_not_there(tmp_path: Path) -> None:
    """The setting, and what to do."""
    said = refused(tmp_path, {"ENGINE": "auto", "LLAMA_SERVER_BIN": "/nowhere/llama-server"})
    assert "LLAMA_SERVER_BIN=/nowhere/llama-server" in said


def test_ports_that_are_taken(mocked: Gateway, tmp_path: Path) -> None:
    """Each is named with its setting; who has them does not notice."""
    taken = {
        "PORT": mocked.port,
        "PORT_HEALTH": mocked.health_port,
        "PORT_BACKEND": mocked.engine_address()[0],
    }
    for setting, port in taken.items():
        directory = tmp_path / setting
        directory.mkdir()
        said = refused(directory, {setting: port})
        assert re.search(rf"\b{setting}\b", said)
        assert str(port) in said
        assert "\n" not in said
    assert mocked.ask("POST", CHAT, body=chat()).status == 200
    assert ask(mocked.health_port, "GET", "/").status == 200


def test_all_bad_settings_together(tmp_path: Path) -> None:
    """Each with its name and where it came from."""
    config = tmp_path / "gateway.yaml"
    config.write_text("queue_timeout: soon\nno_such_setting: 1\n")
    settings = {
        "PORT": "many",
        "AUTH_ENABLED": "flase",
        "MAX_CONCURRENT_REQUESTS": "0",
        "EXTRA_ARGS": "--host 0.0.0.0",
        "CORS_ORIGINS": "app.test",
    }
    said = refused(tmp_path, settings, "--config", str(config))
    for name in ("queue_timeout", "no_such_setting", *settings):
        assert name.lower() in said.lower()
    assert "gateway.yaml" in said


@pytest.mark.parametrize(("settings", "status"), [({}, 0), ({"CTX": "-1"}, 1)])
def test_check(tmp_path: Path, settings: dict[str, object], status: int) -> None:
    """Says whether the settings are right, and starts nothing."""
    gateway = Gateway(
        tmp_path,
        {"ENGINE": "mock", **settings},
        command=("twistd", "-n", "--pidfile=", "llama-gateway", "--check"),
    )
    gateway.wait_ended()
    gateway.end(status)
    assert "listening" not in gateway.output
    assert ("CTX" in gateway.output) == bool(status)


def test_an_external_engine_that_is_not_there(tmp_path: Path) -> None:
    """The gateway starts; /ready says no, and requests are refused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings = {"ENGINE": "external", "PORT_BACKEND": free.getsockname()[1]}
        with running(Gateway(tmp_path, settings), ready=False) as gateway:
            assert gateway.ask("GET", "/ready").status == 503
            answer = gateway.ask("POST", CHAT, body=chat())
            assert answer.status == 502
            assert answer.error["code"] == "engine_unavailable"


def test_settings_from_a_file(tmp_path: Path) -> None:
    """The environment wins over it, and --auth over both."""
    config = tmp_path / "gateway.yaml"
    config.write_text(
        "engine: mock\nmodel_name: from-file.gguf\nmax_concurrent_requests: 3\nmax_queue_size: 7\n"
    )
    keys = tmp_path / "api_keys:2.txt"
    secret = make_secret()
    keys.write_text(f"elsewhere:{secret}\n")
    gateway = Gateway(
        tmp_path,
        {"MAX_QUEUE_SIZE": 9},
        command=(
            *("twistd", "-n", "--pidfile=", "llama-gateway"),
            *("--config", str(config), "--auth", f"keyfile:{keys}"),
        ),
    )
    with running(gateway):
        queue = gateway.health()["queue"]
        assert (queue["max_concurrent"], queue["max_queue_size"]) == (3, 9)
        assert gateway.health()["engine"]["model"] == "from-file.gguf"
        assert gateway.ask("POST", CHAT, body=chat(), key=secret).status == 200
        assert gateway.ask("POST", CHAT, body=chat()).status == 401


PLUGIN = """
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.strcred import ICheckerFactory
from twisted.internet.defer import fail, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer
from hashlib import sha256
from twisted_llama.auth.credentials import IApiKey


@implementer(ICredentialsChecker)
class Directory:
    credentialInterfaces = (IApiKey,)

    def __init__(self, secret):
        self.digest = sha256(secret.encode()).digest()

    def requestAvatarId(self, credentials):
        if credentials.digest == self.digest:
            return succeed(b"somebody")
        return fail(UnauthorizedLogin())


@implementer(ICheckerFactory, IPlugin)
class Factory:
    authType = "directory"
    authHelp = "Asks the directory."
    argStringFormat = "The one secret."
    credentialInterfaces = (IApiKey,)

    def generateChecker(self, argstring):
        return Directory(argstring)


directory = Factory()
"""


def test_a_checker_of_another_package(tmp_path: Path) -> None:
    """It is found by its plugin, and its users have names and limits like ours."""
    plugins = tmp_path / "package" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "directory_auth.py").write_text(PLUGIN)
    secret = make_secret()
    gateway = Gateway(
        tmp_path,
        {
            "ENGINE": "mock",
            "PYTHONPATH": str(tmp_path / "package"),
            "MAX_REQUESTS_PER_MINUTE": 2,
        },
        {},
        command=(
            *("twistd", "-n", "--pidfile=", "llama-gateway"),
            *("--auth", f"directory:{secret}"),
        ),
    )
    gateway.secrets.add(secret)
    with running(gateway):
        statuses = [
            gateway.ask("POST", CHAT, body=chat(), key=key).status
            for key in (secret, "sk-some-other-key-here", secret, secret)
        ]
        assert statuses == [200, 401, 200, 429]
        lines = until(gateway.access_lines, "the access log")
        assert " | somebody | " in lines[0]


def llama_gateway(directory: Path, *arguments: str, **settings: str) -> str:
    """
    Run the console script.

    @return: what it printed.
    """
    done = subprocess.run(
        [str(SCRIPTS / "llama-gateway"), *arguments],
        env={**clean_environment(), "DATA_DIR": str(directory), **settings},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_serve_with_a_generated_key(tmp_path: Path) -> None:
    """Both commands of the console script that a first day needs."""
    assert re.search(r"\d+\.\d+", llama_gateway(tmp_path, "version"))
    secret = llama_gateway(tmp_path, "keys", "generate", "--name", "laptop", "--quiet").strip()
    assert re.fullmatch(r"sk-[A-Za-z0-9_-]{43}", secret)
    line = (tmp_path / "api_keys.txt").read_text()
    assert line.startswith("laptop:")

    class AsGenerated(Gateway):
        def write_keys(self, *lines: str) -> None:
            return

    gateway = AsGenerated(
        tmp_path,
        {"ENGINE": "mock"},
        {"laptop": secret},
        command=("llama-gateway", "serve"),
    )
    with running(gateway):
        assert gateway.ask("POST", CHAT, body=chat()).status == 200
        assert gateway.ask("POST", CHAT, body=chat(), key="sk-not-this-one-at-all").status == 401


def test_config_show_hides_secrets(tmp_path: Path) -> None:
    """All settings, where each came from, and no secret."""
    shown = llama_gateway(
        tmp_path,
        "config",
        "show",
        ENGINE="external",
        PORT_BACKEND="9999",
        BACKEND_API_KEY="very-secret-backend-key",
        REDIS_URL="redis://:redis-password@127.0.0.1/0",
    )
    assert "9999" in shown
    assert "very-secret" not in shown
    assert "redis-password" not in shown


def test_the_tac_file(tmp_path: Path) -> None:
    """C{twistd -ny} runs it like the plugin."""
    tac = ROOT / "tac" / "llama_gateway.tac"
    command = ("twistd", "--pidfile=", "-ny", str(tac))
    with running(Gateway(tmp_path, {"ENGINE": "mock"}, command=command)) as gateway:
        assert gateway.ask("POST", CHAT, body=chat()).status == 200


def test_debug_shell(tmp_path: Path) -> None:
    """The health port answers, the engine is not started, and secrets are masked."""
    settings = {
        "ENGINE": "embedded",
        "MODEL_PATH": tiny_model(),
        "DEBUG_SHELL": "true",
        "HF_TOKEN": "hf_marked_secret_value",
    }
    with running(Gateway(tmp_path, settings), ready=False) as gateway:
        gateway.secrets.add("hf_marked_secret_value")
        gateway.printed("waiting")
        assert ask(gateway.health_port, "GET", "/").status == 200
        assert "HF_TOKEN=" in gateway.output


def test_logs_that_cannot_be_written(tmp_path: Path) -> None:
    """One warning, and service as usual."""
    blocked = tmp_path / "blocked"
    blocked.touch()
    with running(Gateway(tmp_path, {"ENGINE": "mock", "LOG_DIR": blocked})) as gateway:
        assert gateway.ask("POST", CHAT, body=chat()).status == 200
        assert gateway.output.count("Logs go to stderr only") == 1
