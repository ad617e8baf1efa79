"""
The door: who is it, and what may be said before that is known.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.web.resource import IResource, Resource, getChildForRequest
from twisted.web.server import NOT_DONE_YET

from twisted_llama.api.request import ApiRequest
from twisted_llama.auth.credentials import read_credentials
from twisted_llama.auth.login import Login
from twisted_llama.auth.realm import Principal


class Guard(Resource):
    """
    Lets in who has a valid key, and shows everybody else the same door.

    The key is read from the head alone, before the body is looked at and
    before anything is said about the path.
    """

    isLeaf = True
    reads_own_body = True

    def __init__(self, inner: IResource, login: Login | None) -> None:
        """
        @param inner: what is behind the door.
        @param login: who decides about keys; C{None} lets everybody in.
        """
        super().__init__()
        self._inner = inner
        self._login = login

    def render(self, request: ApiRequest) -> int:
        """
        Find out who it is, and go on to what was asked for.

        @raise InvalidKey: if no key came, or none that is in force.
        @raise GatewayError: whatever the request's objection is.
        """
        if request.objection is not None:
            raise request.objection
        if self._login is None:
            self._enter(request)
            return NOT_DONE_YET
        first = request.head.first
        credentials = read_credentials(first.get(b"authorization"), first.get(b"x-api-key"))
        principal = self._login(credentials)
        if isinstance(principal, Deferred):
            request.on_gone = principal.cancel
            principal.addCallback(self._let_in, request)
            principal.addErrback(request.processingFailed)
        else:
            self._let_in(principal, request)
        return NOT_DONE_YET

    def _let_in(self, principal: Principal, request: ApiRequest) -> None:
        request.on_gone = None
        if request.channel is None:
            return
        request.principal = principal
        exchange = request.exchange
        exchange.key_id = principal.key_id
        exchange.authenticated = True
        self._enter(request)

    def _enter(self, request: ApiRequest) -> None:
        # The tree behind is another one: go back to the root.
        assert request.prepath is not None
        assert request.postpath is not None
        request.postpath[:0] = request.prepath
        request.prepath.clear()
        request.render_with(getChildForRequest(self._inner, request))
