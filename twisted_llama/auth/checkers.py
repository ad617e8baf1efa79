"""
Whether a presented key is in force, by a file of keys.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from attrs import frozen
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.logger import Logger
from zope.interface import implementer

from twisted_llama.auth.credentials import IApiKey
from twisted_llama.auth.keyfile import Keyfile, KeyTable, parse_keyfile
from twisted_llama.auth.realm import Principal
from twisted_llama.errors import InvalidKey, ReloadFailed

MAX_FILE_BYTES = 512 * 1024 * 1024
_READ_ATTEMPTS = 3
_PROBLEMS_LOGGED = 50
#: Up to this many keys have their principals kept: so few that they stay in the processor's
#: caches.  To keep some of very many costs each key that comes for the first time more than
#: it saves the others.
_FEW: Final = 256


class RefusedKey(InvalidKey, UnauthorizedLogin):
    """
    The presented key is unknown, expired, or there are no keys at all.
    """


@frozen
class FileStamp:
    """
    What changes when a file does: also when another is renamed over it, when a
    symbolic link to it is turned, or when it becomes readable.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def from_stat(cls, status: os.stat_result) -> FileStamp:
        """
        Take the stamp from what C{stat} says.
        """
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    @classmethod
    def of(cls, path: Path) -> FileStamp | None:
        """
        The stamp of the file at C{path}, C{None} if there is none to be seen.
        """
        try:
            return cls.from_stat(os.stat(path))
        except OSError:
            return None


@frozen
class Reading:
    """
    A file of keys, read as a whole and not in force yet.

    @ivar keyfile: what it says.
    @ivar stamp: which state of the file this is.
    @ivar mode: its permission bits.
    """

    keyfile: Keyfile
    stamp: FileStamp
    mode: int


@implementer(ICredentialsChecker)
class KeyfileChecker:
    """
    Checks keys against a file, which L{load} takes into force all at once or
    not at all.  Until it has been loaded, and while it holds no key, every key
    is refused.
    """

    credentialInterfaces = (IApiKey,)
    _log: ClassVar[Logger] = Logger()

    def __init__(self, path: Path, wall_clock: Callable[[], float]) -> None:
        """
        @param path: the file (C{AUTH_KEYS_FILE}).
        @param wall_clock: gives seconds since the epoch; expiries are compared
            with it.
        """
        self.path = Path(path)
        self._wall_clock = wall_clock
        self._table = KeyTable()
        # Those of few keys who came since the file was read, by digest: the table is
        # packed, and unpacking takes longer than this.
        self._met: dict[bytes, Principal] = {}
        self._stamp: FileStamp | None = None
        self._asked_before = False

    @property
    def count(self) -> int:
        """
        How many keys are loaded, expired ones too.
        """
        return len(self._table)

    @property
    def stamp(self) -> FileStamp | None:
        """
        Which state of the file is in force; C{None} before the first.
        """
        return self._stamp

    # Twisted's annotation knows only names in Deferreds; Portal.login takes any value, plain too.
    def requestAvatarId(self, credentials: IApiKey) -> Principal:  # type: ignore[override]
        """
        As L{authenticate}: a plain L{Principal}, no Deferred.
        """
        return self.authenticate(credentials)

    def authenticate(self, credentials: IApiKey) -> Principal:
        """
        Say whose key this is.

        @raise RefusedKey: when it is nobody's, or expired.
        """
        digest = credentials.digest
        principal = self._met.get(digest)
        if principal is None:
            principal = self._meet(digest)
        if principal.expires is not None and principal.expires <= self._wall_clock():
            raise RefusedKey("expired")
        return principal

    def _meet(self, digest: bytes) -> Principal:
        found = self._table.look_up(digest)
        if found is None:
            raise RefusedKey("unknown" if len(self._table) else "no_keys")
        key_id, requests_per_minute, expires, _ = found
        principal = Principal(key_id, requests_per_minute, expires, digest)
        if len(self._table) <= _FEW:
            self._met[digest] = principal
        return principal

    def holds(self, principal: Principal) -> bool:
        """
        Whether the principal's key is still in force: in the file as it is now
        and not expired.  C{False} for principals that this checker never made.
        """
        if principal.digest is None:
            return False
        entry = self._table.find(principal.digest)
        return entry is not None and (entry.expires is None or entry.expires > self._wall_clock())

    def load(self) -> int:
        """
        Read the file and put it into force.  The first time a missing file
        counts as an empty one, so that the gateway can start before its first
        key is made.

        @return: the number of keys.
        @raise ReloadFailed: when the file cannot be read as a whole; the keys
            in force stay.
        """
        first, self._asked_before = not self._asked_before, True
        if first and FileStamp.of(self.path) is None and not os.path.lexists(self.path):
            self._warn_no_keys("There is no key file")
            return 0
        return self.adopt(self.read())

    def read(self) -> Reading:
        """
        Read and parse the file without putting it into force.  Changes nothing
        and logs nothing, so it may run in a thread.

        @raise ReloadFailed: when the file cannot be read as a whole.
        """
        content, status = _read_whole(self.path)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as problem:
            line = content.count(b"\n", 0, problem.start) + 1
            # "from None": the exception holds the whole file, secrets and all.
            raise ReloadFailed(
                f"The key file (AUTH_KEYS_FILE) is not UTF-8 text: see its line {line}. "
                "The keys in force stay."
            ) from None
        del content
        return Reading(
            parse_keyfile(text), FileStamp.from_stat(status), stat.S_IMODE(status.st_mode)
        )

    def adopt(self, reading: Reading) -> int:
        """
        Put what was read into force and log what is wrong with it.

        @return: the number of keys.
        """
        self._asked_before = True
        self._table = reading.keyfile.entries
        self._met = {}
        self._stamp = reading.stamp
        problems = reading.keyfile.problems
        for problem in problems[:_PROBLEMS_LOGGED]:
            self._log.warn(
                "Key file {path}, line {line}: {reason}. The line is ignored.",
                path=str(self.path),
                line=problem.line,
                reason=problem.reason,
            )
        if len(problems) > _PROBLEMS_LOGGED:
            self._log.warn(
                "Key file {path}: {count} more bad lines are ignored.",
                path=str(self.path),
                count=len(problems) - _PROBLEMS_LOGGED,
            )
        if reading.mode & 0o077:
            self._log.warn(
                "Key file {path} has mode {mode}: others on this machine may read it. "
                "Use 'chmod 600'.",
                path=str(self.path),
                mode=f"{reading.mode:03o}",
            )
        if not self.count:
            self._warn_no_keys("There is no valid key in the key file")
        return self.count

    def _warn_no_keys(self, finding: str) -> None:
        """
        Say that the gateway is closed to everyone, and how to change that.
        """
        self._log.warn(
            "{finding} {path} (AUTH_KEYS_FILE): every protected request gets 401. "
            "Make a key with 'llama-gateway keys generate'.",
            finding=finding,
            path=str(self.path),
        )


def _read_whole(path: Path) -> tuple[bytes, os.stat_result]:
    """
    Read a file that does not change meanwhile.

    @raise ReloadFailed: when it cannot be read, is no regular file, is too
        large, or is being written all the time.
    """
    for _ in range(_READ_ATTEMPTS):
        try:
            # O_NONBLOCK: a FIFO put in its place must not stop the reactor.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as opened:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise _unreadable("it is not a regular file")
                if before.st_size > MAX_FILE_BYTES:
                    raise _unreadable(f"it is larger than {MAX_FILE_BYTES} bytes")
                content = opened.read(MAX_FILE_BYTES + 1)
                after = os.fstat(descriptor)
        except OSError as problem:
            raise _unreadable(problem.strerror or type(problem).__name__) from problem
        if FileStamp.from_stat(before) == FileStamp.from_stat(after) and (
            len(content) == after.st_size
        ):
            return content, after
    raise _unreadable("it is being written at this moment")


def _unreadable(cause: str) -> ReloadFailed:
    """
    The error for a client and the log; it does not name the path, which
    clients have no business knowing.
    """
    return ReloadFailed(
        f"The key file (AUTH_KEYS_FILE) cannot be read: {cause}. The keys in force stay."
    )
