"""
Requests as they come and go: what each is given at its beginning, and who
hears of it at its end.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from itertools import count

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from twisted_llama.api.cors import Cors
from twisted_llama.api.errors import note_error, render_error
from twisted_llama.api.request import ApiRequest
from twisted_llama.api.routes import PUBLIC
from twisted_llama.errors import GatewayError, TooManyConnections
from twisted_llama.http.headers import Networks, forwarded_for, forwarded_proto
from twisted_llama.http.site import ErrorAnswer
from twisted_llama.telemetry.endpoints import endpoint_label
from twisted_llama.telemetry.exchange import Exchange

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

#: The status in logs and metrics of a request whose client left first.
CLIENT_GONE = 499


class RequestIds:
    """
    Makes ids that no other gateway makes: random once, then counted.
    """

    def __init__(self, prefix: bytes | None = None) -> None:
        self._prefix = prefix if prefix is not None else os.urandom(8).hex().encode("ascii")
        self._count = count(1)

    def next(self) -> bytes:
        """
        An id that was not made before.
        """
        return b"req-%b-%x" % (self._prefix, next(self._count))


class RequestWatcher:
    """
    See L{twisted_llama.http.site.Watcher}.
    """

    log = Logger()

    def __init__(
        self,
        cors: Cors,
        trusted_proxies: Networks,
        max_per_client: int,
        observed: Callable[[Exchange], object],
        now: Callable[[], float],
        wall_clock: Callable[[], float],
        ids: RequestIds,
    ) -> None:
        """
        @param max_per_client: how many requests one client may have under way
            through trusted proxies, whose connections are not counted.
        @param observed: told of each request once, when it is over and its answer is
            on its way.
        @param now: the clock for durations, in seconds.
        @param wall_clock: seconds since the epoch.
        """
        self._cors = cors
        self._trusted = trusted_proxies
        self._max_per_client = max_per_client
        self._under_way: Counter[str] = Counter()
        self._observed = observed
        self._now = now
        self._wall_clock = wall_clock
        self._ids = ids

    def begun(self, request: ApiRequest) -> None:
        """
        Give a request its id, its exchange, and the header lines of its answer.
        """
        first = request.head.first
        given = first.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            request_id = given
        else:
            request_id = self._ids.next()
        path = request.path
        request.exchange = Exchange(
            request.method,
            path,
            endpoint_label(path),
            request_id,
            self._now(),
            self._wall_clock(),
            public=path in PUBLIC,
        )
        lines = b"X-Request-Id: %b\r\n" % request_id
        if self._cors.enabled and b"origin" in first:
            lines += self._cors.lines(first[b"origin"])
        request.common_lines = lines
        peer = getattr(request.client, "host", "")
        if self._trusted:
            request.forwarded_for, request.client_host = forwarded_for(
                request.head, peer, self._trusted
            )
            request.forwarded_proto = forwarded_proto(request.head, peer, self._trusted)
            self._under_way[request.client_host] += 1
            if self._under_way[request.client_host] > self._max_per_client:
                request.objection = TooManyConnections(self._max_per_client)
        else:
            request.forwarded_for = peer.encode("ascii", "replace")
            request.client_host = peer

    def finished(self, request: ApiRequest, whole: bool) -> None:
        """
        Complete a request's exchange and pass it on.
        """
        if self._trusted:
            self._under_way[request.client_host] -= 1
            if not self._under_way[request.client_host]:
                del self._under_way[request.client_host]
        exchange = request.exchange
        exchange.finished = self._now()
        exchange.bytes_sent = request.sentLength
        if whole:
            if not exchange.status:
                exchange.status = request.code
        elif exchange.outcome != "cut":
            exchange.outcome = "client_gone"
            exchange.status = CLIENT_GONE
        self._observed(exchange)

    def refused(self, error: GatewayError, peer: IAddress) -> None:
        """
        Log what came instead of a request.
        """
        self.log.info(
            "Refused bytes from {peer} that are no request: {reason}",
            peer=getattr(peer, "host", "-"),
            reason=str(error),
        )

    def render_error(self, request: ApiRequest | None, error: BaseException) -> ErrorAnswer:
        """
        Put an error into the product's own form, and note it.
        """
        answer = render_error(error)
        if request is None:
            answer.headers.append((b"X-Request-Id", self._ids.next()))
        else:
            request.exchange.outcome = "refused"
            note_error(request.exchange, error)
        return answer
