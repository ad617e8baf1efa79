"""
Replaces the file of keys on disk: whole or not at all, for its owner's eyes
only, and one writer after the other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from twisted_llama.auth.keyfile_edit import EditRefused

LOCK_SECONDS = 10.0
_LOCK_AGAIN_SECONDS = 0.02
_CURES = {
    errno.EROFS: "it is on a read-only file system; edit it where it is mounted from",
    errno.EBUSY: "it is itself a mount point and cannot be replaced; mount its directory instead, "
    "or edit it where it is mounted from",
    errno.EACCES: "permission denied; run this as the owner of the file and its directory",
    errno.EPERM: "permission denied; run this as the owner of the file and its directory",
    errno.ENOSPC: "the disk is full",
    errno.ENOTDIR: "a part of its path is not a directory; correct --file",
    # What mkdir says where a file has the directory's name.
    errno.EEXIST: "a part of its path is not a directory; correct --file",
}


def read_content(path: Path) -> bytes | None:
    """
    The bytes of the file, C{None} if there is none.

    @raise EditRefused: when it cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise EditRefused(f"{path} is not a regular file: correct --file.")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise _refused("read", path, problem) from problem


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> bytes:
    """
    Apply a change to the file.  Other runs wait meanwhile; readers see the old
    file or the new one.  A symbolic link stays one, and its target is replaced.
    A missing file is made, its directory too.

    @param change: from the bytes of the file to its new bytes; what it raises
        leaves the file as it was.
    @return: the new bytes.
    @raise EditRefused: when the file cannot be read or replaced.
    """
    try:
        target = Path(os.path.realpath(path))
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(target.parent):
            before = read_content(target)
            after = change(before or b"")
            if after != before:
                _replace(target, after)
            return after
    except OSError as problem:
        raise _refused("change", path, problem) from problem


def _replace(target: Path, content: bytes) -> None:
    """
    Put a finished file in the place of C{target}, with mode 600 and the same
    owner: run by root, this must not take the file from the gateway's user.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with open(descriptor, "wb") as opened:
            with suppress(FileNotFoundError):
                old = os.stat(target)
                new = os.fstat(descriptor)
                if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
                    os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, stat.S_IRUSR | stat.S_IWUSR)
            opened.write(content)
            opened.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # The new file is in its place already; some file systems sync no directory.
        with suppress(OSError):
            os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """
    Keep other runs out.  The directory itself is locked: the file is about to
    be replaced, so a lock on it would guard the wrong one.

    @raise EditRefused: when another run keeps the lock.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise EditRefused(
                        f"Another program keeps {directory} locked: try again when it has ended."
                    ) from None
                time.sleep(_LOCK_AGAIN_SECONDS)
            except OSError:
                # A file system without locks (some network volumes): better one
                # edit at the operator's own care than none at all.
                break
        yield
    finally:
        os.close(descriptor)


def _refused(verb: str, path: Path, problem: OSError) -> EditRefused:
    """
    One line with the cause and what to do.
    """
    cause = _CURES.get(problem.errno or 0) or problem.strerror or type(problem).__name__
    return EditRefused(f"Cannot {verb} {path}: {cause}.")
