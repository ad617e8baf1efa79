"""
Relayed paths: what serves them, and for whom.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twisted_llama.api.limiter import Limiter
from twisted_llama.api.passage import Passage, ServedEngine
from twisted_llama.api.request import ApiRequest
from twisted_llama.api.running import RunningRequests
from twisted_llama.errors import UnsupportedContentEncoding
from twisted_llama.http.headers import is_encoded


class Passthrough(Resource):
    """
    Passes requests on to the engine.
    """

    isLeaf = True
    reads_own_body = True

    def __init__(
        self,
        engine: Callable[[], ServedEngine],
        limiter: Limiter,
        running: RunningRequests,
        now: Callable[[], float],
    ) -> None:
        """
        @param engine: picks the engine.
        @param now: the clock, in seconds.
        """
        super().__init__()
        self._engine = engine
        self._limiter = limiter
        self._running = running
        self._now = now

    def render(self, request: ApiRequest) -> int:
        """
        Begin to serve.

        @raise UnsupportedContentEncoding: if the body is compressed; it is not read.
        """
        if b"content-encoding" in request.head.first and is_encoded(request.head):
            raise UnsupportedContentEncoding()
        Passage(request, self._engine, self._limiter, self._running, self._now).begin()
        return NOT_DONE_YET
