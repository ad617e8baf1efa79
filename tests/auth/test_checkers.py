"""
Which keys are in force.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from twisted_llama.auth import checkers
from twisted_llama.auth.checkers import FileStamp, KeyfileChecker, RefusedKey
from twisted_llama.auth.credentials import ApiKey, read_credentials
from twisted_llama.auth.realm import GatewayRealm, IPrincipal, Principal
from twisted_llama.errors import InvalidKey, ReloadFailed

SECRET = "sk-0123456789abcdef"
OTHER = "sk-fedcba9876543210"


def key(secret: str) -> ApiKey:
    """What a client with this secret presents."""
    return read_credentials(None, secret.encode())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What is logged, as lines of text."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


class Desk:
    """A key file, the checker on it, and a clock that is set by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1000.0
        self.checker = KeyfileChecker(path, lambda: self.now)

    def write(self, text: str | bytes) -> None:
        """Put this into the file, with the right mode."""
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.path.chmod(0o600)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A checker whose file does not exist yet."""
    return Desk(tmp_path / "api_keys.txt")


def refusal(desk: Desk, secret: str) -> str:
    """Why this secret is refused."""
    with pytest.raises(RefusedKey) as caught:
        desk.checker.authenticate(key(secret))
    return caught.value.reason


def test_a_known_key_gives_a_plain_principal(desk: Desk) -> None:
    """Not a Deferred: this is the hot path."""
    verifyObject(ICredentialsChecker, desk.checker)
    desk.write(f"alice:{SECRET}:7\nbob:{OTHER}\n")
    assert desk.checker.load() == desk.checker.count == 2
    digest = sha256(SECRET.encode()).digest()
    expected = Principal("alice", 7, None, digest)
    assert desk.checker.requestAvatarId(key(SECRET)) == expected
    assert desk.checker.authenticate(key(OTHER)).requests_per_minute is None


def test_through_a_portal(desk: Desk) -> None:
    """The checker and the realm work together as Twisted has it."""
    desk.write(f"alice:{SECRET}\n")
    desk.checker.load()
    portal = Portal(GatewayRealm(), [desk.checker])
    seen: list[object] = []
    login = portal.login(key(SECRET), None, IPrincipal)
    assert isinstance(login, Deferred)
    login.addCallback(lambda result: seen.append(result[1].key_id))
    refused = portal.login(key(OTHER), None, IPrincipal)
    refused.addErrback(lambda failure: seen.append(failure.check(UnauthorizedLogin)))
    assert seen == ["alice", UnauthorizedLogin]


def test_refusals(desk: Desk) -> None:
    """Each reason has its case, and every refusal is both our error and Twisted's."""
    assert refusal(desk, SECRET) == "no_keys"
    desk.write(f"alice:{SECRET}::1970-01-01T01:00:00Z\n")
    desk.checker.load()
    assert refusal(desk, OTHER) == "unknown"
    desk.now = 3599.9
    principal = desk.checker.authenticate(key(SECRET))
    assert desk.checker.holds(principal)
    desk.now = 3600.0
    assert refusal(desk, SECRET) == "expired"
    assert not desk.checker.holds(principal)
    assert issubclass(RefusedKey, InvalidKey)
    assert issubclass(RefusedKey, UnauthorizedLogin)


@pytest.mark.parametrize("secret", [SECRET[:-1], SECRET + "0", SECRET.upper(), SECRET + "\0", "x"])
def test_near_keys_are_unknown(desk: Desk, secret: str) -> None:
    """A prefix, a longer key, another case, a NUL."""
    desk.write(f"alice:{SECRET}\n")
    desk.checker.load()
    assert refusal(desk, secret) == "unknown"


def test_holds_follows_the_file(desk: Desk) -> None:
    """A removed key is not held any more, one that was renamed or extended is."""
    desk.write(f"alice:{SECRET}::1970-01-01T01:00:00Z\nbob:{OTHER}\n")
    desk.checker.load()
    alice = desk.checker.authenticate(key(SECRET))
    bob = desk.checker.authenticate(key(OTHER))
    desk.write(f"alice:{SECRET}\n")
    desk.checker.load()
    desk.now = 4000.0
    assert desk.checker.holds(alice)
    assert not desk.checker.holds(bob)
    assert not desk.checker.holds(Principal("alice"))


def test_a_missing_file_is_no_keys_at_first(desk: Desk, logged: list[str]) -> None:
    """The gateway starts closed, with one warning that says what to do."""
    assert desk.checker.load() == 0
    assert len(logged) == 1
    for words in (str(desk.path), "AUTH_KEYS_FILE", "llama-gateway keys generate", "401"):
        assert words in logged[0]
    with pytest.raises(ReloadFailed, match="No such file"):
        desk.checker.load()


def test_a_file_without_a_valid_key_warns(desk: Desk, logged: list[str]) -> None:
    """And closes the gateway."""
    desk.write("# none\n")
    assert desk.checker.load() == 0
    assert [line for line in logged if "llama-gateway keys generate" in line]
    assert refusal(desk, SECRET) == "no_keys"


def test_bad_lines_are_logged_without_their_secrets(desk: Desk, logged: list[str]) -> None:
    """A line each with path and number, up to a bound."""
    desk.write(f"alice:{SECRET}\n" + f"bad id:{OTHER}\n" * 60)
    assert desk.checker.load() == 1
    assert len(logged) == 51
    assert f"{desk.path}, line 2: the key id" in logged[0]
    assert "10 more" in logged[-1]
    assert OTHER not in "".join(logged)


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1)])
def test_a_file_that_others_may_read_is_warned_of(
    desk: Desk, logged: list[str], mode: int, warnings: int
) -> None:
    """The keys count all the same: a ConfigMap has no other mode."""
    desk.write(f"alice:{SECRET}\n")
    desk.path.chmod(mode)
    assert desk.checker.load() == 1
    assert len([line for line in logged if f"mode {mode:o}" in line]) == warnings


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "latin-1", "too large"])
def test_an_unreadable_file_leaves_the_keys_in_force(
    desk: Desk, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All or nothing, and the error holds neither secret nor path."""
    desk.write(f"alice:{SECRET}\n")
    desk.checker.load()
    stamp = desk.checker.stamp
    desk.path.unlink()
    if kind == "directory":
        desk.path.mkdir()
    elif kind == "fifo":
        os.mkfifo(desk.path)
    elif kind == "latin-1":
        desk.write(f"bob:{OTHER}\n# caf\xe9\n".encode("latin-1"))
    elif kind == "too large":
        monkeypatch.setattr(checkers, "MAX_FILE_BYTES", 10)
        desk.write(f"bob:{OTHER}\n")
    with pytest.raises(ReloadFailed) as caught:
        desk.checker.load()
    error = caught.value
    assert str(desk.path) not in str(error)
    assert OTHER not in repr(
        (error, error.__cause__, error.__context__ and error.__suppress_context__)
    )
    assert desk.checker.authenticate(key(SECRET)).key_id == "alice"
    assert desk.checker.stamp == stamp
    if kind == "latin-1":
        assert "line 2" in str(error)


def test_a_dangling_link_is_not_a_missing_file(desk: Desk) -> None:
    """Someone meant a file to be there."""
    desk.path.symlink_to(desk.path.with_name("gone"))
    with pytest.raises(ReloadFailed):
        desk.checker.load()


def change_while_reading(desk: Desk, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Append to the file between the two looks at it, so many times."""
    real_fstat = os.fstat
    looks = 0

    def fstat(descriptor: int) -> os.stat_result:
        nonlocal looks
        looks += 1
        if looks % 2 == 0 and looks <= 2 * times:
            with desk.path.open("a") as opened:
                opened.write("# more\n")
        return real_fstat(descriptor)

    monkeypatch.setattr(checkers.os, "fstat", fstat)


def test_a_file_that_changes_while_read_is_read_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read first may be half of it."""
    desk.write(f"alice:{SECRET}\n")
    change_while_reading(desk, monkeypatch, 2)
    assert desk.checker.load() == 1
    assert desk.checker.stamp == FileStamp.of(desk.path)


def test_a_file_that_never_rests_is_not_taken(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old keys stay until it does."""
    desk.write(f"alice:{SECRET}\n")
    change_while_reading(desk, monkeypatch, 9)
    with pytest.raises(ReloadFailed, match="being written"):
        desk.checker.load()
    assert desk.checker.count == 0
