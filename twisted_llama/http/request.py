"""
The request that resources see: C{twisted.web}'s own, with a body that is read
when somebody wants it and a short way out for relayed answers.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import parse_qs
from twisted.web.resource import IResource, getChildForRequest
from twisted.web.server import Request

from twisted_llama.errors import GatewayError, InternalError, MalformedRequest
from twisted_llama.http.head import RequestHead

if TYPE_CHECKING:
    from twisted_llama.http.channel import GatewayChannel


class GatewayRequest(Request):
    """
    A request on a L{GatewayChannel}.

    It differs from C{twisted.web.server.Request} in that resources are found
    and, if they say so by a true C{reads_own_body}, rendered as soon as the
    head is there; the body is neither read nor parsed before.  Any other
    resource finds it whole in C{content}, as usual, and its form fields in
    C{args} only as far as they stand in the query.

    @ivar head: the head as it was read.
    @ivar path: as in the head.
    @ivar query: as in the head.
    @ivar length_bytes: the length of the body, C{None} if it comes in chunks.
    @ivar authorization: the value of C{Authorization}, C{None} if there is none.
    @ivar common_lines: header lines that every answer to this request carries.
    @ivar on_gone: called once if the client leaves before the end.
    @ivar on_drained: called whenever a client that was slow has taken all.
    """

    log = Logger()
    # It stands where HTTPChannel stands, until the answer is written; Request
    # deletes the attribute then, and this is found in its place.
    channel: GatewayChannel = None  # type: ignore[assignment]
    head: RequestHead
    length_bytes: int | None
    authorization: bytes | None
    common_lines: bytes
    query: bytes
    on_gone: Callable[[], None] | None
    on_drained: Callable[[], None] | None
    defaultContentType = None  # a body without a type stays so
    # Beside the dictionary that Twisted's own attributes fill: beyond 30 names it
    # would no longer share its keys, and every open stream holds a request.
    __slots__ = (
        "authorization",
        "common_lines",
        "head",
        "length_bytes",
        "on_drained",
        "on_gone",
        "query",
    )

    def __init__(self, channel: GatewayChannel) -> None:
        super().__init__(channel)
        self.common_lines = self.query = b""
        self.on_gone = self.on_drained = None

    def begin(
        self, head: RequestHead, length_bytes: int | None, authorization: bytes | None
    ) -> None:
        """
        Take over the head.
        """
        self.head = head
        self.length_bytes = length_bytes
        self.authorization = authorization
        self.method = head.method
        self.uri = head.target
        self.clientproto = head.version
        self.path = head.path
        self.query = head.query

    def process(self) -> None:
        """
        Find the resource and render it.
        """
        self.site = self.channel.site
        try:
            self.render_with(self.find_resource())
        except Exception:
            self.processingFailed(Failure())

    def find_resource(self) -> IResource:
        """
        Walk down the tree to what serves the path.

        @raise MalformedRequest: if the path is ambiguous.
        """
        if self.head.ambiguity:
            raise MalformedRequest(self.head.ambiguity)
        self.begin_traversal()
        resource: IResource = getChildForRequest(self.channel.site.resource, self)
        return resource

    def begin_traversal(self) -> None:
        """
        Stand at the root of a tree, with the whole path to go.
        """
        self.prepath = []
        self.postpath = self.path[1:].split(b"/")

    def render_with(self, resource: IResource) -> None:
        """
        Render a resource, after reading the body unless it reads that itself.
        """
        if getattr(resource, "reads_own_body", False):
            self.render(resource)
            return
        for _, name, value in self.head.fields:
            self.requestHeaders.addRawHeader(name, value)
        if self.length_bytes is not None and self.length_bytes:
            self.requestHeaders.setRawHeaders(b"Content-Length", [b"%d" % self.length_bytes])
        if self.authorization is not None and b"authorization" not in self.head.first:
            self.requestHeaders.setRawHeaders(b"Authorization", [self.authorization])
        self.args = parse_qs(self.query[1:], True) if self.query else {}
        self.parseCookies()
        body = self.read_body()
        if isinstance(body, Deferred):
            body.addCallback(self._render_with_content, resource)
            body.addErrback(self.processingFailed)
        else:
            self._render_with_content(body, resource)

    def _render_with_content(self, body: list[bytes], resource: IResource) -> None:
        self.content = BytesIO(b"".join(body))
        self.render(resource)

    def read_body(self) -> list[bytes] | Deferred[list[bytes]]:
        """
        Ask for the body.

        @return: its pieces, or a L{Deferred} of them if it has not all come.
            The L{Deferred} fails with what the client did wrong; if the client
            leaves, it never fires.

        @raise PayloadTooLarge: if its announced length is over the limit.
        """
        return self.channel.read_body()

    def processingFailed(self, reason: Failure) -> None:
        """
        Answer with an error; what is not the client's doing is logged.
        """
        if self.channel is None:
            # The client has left; there is nobody to tell.
            return
        error = reason.value or InternalError()
        if not isinstance(error, GatewayError):
            self.log.failure(
                "While serving {method} {path}", reason, method=self.method, path=self.path
            )
        channel = self.channel
        try:
            channel.fail(self, error)
        except Exception:
            # Whoever waits must not wait for ever because of a defect of ours.
            self.log.failure("While answering with an error")
            channel.abortConnection()

    # -- the short way out, for answers that come with their own framing ------

    def begin_relay(self, status: int, head: bytes) -> bool:
        """
        Send the head of an answer, and perhaps the beginning of its body.

        @param head: the bytes from the status line on.

        @return: whether more may be written now (see L{on_drained}).
        """
        self.code = status
        self.startedWriting = 1
        return self.channel.outlet.write(head)

    def connectionLost(self, reason: Failure) -> None:
        """
        The client has left.
        """
        on_gone, self.on_gone, self.on_drained = self.on_gone, None, None
        super().connectionLost(reason)
        if on_gone is not None:
            on_gone()
