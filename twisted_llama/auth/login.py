"""
From a presented key to a principal, by whatever checker was chosen.

C{Portal.login} looks up interfaces and makes several Deferreds on each
request, which costs more than reading and checking the key do together.  So a
checker that can answer at once is asked directly, and only others go through
a portal; what comes out is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_llama.auth.checkers import KeyfileChecker, RefusedKey
from twisted_llama.auth.credentials import IApiKey
from twisted_llama.auth.realm import GatewayRealm, IPrincipal, Principal
from twisted_llama.errors import InvalidKey

Login = Callable[[IApiKey], Principal | Deferred[Principal]]


def login_by(checker: ICredentialsChecker) -> Login:
    """
    What to call for each request.  It returns a plain L{Principal} where the
    checker can say so at once, else a Deferred of one; it raises
    L{InvalidKey}, or its Deferred fails with that, when the key is refused.
    """
    if isinstance(checker, KeyfileChecker):
        return checker.authenticate
    portal = Portal(GatewayRealm(), [checker])

    def login(credentials: IApiKey) -> Deferred[Principal]:
        # IPrincipal was asked for, so the avatar is what GatewayRealm makes for it.
        avatars = portal.login(credentials, None, IPrincipal)
        return avatars.addCallbacks(lambda avatar: cast(Principal, avatar[1]), _refuse)

    return login


def _refuse(failure: Failure) -> Failure:
    """
    Say it in our words when another package's checker refuses a key.
    """
    problem = failure.value
    if isinstance(problem, UnauthorizedLogin) and not isinstance(problem, InvalidKey):
        raise RefusedKey("unknown") from problem
    return failure
