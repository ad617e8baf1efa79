"""
The shape of the tree: public pages by their whole path, and one guard in front
of everything else.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from twisted_llama.api.request import ApiRequest
from twisted_llama.api.routes import Destination, destination
from twisted_llama.errors import MethodNotAllowed, NotFound


class Root(Resource):
    """
    Where every request begins.
    """

    def __init__(
        self, public: Mapping[bytes, IResource], guard: IResource, preflight: IResource | None
    ) -> None:
        """
        @param public: the pages that need no key, by path.
        @param guard: what stands before all others.
        @param preflight: what answers browsers that ask whether they may ask;
            C{None} leaves that to the pages themselves.
        """
        super().__init__()
        self._public = public
        self._guard = guard
        self._preflight = preflight

    def getChildWithDefault(self, path: bytes, request: ApiRequest) -> IResource:
        """
        See C{IResource.getChildWithDefault}.  The whole path decides, not its
        first segment: C{/ping/x} is not C{/ping}.
        """
        if self._preflight is not None and is_preflight(request):
            return self._preflight
        return self._public.get(request.path, self._guard)


def is_preflight(request: ApiRequest) -> bool:
    """
    Whether a browser asks if a page may ask.
    """
    first = request.head.first
    return (
        request.method == b"OPTIONS"
        and b"origin" in first
        and b"access-control-request-method" in first
    )


class Preflight(Resource):
    """
    The answer to that: it is all in the headers.
    """

    isLeaf = True
    reads_own_body = True

    def render(self, request: ApiRequest) -> int:
        """
        Answer.
        """
        request.setResponseCode(204)
        request.write(b"")
        request.finish()
        return NOT_DONE_YET


class ProtectedTree(Resource):
    """
    What there is behind the guard.

    Any C{IResource} can be hung into it with C{putChild}; what nothing was
    hung in for is found by L{destination}.
    """

    def __init__(
        self, passthrough: IResource, reload: IResource, extra_prefixes: tuple[bytes, ...]
    ) -> None:
        super().__init__()
        self._by_destination = {
            Destination.ENGINE: passthrough,
            Destination.RELOAD: reload,
            Destination.NOTHING: NothingHere(),
        }
        self._extra_prefixes = extra_prefixes
        self._server = ServerOptions()

    def getChild(self, path: bytes, request: ApiRequest) -> IResource:
        """
        See C{IResource.getChildWithDefault}.
        """
        if request.path == b"*":
            return self._server
        return self._by_destination[destination(request.method, request.path, self._extra_prefixes)]


class ServerOptions(Resource):
    """
    C{OPTIONS *}: what the gateway as a whole can do (RFC 9110, section 9.3.7).
    """

    isLeaf = True
    reads_own_body = True

    def render(self, request: ApiRequest) -> int:
        """
        Say which methods there are.
        """
        request.setResponseCode(204)
        request.setHeader(b"Allow", b"GET, HEAD, POST, OPTIONS")
        request.write(b"")
        request.finish()
        return NOT_DONE_YET


class NothingHere(Resource):
    """
    The answer to paths that lead nowhere.
    """

    isLeaf = True
    reads_own_body = True

    def render(self, request: ApiRequest) -> bytes:
        """
        Refuse.

        @raise NotFound: always.
        """
        raise NotFound


def require_method(request: ApiRequest, *allowed: str) -> None:
    """
    Refuse what a resource does not offer.

    @raise MethodNotAllowed: if the request's method is not among C{allowed}.
    """
    if request.method.decode("ascii") not in allowed:
        raise MethodNotAllowed(allowed)
