"""
The engine's key, in a file that only we and the engine can read.

A directory of mode 700 on a file system in memory, if there is one, holds one
file of mode 600.  The directory is locked while its gateway lives, so that the
next gateway can tell what a killed one left behind, even if it has the same
process id, as the first process of a container does.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from twisted.logger import Logger

from twisted_llama.errors import StartupError

_PREFIX = "twisted-llama-"
_FILE_NAME = "api-key"
_KEY_BYTES = 32


def make_key() -> str:
    """
    @return: a new random key, made of characters that any program accepts.
    """
    return secrets.token_hex(_KEY_BYTES)


def key_directories(environ: Mapping[str, str]) -> list[Path]:
    """
    Where key files may be put, best first: what is in memory, then the
    directory for temporary files.
    """
    # A directory of ours with mode 700 is made inside.
    candidates = [Path("/dev/shm")]  # nosec B108  # no name in it can be foreseen
    if environ.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(environ["XDG_RUNTIME_DIR"]))
    candidates.append(Path(environ.get("TMPDIR") or tempfile.gettempdir()))
    return candidates


class KeyFile:
    """
    A key and the private file that tells it to the engine.

    @ivar key: the secret.
    @ivar path: the file.
    """

    log = Logger()

    def __init__(self, key: str, directory: Path, lock: int) -> None:
        """
        Use L{create}.
        """
        self.key = key
        self.path = directory / _FILE_NAME
        self._directory = directory
        self._lock = lock

    def __repr__(self) -> str:
        return f"<KeyFile {self.path}>"

    @classmethod
    def create(cls, candidates: list[Path]) -> KeyFile:
        """
        Write a new key into the first directory that can be written, after
        removing what gateways that are gone left there.

        @raise StartupError: none can be written.
        """
        for parent in candidates:
            remove_stale(parent)
            try:
                return cls._create_in(parent)
            except OSError as problem:
                cls.log.debug(
                    "No key file in {directory}: {problem}", directory=parent, problem=problem
                )
        raise StartupError(
            "The engine's key file cannot be written to any of "
            f"{', '.join(map(str, candidates))}. Set TMPDIR to a directory that can be written."
        )

    @classmethod
    def _create_in(cls, parent: Path) -> KeyFile:
        directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        key_file = cls(make_key(), directory, lock)
        try:
            key_file._write()
        except OSError:
            key_file.remove()
            raise
        return key_file

    def _write(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{self.key}\n")

    def remove(self) -> None:
        """
        Remove the file and its directory; doing it twice is harmless.
        """
        if self._lock < 0:
            return
        _remove(self._directory)
        os.close(self._lock)
        self._lock = -1


def remove_stale(parent: Path) -> None:
    """
    Remove the key files of gateways that were killed: directories of ours that
    nobody holds locked.
    """
    try:
        leftovers = list(parent.glob(f"{_PREFIX}*-*"))
    except OSError:
        return
    for directory in leftovers:
        if _is_ours(directory) and not _is_locked(directory):
            _remove(directory)


def _is_ours(directory: Path) -> bool:
    # Anyone may write to /dev/shm, so a name proves nothing.
    try:
        facts = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()


def _is_locked(directory: Path) -> bool:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return True  # gone or not to be judged: leave it alone
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _remove(directory: Path) -> None:
    try:
        (directory / _FILE_NAME).unlink(missing_ok=True)
        directory.rmdir()
    except OSError:
        # Someone else put something there, or removed it first; the key is gone.
        return
