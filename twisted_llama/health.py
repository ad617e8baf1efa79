"""
The health port: whether this process is alive, for platforms that count any
other request as work.

It looks at nothing, waits for nothing and writes nothing, so that being asked
costs nothing and a gateway that nobody uses can be scaled to zero.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress
from twisted.web.http import RESPONSES
from twisted.web.resource import IResource, Resource

from twisted_llama.errors import GatewayError, MethodNotAllowed
from twisted_llama.http.deadlines import Deadlines
from twisted_llama.http.request import GatewayRequest
from twisted_llama.http.site import ClientLimits, ErrorAnswer, GatewaySite
from twisted_llama.http.turn import Turn


class HealthRequest(GatewayRequest):
    """
    A request whose path means nothing, and so cannot be ambiguous.
    """

    def find_resource(self) -> IResource:
        """
        There is one page.
        """
        page: IResource = self.channel.site.resource
        return page


class Alive(Resource):
    """
    The answer to everything: yes.
    """

    isLeaf = True
    reads_own_body = True

    def render(self, request: HealthRequest) -> bytes:
        """
        Answer C{GET} and C{HEAD}.

        @raise MethodNotAllowed: for other methods.
        """
        if request.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed(("GET", "HEAD"))
        request.setHeader(b"Content-Type", b"text/plain")
        request.setHeader(b"Content-Length", b"0")
        return b""


class Unwatched:
    """
    A L{Watcher <twisted_llama.http.site.Watcher>} that watches nothing.
    """

    def begun(self, request: GatewayRequest) -> None:
        """
        Nothing is kept of requests.
        """

    def finished(self, request: GatewayRequest, whole: bool) -> None:
        """
        Nothing is counted.
        """

    def refused(self, error: GatewayError, peer: IAddress) -> None:
        """
        Nothing is logged.
        """

    def render_error(self, request: GatewayRequest | None, error: BaseException) -> ErrorAnswer:
        """
        Say in a word what was wrong.
        """
        status, headers = 400, [(b"Content-Type", b"text/plain"), (b"Content-Length", b"0")]
        if isinstance(error, MethodNotAllowed):
            status = 405
            headers.append((b"Allow", ", ".join(error.allowed).encode("ascii")))
        return ErrorAnswer(status, RESPONSES[status], headers, b"", status == 400)


def make_health_site(
    deadlines: Deadlines, turn: Turn, wall_clock: Callable[[], float]
) -> GatewaySite:
    """
    The factory for the health port.
    """
    return GatewaySite(
        Alive(), Unwatched(), ClientLimits(), deadlines, turn, wall_clock, HealthRequest
    )
