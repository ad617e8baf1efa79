"""
C{POST /reload}.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twisted_llama.api.limiter import Limiter
from twisted_llama.api.request import ApiRequest
from twisted_llama.api.tree import require_method


class ReloadPage(Resource):
    """
    Reads the keys again.
    """

    isLeaf = True
    reads_own_body = True

    def __init__(self, limiter: Limiter, reload: Callable[[], int]) -> None:
        """
        @param reload: reads the keys again and returns their number; raises
            L{ReloadFailed <twisted_llama.errors.ReloadFailed>}.
        """
        super().__init__()
        self._limiter = limiter
        self._reload = reload

    def render(self, request: ApiRequest) -> int:
        """
        Reload.

        @raise MethodNotAllowed: for other methods than C{POST}.
        """
        require_method(request, "POST")
        done = Deferred.fromCoroutine(self._serve(request))
        done.addErrback(request.processingFailed)
        return NOT_DONE_YET

    async def _serve(self, request: ApiRequest) -> None:
        accepting = self._limiter.accept(request)
        if isinstance(accepting, Deferred):
            await accepting
        content = json.dumps({"status": "ok", "keys_loaded": self._reload()}).encode("ascii")
        if request.channel is not None:
            request.setHeader(b"Content-Type", b"application/json")
            request.setHeader(b"Content-Length", b"%d" % len(content))
            request.write(content)
            request.finish()
