"""
The private key file.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from twisted_llama.engine import key_file
from twisted_llama.engine.key_file import KeyFile, key_directories, make_key, remove_stale
from twisted_llama.errors import StartupError


def test_private_and_removed(tmp_path: Path) -> None:
    """
    600 in 700, the secret in it and nowhere else, and nothing left afterwards.
    """
    made = KeyFile.create([tmp_path])
    assert made.path.read_text() == f"{made.key}\n"
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.path.parent.stat().st_mode) == 0o700
    assert made.key not in repr(made)
    assert str(os.getpid()) in made.path.parent.name
    made.remove()
    made.remove()
    assert list(tmp_path.iterdir()) == []


def test_keys_differ() -> None:
    """
    And are long.
    """
    assert make_key() != make_key()
    assert len(make_key()) == 64


def test_first_directory_that_works(tmp_path: Path) -> None:
    """
    Others are passed over; none at all is an error that names them.
    """
    made = KeyFile.create([tmp_path / "missing", tmp_path])
    assert made.path.parent.parent == tmp_path
    made.remove()
    with pytest.raises(StartupError, match="missing"):
        KeyFile.create([tmp_path / "missing"])


def test_half_made_files_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A full disk leaves nothing behind.
    """

    def full(_: KeyFile) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeyFile, "_write", full)
    with pytest.raises(StartupError):
        KeyFile.create([tmp_path])
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_gateways_go(tmp_path: Path) -> None:
    """
    What nobody holds is removed, even under our own process id; what a living
    gateway holds stays.
    """
    held = KeyFile.create([tmp_path])
    for name in ("twisted-llama-999999999-x", f"twisted-llama-{os.getpid()}-y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "api-key").write_text("old")
    kept = tmp_path / "twisted-llama-1-full"
    kept.mkdir()
    (kept / "other").write_text("not ours")
    (tmp_path / "twisted-llama-1-link").symlink_to(tmp_path)
    (tmp_path / "twisted-llama-1-file").write_text("")
    remove_stale(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        held.path.parent.name,
        kept.name,
        "twisted-llama-1-link",
        "twisted-llama-1-file",
    }
    assert held.path.exists()
    held.remove()


def test_directories_that_vanish_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Another gateway may clean up at the same time.
    """
    assert not key_file._is_ours(tmp_path / "gone")
    assert key_file._is_locked(tmp_path / "gone")

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "glob", refuse)
    remove_stale(tmp_path)


def test_where_keys_go() -> None:
    """
    To memory first.
    """
    found = key_directories({"XDG_RUNTIME_DIR": "/run/user/1", "TMPDIR": "/t"})
    assert found == [Path("/dev/shm"), Path("/run/user/1"), Path("/t")]
    assert len(key_directories({})) == 2
