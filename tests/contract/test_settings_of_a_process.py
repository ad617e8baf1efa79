"""
What a process makes of its environment and its command line.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.gateway.running import SCRIPTS, Gateway, clean_environment, make_secret, running
from tests.gateway.scripted_engine import ScriptedEngine
from tests.gateway.talking import CHAT, chat

MARKED = "marked-secret-of-the-backend"


def llama_gateway(
    directory: Path, *arguments: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    """
    Run the console script to its end.
    """
    return subprocess.run(
        [str(SCRIPTS / "llama-gateway"), *arguments],
        env={**clean_environment(), "DATA_DIR": str(directory), **settings},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refusal(directory: Path, *arguments: str, **settings: str) -> str:
    """
    Start a gateway that must not start.

    @return: the one line that says why.
    """
    done = llama_gateway(directory, "serve", *arguments, PORT="0", PORT_HEALTH="0", **settings)
    assert done.returncode == 1, done
    (line,) = (line for line in done.stderr.splitlines() if "FATAL" in line)
    return line


# -- sources


def shown(directory: Path, *arguments: str, **settings: str) -> dict[str, list[str]]:
    """
    What C{config show} prints: value and source by name.
    """
    done = llama_gateway(directory, "config", "show", *arguments, **settings)
    assert done.returncode == 0, done.stderr
    assert MARKED not in done.stdout + done.stderr
    rows = (re.split(r"\s{2,}", line, maxsplit=2) for line in done.stdout.splitlines())
    return {name: rest for name, *rest in rows}


def test_config_show_says_where_each_value_is_from(tmp_path: Path) -> None:
    """File, environment or default; the environment wins; the argument wins over the variable."""
    named, given = tmp_path / "named.yaml", tmp_path / "given.yaml"
    named.write_text("ctx: 1\n")
    given.write_text(f"ctx: 2048\nngl: 5\nbackend_api_key: {MARKED}\n")
    by_variable = shown(tmp_path, GATEWAY_CONFIG=str(named))
    assert by_variable["CTX"][0] == "1"
    rows = shown(tmp_path, "--config", str(given), GATEWAY_CONFIG=str(named), NGL="7")
    assert rows["CTX"] == ["2048", f"file {given}: ctx"]
    assert rows["NGL"] == ["7", "environment"]
    assert rows["THREADS"] == ["0", "default"]
    assert rows["HEALTH_TIMEOUT"] == ["2", "default"]
    assert rows["BACKEND_CONNECT_TIMEOUT"] == ["10", "default"]
    assert rows["MODELS_DIR"] == [f"{tmp_path}/models", "default"]
    assert rows["BACKEND_API_KEY"][1] == f"file {given}: backend_api_key"


def test_the_command_line_wins(tmp_path: Path) -> None:
    """--auth over AUTH in the environment and in the file."""
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    secret = make_secret()
    good.write_text(f"somebody:{secret}\n")
    bad.touch()
    config = tmp_path / "gateway.yaml"
    config.write_text(f"auth: keyfile:{bad}\nengine: mock\n")
    command = ("llama-gateway", "serve", "--auth", f"keyfile:{good}", "--config", str(config))
    gateway = Gateway(tmp_path, {"AUTH": f"keyfile:{bad}"}, command=command)
    with running(gateway):
        assert gateway.ask("POST", CHAT, body=chat(), key=secret).status == 200
        assert gateway.health()["authentication"]["keys"] == 1


@pytest.mark.parametrize("word", ["OFF", "0"])
def test_keys_are_off_by_every_word_for_it(tmp_path: Path, word: str) -> None:
    """And only by these."""
    assert shown(tmp_path, AUTH_ENABLED=word)["AUTH_ENABLED"][0] == "false"


@pytest.mark.parametrize("word", ["yes", "1"])
def test_keys_are_on_by_every_word_for_it(tmp_path: Path, word: str) -> None:
    """C{AUTH_ENABLED=1} too."""
    assert shown(tmp_path, AUTH_ENABLED=word)["AUTH_ENABLED"][0] == "true"


@pytest.mark.parametrize("word", ["flase", "2"])
def test_keys_are_never_off_by_a_typo(tmp_path: Path, word: str) -> None:
    """The start ends."""
    assert "AUTH_ENABLED" in refusal(tmp_path, ENGINE="mock", AUTH_ENABLED=word)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("MAX_CONCURRENT_REQUESTS", "0"),
        ("MAX_QUEUE_SIZE", "-1"),
        ("QUEUE_TIMEOUT", "soon"),
        ("EXTRA_ARGS", "-c 1 --host 0.0.0.0"),
        ("EXTRA_ARGS", "--api-key-file /x"),
        ("EXTRA_ARGS", "--api-key x"),
        ("EXTRA_ARGS", "'no end"),
        ("CORS_ORIGINS", "app.test"),
        ("GATEWAY_CONFIG", "/nowhere/gateway.yaml"),
    ],
)
def test_bad_values_end_the_start(tmp_path: Path, setting: str, value: str) -> None:
    """With a line that names the variable."""
    assert setting in refusal(tmp_path, ENGINE="mock", **{setting: value})


def test_a_model_that_is_not_in_its_directory(tmp_path: Path) -> None:
    """MODEL_NAME is looked for in MODELS_DIR, whose models are listed."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for name in ("one.gguf", "two.gguf", "readme.md"):
        (shelf / name).write_bytes(b"GGUF")
    said = refusal(tmp_path, ENGINE="embedded", MODELS_DIR=str(shelf), MODEL_NAME="three.gguf")
    assert "one.gguf, two.gguf" in said
    assert "three.gguf" in said
    assert "readme" not in said


def test_the_old_name_of_the_engines_port(tmp_path: Path, engine: ScriptedEngine) -> None:
    """BACKEND_PORT still works, and says what to write instead."""
    settings = {"ENGINE": "external", "BACKEND_PORT": engine.port}
    with running(Gateway(tmp_path, settings)) as gateway:
        assert gateway.ask("GET", "/v1/models").status == 200
        gateway.printed(r"BACKEND_PORT .*deprecated.*PORT_BACKEND")


# -- the console script


def test_exit_statuses(tmp_path: Path) -> None:
    """0 done, 1 refused with one line, 2 wrong usage."""
    keys = ("keys", "--file", str(tmp_path / "keys.txt"))
    runs = {
        ("version",): 0,
        (*keys, "generate", "--name", "a"): 1,
        (*keys, "remove", "--name", "nobody"): 1,
        (*keys, "generate", "--name", "b", "--expires", "soon"): 1,
        (*keys, "generate", "--name", "b", "--rate-limit", "many"): 1,
        ("config", "show", "--config", "/nowhere.yaml"): 1,
        ("keys", "explode"): 2,
        ("--no-such-option",): 2,
    }
    assert llama_gateway(tmp_path, *keys, "generate", "--name", "a").returncode == 0
    for arguments, status in runs.items():
        done = llama_gateway(tmp_path, *arguments)
        assert done.returncode == status, (arguments, done)
        if status == 1:
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_options_of_keys_on_either_side(tmp_path: Path) -> None:
    """Before and after the sub-command; comments stay, the file is private, no secret is shown."""
    path = tmp_path / "keys.txt"
    path.write_text("# who may\n\n")
    path.chmod(0o644)
    before = ("--file", str(path), "--name", "laptop", "--rate-limit", "7", "--quiet")
    first = llama_gateway(tmp_path, "keys", *before, "generate").stdout
    after = ("--expires", "30d", "--name", "phone", "--quiet", "--file", str(path))
    second = llama_gateway(tmp_path, "keys", "generate", *after).stdout
    for secret in (first, second):
        assert re.fullmatch(r"sk-[A-Za-z0-9_-]{43}\n", secret)
    listed = llama_gateway(tmp_path, "keys", "list", "--file", str(path)).stdout
    assert re.search(r"^laptop +7 ", listed, re.MULTILINE)
    assert re.search(r"^phone .*active", listed, re.MULTILINE)
    assert listed.splitlines()[-1] == "2 key(s) configured"
    assert first.strip() not in listed
    rotated = llama_gateway(
        tmp_path, "keys", "--quiet", "rotate", "--name", "laptop", "--file", str(path)
    ).stdout
    assert rotated != first
    lines = path.read_text().splitlines()
    assert lines[:3] == ["# who may", "", f"laptop:{rotated.strip()}:7"]
    assert path.stat().st_mode & 0o777 == 0o600
