"""
The windows of all gateways that name one Redis.

The gateway's own windows are asked first, and then Redis.  So its own never let through
more than the limit, whatever happens to Redis; a key that is over its limit here costs
Redis nothing; and when Redis is lost, its windows here are not empty but hold what this
gateway accepted.  The local decision is there already when Redis fails, so a failure can
neither delay a request for long nor let one pass that the limit forbids.
"""

from __future__ import annotations

import secrets
from itertools import count
from typing import Final

from attrs import evolve, frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger

from twisted_llama.limits.decision import Decision
from twisted_llama.limits.memory import MemoryLimits
from twisted_llama.limits.redis_address import IRedisReactor, parse_redis_url, redis_endpoint
from twisted_llama.limits.redis_connection import (
    REPLY_SECONDS,
    RedisConnection,
    RedisProtocol,
    describe,
)
from twisted_llama.limits.redis_script import TAKE
from twisted_llama.limits.window import WINDOW_SECONDS

_MICROSECONDS: Final = 1_000_000
_WINDOW_MICROSECONDS: Final = int(WINDOW_SECONDS) * _MICROSECONDS
_PROBE_LIMIT: Final = 1_000_000


@frozen
class _SharedStamp:
    """
    An acceptance in both places.

    @ivar local: the decision of this gateway's own windows.
    @ivar member: its name in Redis' window, if Redis was asked.
    """

    local: Decision
    member: str | None


class RedisLimits(Service):
    """
    Limits shared through Redis; while it cannot be reached this gateway's own decide.

    @ivar fallbacks: how many decisions were made without it.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IRedisReactor,
        url: str,
        local: MemoryLimits,
        prefix: str = "twisted_llama:limit:",
    ) -> None:
        """
        @param url: C{REDIS_URL}; see L{twisted_llama.limits.redis_address}.
        @param local: the windows of this gateway.
        @param prefix: what the names of our keys in Redis begin with.
        @raise StartupError: if the URL cannot be used or txredisapi is not installed.
        """
        self.fallbacks = 0
        self._clock = reactor
        self._address = parse_redis_url(url)
        self._local = local
        self._prefix = prefix
        # Two gateways must never name two acceptances alike.
        self._origin = secrets.token_hex(8)
        self._serials = count()
        self._in_outage = False
        self._connection = RedisConnection(
            reactor,
            redis_endpoint(reactor, self._address),
            self._address,
            self._probe,
            self._when_up,
            self._when_down,
        )

    @property
    def connected(self) -> bool:
        """
        Whether Redis decides at present.
        """
        return self._connection.protocol is not None

    def startService(self) -> None:
        """
        Begin to connect; a Redis that is down does not hinder the start.
        """
        super().startService()
        self._connection.start()

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when the connection is closed.
        """
        super().stopService()
        return self._connection.stop()

    def take(self, key_id: str, limit: int) -> Deferred[Decision]:
        """
        Accept one more request of a key if its limit allows it.

        Cancelling the result gives the acceptance back.

        @param limit: accepted requests per minute.
        @return: a Deferred that does not fail.
        """
        local = self._local.take(key_id, limit)
        protocol = self._connection.protocol
        if protocol is None:
            self.fallbacks += 1
        elif local.allowed:
            return Deferred.fromCoroutine(self._take_there(protocol, key_id, local))
        return succeed(evolve(local, stamp=_SharedStamp(local, None)))

    def give_back(self, key_id: str, decision: Decision) -> None:
        """
        The request was refused later, so it does not count.  Harmless for a decision
        that did not allow it, and when said twice.
        """
        stamp = decision.stamp
        if decision.allowed and isinstance(stamp, _SharedStamp):
            self._give_back(key_id, stamp)

    async def _take_there(self, protocol: RedisProtocol, key_id: str, local: Decision) -> Decision:
        """
        Ask Redis for what the local windows have accepted.
        """
        stamp = _SharedStamp(local, f"{self._origin}{next(self._serials):x}")
        try:
            asked = self._ask(protocol, key_id, local.limit, stamp.member)
            accepted, counted, retry, reset = await asked.addTimeout(REPLY_SECONDS, self._clock)
        except CancelledError:
            self._give_back(key_id, stamp)
            raise
        except Exception as problem:
            # No failure of Redis may refuse a request or let one pass.  The stamp keeps
            # the member: the script may have run and only its answer be lost.
            self.fallbacks += 1
            self._when_down(describe(problem))
            self._connection.give_up(protocol)
            return evolve(local, stamp=stamp)
        if not accepted:
            self._local.give_back(key_id, local)
            return Decision(False, local.limit, 0, retry / _MICROSECONDS, reset / _MICROSECONDS)
        remaining = max(0, min(local.remaining, local.limit - counted))
        return evolve(local, remaining=remaining, stamp=stamp)

    def _ask(
        self, protocol: RedisProtocol, key_id: str, limit: int, member: str | None
    ) -> Deferred[list[int]]:
        """
        Run the script.
        """
        key = self._prefix + key_id
        asked: Deferred[list[int]] = protocol.eval(
            TAKE, [key], [limit, _WINDOW_MICROSECONDS, member]
        )
        return asked

    def _give_back(self, key_id: str, stamp: _SharedStamp) -> None:
        """
        Take an acceptance out of both places.
        """
        self._local.give_back(key_id, stamp.local)
        protocol = self._connection.protocol
        if stamp.member is None or protocol is None:
            return
        removed = protocol.zrem(self._prefix + key_id, stamp.member)
        # If it fails, one request counts too much for a minute; the next take tells why.
        removed.addErrback(lambda _: None)

    async def _probe(self, protocol: RedisProtocol) -> None:
        """
        Run the script once on a window of its own: that Redis answers a ping does not
        say that it may be written to, or that scripts are allowed.
        """
        member = f"{self._origin}probe"
        accepted, _, _, _ = await self._ask(protocol, ":probe", _PROBE_LIMIT, member)
        if not accepted:
            raise ValueError("the probe was refused")

    def _when_up(self) -> None:
        if self._in_outage:
            self.log.info("Redis at {address} decides about limits again.", address=self._address)
        else:
            self.log.info("Limits are shared through Redis at {address}.", address=self._address)
        self._in_outage = False

    def _when_down(self, reason: str) -> None:
        if self._in_outage or not self.running:
            return
        self._in_outage = True
        self.log.warn(
            "Redis at {address} cannot be used ({reason}): until it is back the limits of each "
            "gateway count alone. Check REDIS_URL and that Redis runs.",
            address=self._address,
            reason=reason,
        )
