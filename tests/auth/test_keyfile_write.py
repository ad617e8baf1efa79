"""
Replacing the key file on disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

import twisted_llama
from twisted_llama.auth import keyfile_write
from twisted_llama.auth.keyfile_edit import EditRefused
from twisted_llama.auth.keyfile_write import read_content, rewrite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the key file is to be."""
    return tmp_path / "data" / "api_keys.txt"


def test_a_missing_file_is_made_with_its_directory(path: Path) -> None:
    """For its owner alone, whatever the umask."""
    old = os.umask(0)
    try:
        assert rewrite(path, lambda content: content + b"x\n") == b"x\n"
    finally:
        os.umask(old)
    assert path.read_bytes() == b"x\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == ["api_keys.txt"]


def test_the_file_is_replaced_not_written_into(path: Path) -> None:
    """Who has the old one open reads it to its end; the mode becomes 600."""
    rewrite(path, lambda content: b"old\n")
    path.chmod(0o644)
    with path.open("rb") as opened:
        rewrite(path, lambda content: content + b"new\n")
        assert opened.read() == b"old\n"
    assert path.read_bytes() == b"old\nnew\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_symbolic_link_stays_one(path: Path, tmp_path: Path) -> None:
    """Its target is replaced."""
    path.parent.mkdir()
    target = tmp_path / "secrets.txt"
    target.write_bytes(b"a\n")
    path.symlink_to(target)
    rewrite(path, lambda content: content + b"b\n")
    assert path.is_symlink()
    assert target.read_bytes() == b"a\nb\n"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give files away")
def test_the_owner_stays(path: Path) -> None:
    """An edit by root must not take the file from the gateway's user."""
    rewrite(path, lambda content: b"a\n")
    os.chown(path, 12345, 12346)
    rewrite(path, lambda content: b"b\n")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


def test_no_change_writes_nothing(path: Path) -> None:
    """Not even the same bytes."""
    rewrite(path, lambda content: b"a\n")
    before = path.stat().st_ino
    rewrite(path, lambda content: content)
    assert path.stat().st_ino == before


def test_what_the_change_raises_leaves_the_file(path: Path) -> None:
    """And the lock is free again."""

    def refuse(content: bytes) -> bytes:
        raise EditRefused("no")

    rewrite(path, lambda content: b"a\n")
    with pytest.raises(EditRefused, match="no"):
        rewrite(path, refuse)
    assert rewrite(path, lambda content: content + b"b\n") == b"a\nb\n"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "read-only file system"),
        (errno.EBUSY, "mount its directory"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_file_that_cannot_be_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    """One line that says what to do, and no temporary file left behind."""

    def replace(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    rewrite(path, lambda content: b"a\n")
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(EditRefused, match=words) as caught:
        rewrite(path, lambda content: b"b\n")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert os.listdir(path.parent) == ["api_keys.txt"]
    assert path.read_bytes() == b"a\n"


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    """A directory, a path through a file, a missing file."""
    with pytest.raises(EditRefused, match="not a regular file"):
        read_content(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(EditRefused, match="not a directory"):
        rewrite(tmp_path / "file" / "keys", lambda content: b"")
    with pytest.raises(EditRefused, match="not a directory"):
        rewrite(tmp_path / "file" / "deeper" / "keys", lambda content: b"")
    assert read_content(tmp_path / "missing") is None


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read anything, so the refusal is played."""

    def read_bytes(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "keys").touch()
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(EditRefused, match=r"Cannot read .*keys: permission denied"):
        read_content(tmp_path / "keys")


def test_a_lock_that_is_kept_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of waiting for ever."""
    path.parent.mkdir()
    monkeypatch.setattr(keyfile_write, "LOCK_SECONDS", 0.05)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(EditRefused, match="locked"):
            rewrite(path, lambda content: b"a\n")
    finally:
        os.close(descriptor)
    assert rewrite(path, lambda content: b"a\n") == b"a\n"


def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as some network volumes: the edit is made all the same."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert rewrite(path, lambda content: b"a\n") == b"a\n"


@pytest.mark.slow
def test_simultaneous_runs_lose_no_update(path: Path) -> None:
    """Four processes, twenty-five lines each."""
    program = (
        "import sys; from pathlib import Path\n"
        "from twisted_llama.auth.keyfile_write import rewrite\n"
        "for n in range(25):\n"
        "    rewrite(Path(sys.argv[1]), lambda c: c + f'{sys.argv[2]}-{n}\\n'.encode())\n"
    )
    ours = str(Path(twisted_llama.__file__).parent.parent)
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path), str(number)],
            env={**os.environ, "PYTHONPATH": ours},
        )
        for number in range(4)
    ]
    assert [run.wait() for run in runs] == [0] * 4
    lines = path.read_text().split()
    assert sorted(lines) == sorted(f"{run}-{n}" for run in range(4) for n in range(25))
