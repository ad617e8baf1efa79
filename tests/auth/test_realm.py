"""
Who a valid key stands for.
"""

from __future__ import annotations

import pytest
from twisted.cred.checkers import ANONYMOUS
from twisted.cred.portal import IRealm
from zope.interface import Interface
from zope.interface.verify import verifyObject

from twisted_llama.auth.realm import GatewayRealm, IPrincipal, Principal


def test_interfaces() -> None:
    """Both classes are what they say."""
    verifyObject(IRealm, GatewayRealm())
    verifyObject(IPrincipal, Principal("alice"))


@pytest.mark.parametrize(
    ("avatar_id", "principal"),
    [
        (Principal("alice", 5), Principal("alice", 5)),
        ("bob", Principal("bob")),
        (b"carol", Principal("carol")),
        (b"\xff", Principal("\\xff")),
    ],
)
def test_avatars(avatar_id: object, principal: Principal) -> None:
    """Our own checker gives principals, others give names."""
    interface, avatar, log_out = GatewayRealm().requestAvatar(avatar_id, None, IPrincipal)
    assert (interface, avatar) == (IPrincipal, principal)
    log_out()


@pytest.mark.parametrize("nobody", [ANONYMOUS, None, "", b"", 7])
def test_nobody_is_let_in(nobody: object) -> None:
    """An anonymous login, or a checker's slip, never passes."""
    with pytest.raises(TypeError, match="whose it is"):
        GatewayRealm().requestAvatar(nobody, None, IPrincipal)


def test_other_interfaces_are_refused() -> None:
    """As IRealm asks for."""
    with pytest.raises(NotImplementedError):
        GatewayRealm().requestAvatar("bob", None, Interface)


def test_a_principal_shows_no_digest() -> None:
    """It is logged as a whole now and then."""
    assert "digest" not in repr(Principal("alice", digest=b"x" * 32))
