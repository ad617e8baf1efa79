"""
Tests of the names, the number and the places of log files.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, globalLogPublisher

from twisted_llama.telemetry.log_files import (
    LogDirectory,
    engine_directory,
    point_latest,
    prune,
    sanitised_name,
    stamped_name,
)

NOW = 1_700_000_000.0


@given(st.text())
def test_names_are_one_harmless_segment(name: str) -> None:
    """No setting leads out of the directory or hides a file."""
    assert re.fullmatch(r"(?!\.)[A-Za-z0-9._-]{1,100}", sanitised_name(name, "x"))


def test_names() -> None:
    """As the contract has them."""
    assert engine_directory("llama", "") == "llama"
    assert engine_directory("llama", "big/one") == "llama-big_one"
    assert engine_directory("..", "") == "llama"
    assert engine_directory("../up", "") == "_up"
    assert stamped_name("boot", "pod 1", NOW) == "20231114_221320_boot_pod_1.log"


def make_directory(path: Path, keep: int = 3) -> LogDirectory:
    """A log directory of an instance."""
    return LogDirectory(path, 1000, keep, "host-1")


def test_files_of_a_start(tmp_path: Path) -> None:
    """Each kind in its place, with a relative symlink to the newest."""
    directory = make_directory(tmp_path / "logs")
    sinks = [
        directory.open_access_log(),
        directory.open_boot_log(NOW),
        directory.open_engine_log("llama", "chat", NOW),
    ]
    for sink in sinks:
        assert sink is not None
        sink.close()
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir())
    assert files == [
        "logs/_boot/20231114_221320_boot_host-1.log",
        "logs/_boot/latest.txt",
        "logs/api_access.log",
        "logs/llama-chat/20231114_221320_server_host-1.log",
        "logs/llama-chat/latest.txt",
    ]
    assert os.readlink(tmp_path / "logs/_boot/latest.txt") == "20231114_221320_boot_host-1.log"


def test_old_starts_are_pruned(tmp_path: Path) -> None:
    """The newest three stay, and what others put there."""
    boot = tmp_path / "_boot"
    boot.mkdir()
    (boot / "notes.txt").write_text("mine")
    (boot / "20200101_000000_boot_dir.log").mkdir()
    for number in range(6):
        file = boot / stamped_name("boot", "host", NOW - 100 + number)
        file.write_text("")
        os.utime(file, (NOW + number, NOW + number))
    sink = make_directory(tmp_path).open_boot_log(NOW)
    assert sink is not None
    sink.close()
    names = sorted(path.name for path in boot.iterdir())
    assert names == [
        "20200101_000000_boot_dir.log",
        stamped_name("boot", "host", NOW - 96),
        stamped_name("boot", "host", NOW - 95),
        stamped_name("boot", "host-1", NOW),
        "latest.txt",
        "notes.txt",
    ]


def test_one_is_always_kept(tmp_path: Path) -> None:
    """Zero would remove what is being written."""
    (tmp_path / stamped_name("boot", "host", NOW)).write_text("")
    prune(tmp_path, 0)
    assert len(list(tmp_path.iterdir())) == 1


def test_latest_replaces_what_is_there(tmp_path: Path) -> None:
    """An older link, a stale draft, or a file that somebody copied."""
    (tmp_path / "latest.txt").write_text("a copy")
    (tmp_path / f".latest.txt.{os.getpid()}").write_text("stale")
    point_latest(tmp_path / "a.log")
    assert os.readlink(tmp_path / "latest.txt") == "a.log"
    assert [path.name for path in tmp_path.iterdir()] == ["latest.txt"]


def test_a_file_system_without_symlinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a log all the same."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "symlink_to", refuse)
    sink = make_directory(tmp_path).open_boot_log(NOW)
    assert sink is not None
    sink.close()
    assert not (tmp_path / "_boot" / "latest.txt").exists()


def test_what_cannot_be_written_is_warned_of_once(tmp_path: Path) -> None:
    """All files are None, and one warning names cause and cure."""
    (tmp_path / "logs").write_text("a file")
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        directory = make_directory(tmp_path / "logs")
        assert directory.open_access_log() is None
        assert directory.open_boot_log(NOW) is None
        assert directory.open_engine_log("llama", "", NOW) is None
    finally:
        globalLogPublisher.removeObserver(events.append)
    warnings = [event for event in events if event["log_level"].name == "warn"]
    assert len(warnings) == 1
    assert "LOG_DIR" in warnings[0]["log_format"]
