"""
The door: who is it, and what may be said before that is known.
"""

from __future__ import annotations

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource, getChildForRequest
from twisted.web.server import NOT_DONE_YET

from twisted_llama.api.request import ApiRequest
from twisted_llama.auth.credentials import read_credentials
from twisted_llama.auth.realm import IPrincipal, Principal
from twisted_llama.errors import InvalidKey


class Guard(Resource):
    """
    Lets in who has a valid key, and shows everybody else the same door.

    The key is read from the head alone, before the body is looked at and
    before anything is said about the path.
    """

    isLeaf = True
    reads_own_body = True

    def __init__(self, inner: IResource, portal: Portal | None) -> None:
        """
        @param inner: what is behind the door.
        @param portal: who decides about keys; C{None} lets everybody in.
        """
        super().__init__()
        self._inner = inner
        self._portal = portal

    def render(self, request: ApiRequest) -> int:  # type: ignore[override]
        """
        Find out who it is, and go on to what was asked for.

        @raise InvalidKey: if no key came, or not in a form that can be read.
        """
        if self._portal is None:
            self._enter(request)
            return NOT_DONE_YET
        first = request.head.first
        credentials = read_credentials(first.get(b"authorization"), first.get(b"x-api-key"))
        login: Deferred[tuple[object, Principal, object]] = self._portal.login(
            credentials, None, IPrincipal
        )
        login.addCallbacks(self._let_in, self._keep_out, callbackArgs=(request,))
        login.addErrback(request.processingFailed)
        return NOT_DONE_YET

    def _let_in(self, avatar: tuple[object, Principal, object], request: ApiRequest) -> None:
        principal = avatar[1]
        request.principal = principal
        exchange = request.exchange
        exchange.key_id = principal.key_id
        exchange.authenticated = True
        if request.channel is not None:
            self._enter(request)

    def _keep_out(self, failure: Failure) -> Failure:
        if isinstance(failure.value, UnauthorizedLogin) and not isinstance(
            failure.value, InvalidKey
        ):
            raise InvalidKey("unknown") from failure.value
        return failure

    def _enter(self, request: ApiRequest) -> None:
        request.postpath = request.prepath + request.postpath
        request.prepath = []
        request.render_with(getChildForRequest(self._inner, request))
