"""
What is counted, as plain integers and lists.

The library's own C{Counter} and C{Histogram} take a lock and look up labels for every
increment, ten times what these cost; here everything happens in the reactor's thread.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from .endpoints import ENDPOINTS, OTHER
from .exchange import Exchange

DURATION_BOUNDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0),
)
FIRST_TOKEN_BOUNDS: Final = (
    *(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
OVERHEAD_BOUNDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
WAIT_BOUNDS: Final = (0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

REJECTION_REASONS: Final = ("draining", "model_loading", "queue_full", "queue_timeout")
AUTH_FAILURE_REASONS: Final = (
    *("expired", "held_off", "malformed", "missing", "no_keys", "unknown"),
)
OTHER_REASON: Final = "other"
_NO_VALID_KEY: Final = ("invalid_api_key", "too_many_invalid_keys")
_MOST_ERROR_TYPES: Final = 64


class Histogram:
    """
    Observations, counted by the upper bounds they do not exceed.

    @ivar bounds: the upper bounds, ascending; one more, infinite, is implied.
    @ivar counts: how many fell below each bound and above the one before.
    @ivar total: the sum of all observations.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """
        Count an observation.
        """
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class EndpointTally:
    """
    What is counted for one endpoint.

    @ivar statuses: requests by status.
    @ivar durations: seconds from a request's begin to its end.
    @ivar first_tokens: seconds from a request's begin to its first token.
    """

    __slots__ = ("durations", "first_tokens", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.durations = Histogram(DURATION_BOUNDS)
        self.first_tokens = Histogram(FIRST_TOKEN_BOUNDS)


class Tallies:
    """
    Everything that finished exchanges are counted in.  Only L{add} changes it.

    @ivar endpoints: by label of the endpoint; those seen so far.
    @ivar errors: by the code of our own error, or else by what went wrong.
    @ivar requests_malformed: those too broken to name a path, which are
        counted nowhere else.
    """

    def __init__(self) -> None:
        self.endpoints: dict[str, EndpointTally] = {}
        self.requests_total = 0
        self.requests_success = 0
        self.requests_authenticated = 0
        self.requests_unauthorized = 0
        self.requests_malformed = 0
        self.rate_limited = 0
        self.client_disconnects = 0
        self.bytes_sent = 0
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.errors: dict[str, int] = {}
        self.rejections = dict.fromkeys(REJECTION_REASONS, 0)
        self.auth_failures = dict.fromkeys((*AUTH_FAILURE_REASONS, OTHER_REASON), 0)
        self.generation = Histogram(DURATION_BOUNDS)
        self.overhead = Histogram(OVERHEAD_BOUNDS)
        self.queue_wait = Histogram(WAIT_BOUNDS)

    def add(self, exchange: Exchange) -> None:
        """
        Count a finished exchange.
        """
        self.bytes_sent += exchange.bytes_sent
        if not exchange.named_path:
            self.requests_malformed += 1
            return
        tally = self.endpoints.get(exchange.endpoint)
        if tally is None:
            tally = self._new_endpoint(exchange.endpoint)
        status = exchange.status
        tally.statuses[status] = tally.statuses.get(status, 0) + 1
        tally.durations.add(exchange.finished - exchange.started)
        self.requests_total += 1
        if exchange.authenticated:
            self.requests_authenticated += 1
        if exchange.relayed:
            self._add_relayed(exchange, tally)
        if status < 400 and exchange.outcome == "complete":
            self.requests_success += 1
        else:
            self._add_error(exchange)

    def _new_endpoint(self, label: str) -> EndpointTally:
        if label not in ENDPOINTS:
            label = OTHER
        return self.endpoints.setdefault(label, EndpointTally())

    def _add_relayed(self, exchange: Exchange, tally: EndpointTally) -> None:
        self.queue_wait.add(exchange.queue_seconds)
        if exchange.overhead_seconds is not None:
            self.overhead.add(exchange.overhead_seconds)
        if exchange.first_token_seconds is not None:
            tally.first_tokens.add(exchange.first_token_seconds)
        if exchange.generation_seconds is not None:
            self.generation.add(exchange.generation_seconds)
        if exchange.generated_tokens is not None:
            self.generated_tokens += exchange.generated_tokens
        if exchange.prompt_tokens is not None:
            self.prompt_tokens += exchange.prompt_tokens

    def _add_error(self, exchange: Exchange) -> None:
        code = exchange.error_code
        if code in _NO_VALID_KEY:
            self.requests_unauthorized += 1
            reason = exchange.error_reason
            if reason not in self.auth_failures:
                reason = OTHER_REASON
            self.auth_failures[reason or OTHER_REASON] += 1
        elif code == "rate_limit_exceeded":
            self.rate_limited += 1
        elif code in self.rejections:
            self.rejections[code] += 1
            if not exchange.relayed:
                self.queue_wait.add(exchange.queue_seconds)
        if exchange.outcome == "client_gone":
            self.client_disconnects += 1
            kind = "client_disconnected"
        elif code is not None:
            kind = code
        elif exchange.outcome == "cut":
            kind = "response_cut"
        else:
            kind = "status_5xx" if exchange.status >= 500 else "status_4xx"
        if kind not in self.errors and len(self.errors) >= _MOST_ERROR_TYPES:
            kind = OTHER_REASON
        self.errors[kind] = self.errors.get(kind, 0) + 1
