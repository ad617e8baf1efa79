"""
Who a valid key stands for.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.cred.portal import IRealm
from zope.interface import Attribute, Interface, implementer


class IPrincipal(Interface):
    """
    The holder of a valid key, as limits, the queue and the logs know it.
    """

    key_id: str = Attribute("The public name of the key; keys that share it share its limit.")
    requests_per_minute: int | None = Attribute("The key's own limit, or None for the default.")
    expires: float | None = Attribute("Seconds since the epoch, or None for never.")


# Not frozen, for one is made for every key that comes for the first time.
@implementer(IPrincipal)
@define(unsafe_hash=True)
class Principal:
    """
    The holder of a valid key.

    @ivar key_id: its public name.
    @ivar requests_per_minute: its own limit, or C{None} for the default.
    @ivar expires: seconds since the epoch, or C{None} for never.
    @ivar digest: SHA-256 of the secret, by which it is seen later whether the
        key is still in force; C{None} from checkers that know no secrets.
    """

    key_id: str
    requests_per_minute: int | None = None
    expires: float | None = None
    digest: bytes | None = field(default=None, repr=False)


def _log_out() -> None:
    """
    Nothing is kept for a principal, so nothing is to be given up.
    """


@implementer(IRealm)
class GatewayRealm:
    """
    Turns what a checker vouches for into a L{Principal}.
    """

    def requestAvatar(
        self, avatarId: object, mind: object, *interfaces: object
    ) -> tuple[type[Interface], Principal, Callable[[], None]]:
        """
        @param avatarId: the L{Principal} of our own checkers, or the name that
            another checker returned.
        @raise NotImplementedError: when L{IPrincipal} was not asked for.
        @raise TypeError: when the checker vouched for nobody by name, as an
            anonymous one does: that must never open the gateway.
        """
        if IPrincipal not in interfaces:
            raise NotImplementedError("This realm has avatars for IPrincipal only.")
        return IPrincipal, _principal_of(avatarId), _log_out


def _principal_of(avatar_id: object) -> Principal:
    """
    @raise TypeError: when C{avatar_id} names nobody.
    """
    if isinstance(avatar_id, Principal):
        return avatar_id
    if isinstance(avatar_id, bytes):
        avatar_id = avatar_id.decode("utf-8", "backslashreplace")
    if isinstance(avatar_id, str) and avatar_id:
        return Principal(key_id=avatar_id)
    raise TypeError(
        "The checker accepted a key without saying whose it is; its requestAvatarId "
        f"must return a Principal or a name, not {type(avatar_id).__name__}."
    )
