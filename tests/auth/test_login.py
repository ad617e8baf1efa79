"""
Asking whichever checker was chosen.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from twisted_llama.auth.checkers import KeyfileChecker, RefusedKey
from twisted_llama.auth.credentials import IApiKey, read_credentials
from twisted_llama.auth.login import login_by
from twisted_llama.auth.realm import Principal

KEY = read_credentials(None, b"sk-0123456789abcdef")


@implementer(ICredentialsChecker)
class Foreign:
    """A checker of another package, which answers as it was told."""

    credentialInterfaces = (IApiKey,)

    def __init__(self, answer: Deferred[object]) -> None:
        self.answer = answer

    def requestAvatarId(self, credentials: IApiKey) -> Deferred[object]:
        """Answer."""
        return self.answer


def outcome(answer: Deferred[object]) -> object:
    """The principal or the exception that a foreign checker's answer becomes."""
    login = login_by(Foreign(answer))(KEY)
    assert isinstance(login, Deferred)
    seen: list[object] = []
    login.addCallbacks(seen.append, lambda failure: seen.append(failure.value))
    return seen[0]


def test_a_key_file_is_asked_without_a_deferred(tmp_path: Path) -> None:
    """That is the hot path."""
    path = tmp_path / "keys"
    path.write_text("alice:sk-0123456789abcdef\n")
    checker = KeyfileChecker(path, lambda: 0.0)
    login = login_by(checker)
    with pytest.raises(RefusedKey):
        login(KEY)
    checker.load()
    principal = login(KEY)
    assert isinstance(principal, Principal)
    assert principal.key_id == "alice"


def test_a_foreign_checker_names_the_principal() -> None:
    """By a string or bytes."""
    assert outcome(succeed(b"bob")) == Principal("bob")


def test_a_foreign_refusal_is_an_invalid_key() -> None:
    """So that the client gets 401."""
    refused = outcome(fail(UnauthorizedLogin("no")))
    assert isinstance(refused, RefusedKey)
    assert refused.reason == "unknown"
    ours = RefusedKey("expired")
    assert outcome(fail(ours)) is ours


def test_a_foreign_defect_stays_one() -> None:
    """A broken checker lets nobody in, and is not hidden as a wrong key."""
    assert isinstance(outcome(fail(ZeroDivisionError())), ZeroDivisionError)
    assert isinstance(outcome(succeed(ANONYMOUS)), TypeError)
