"""
The door: who is it, and what may be said before that is known.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource, getChildForRequest
from twisted.web.server import NOT_DONE_YET

from twisted_llama.api.request import ApiRequest
from twisted_llama.auth.credentials import ApiKey, read_credentials
from twisted_llama.auth.guesses import Guesses
from twisted_llama.auth.login import Login
from twisted_llama.auth.realm import Principal
from twisted_llama.errors import GatewayError, InvalidKey, TooManyInvalidKeys

#: Why a key is refused that somebody may have made up.
_GUESSED = frozenset({"expired", "unknown"})


class Guard(Resource):
    """
    Lets in who has a valid key, and shows everybody else the same door.

    The key is read from the head alone, before the body is looked at and
    before anything is said about the path.
    """

    log = Logger()

    isLeaf = True
    reads_own_body = True

    def __init__(self, inner: IResource, login: Login | None, guesses: Guesses) -> None:
        """
        @param inner: what is behind the door.
        @param login: who decides about keys; C{None} lets everybody in.
        @param guesses: counts the keys that are refused, for all doors.
        """
        super().__init__()
        self._inner = inner
        self._login = login
        self._guesses = guesses

    def render(self, request: ApiRequest) -> int:
        """
        Find out who it is, and go on to what was asked for.

        @raise InvalidKey: if no key came, or none that is in force.
        @raise TooManyInvalidKeys: the same, for an address that is held off.
        @raise GatewayError: whatever the request's objection is.
        """
        if request.objection is not None:
            raise request.objection
        if self._login is None:
            self._enter(request)
            return NOT_DONE_YET
        credentials = read_credentials(request.authorization, request.head.first.get(b"x-api-key"))
        try:
            principal = self._login(credentials)
        except InvalidKey as refused:
            raise self._count(refused, request, credentials) from None
        if isinstance(principal, Deferred):
            request.on_gone = principal.cancel
            principal.addCallbacks(
                self._let_in,
                self._keep_out,
                callbackArgs=(request,),
                errbackArgs=(request, credentials),
            )
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

    def _keep_out(self, failure: Failure, request: ApiRequest, credentials: ApiKey) -> None:
        refused = failure.value
        if isinstance(refused, InvalidKey):
            failure = Failure(self._count(refused, request, credentials))
        request.processingFailed(failure)

    def _count(self, refused: InvalidKey, request: ApiRequest, credentials: ApiKey) -> GatewayError:
        """
        Count a key that was refused.

        @return: what to answer.
        """
        if refused.reason not in _GUESSED:
            return refused
        refusal = self._guesses.refuse(request.client_host, credentials.digest)
        if refusal.untold:
            self.log.warn(
                "{count} wrong keys from {address}: somebody guesses. More of "
                "them get 429 for a while; valid keys from there are served. The access log has "
                "each request.",
                count=refusal.untold,
                address=refusal.address,
            )
        if refusal.wait_seconds:
            return TooManyInvalidKeys(refusal.wait_seconds)
        return refused

    def _enter(self, request: ApiRequest) -> None:
        # The tree behind is another one: go back to the root.
        assert request.prepath is not None
        assert request.postpath is not None
        request.postpath[:0] = request.prepath
        request.prepath.clear()
        request.render_with(getChildForRequest(self._inner, request))
