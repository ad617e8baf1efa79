"""
One connection to Redis, kept open for as long as the service runs.

It differs from txredisapi's own connections, of which only the protocol is used: it is
handed its clock and endpoint instead of taking the global reactor; a connection counts
as open only after the log-in and a probe were answered, so that a Redis that hangs, is
still loading or may not be written to is not taken for a working one; and an outage is
told once, not at every attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from twisted_llama.errors import StartupError
from twisted_llama.limits.redis_address import RedisAddress

REPLY_SECONDS: Final = 0.5
FIRST_DELAY_SECONDS: Final = 0.25
LONGEST_DELAY_SECONDS: Final = 5.0

# txredisapi has no type information: its protocol is Any.
RedisProtocol: TypeAlias = Any


class RedisConnection:
    """
    Connects, logs in, probes, and does so again after every loss, until stopped.

    @ivar protocol: the open connection, or None.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        address: RedisAddress,
        probe: Callable[[RedisProtocol], Awaitable[object]],
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
    ) -> None:
        """
        @param probe: asks something of a new connection; it raises if the answer shows
            that the connection is of no use.
        @param on_up: called when the connection can be used.
        @param on_down: called with the reason whenever an attempt failed or the
            connection was lost.
        @raise StartupError: if txredisapi is not installed.
        """
        self._clock = clock
        self._endpoint = endpoint
        self._address = address
        self._probe = probe
        self._on_up = on_up
        self._on_down = on_down
        self._factory = Factory.forProtocol(_protocol_class())
        self._factory.noisy = False
        self._keeping: Deferred[None] | None = None
        self._wanted = False
        self.protocol: RedisProtocol | None = None

    def start(self) -> None:
        """
        Begin to connect.
        """
        self._wanted = True
        self._keeping = Deferred.fromCoroutine(self._keep_connected())

    def stop(self) -> Deferred[None]:
        """
        Close the connection and connect no more.

        @return: fires when the connection is closed.
        """
        self._wanted = False
        keeping, self._keeping = self._keeping, None
        if keeping is None:
            return succeed(None)
        keeping.cancel()
        return keeping.addErrback(_expect_cancelled)

    def give_up(self, protocol: RedisProtocol) -> None:
        """
        Close a connection that answers nothing or nonsense, and connect anew.
        """
        current = self.protocol
        if current is not None and current is protocol:
            self.protocol = None
            current.transport.abortConnection()

    async def _keep_connected(self) -> None:
        """
        Runs until it is cancelled.
        """
        failures = 0
        # An endpoint that is cancelled while it connects may fail with an error of its
        # own instead of CancelledError.
        while self._wanted:
            started = self._clock.seconds()
            try:
                await self._connect_once()
            except CancelledError:
                raise
            except Exception as problem:
                # Whatever it was, trying again is the cure, and the limits do not wait.
                if not self._wanted:
                    return
                self._on_down(describe(problem))
            if self._clock.seconds() - started > LONGEST_DELAY_SECONDS:
                failures = 0
            delay = min(FIRST_DELAY_SECONDS * 2 ** min(failures, 10), LONGEST_DELAY_SECONDS)
            failures += 1
            await deferLater(self._clock, delay)

    async def _connect_once(self) -> None:
        """
        Connect, and return when the connection was lost.
        """
        protocol: RedisProtocol = await self._endpoint.connect(self._factory)
        try:
            lost = protocol.whenDisconnected()
            answered = Deferred.fromCoroutine(self._log_in(protocol))
            await answered.addTimeout(REPLY_SECONDS, self._clock)
            self.protocol = protocol
            self._on_up()
            await lost
            self._on_down("the connection was lost")
        finally:
            self.protocol = None
            await self._close(protocol)

    async def _log_in(self, protocol: RedisProtocol) -> None:
        """
        Make the connection ready for use.
        """
        if self._address.password is not None:
            await protocol.auth(self._address.password, self._address.username)
        if self._address.db:
            await protocol.select(self._address.db)
        await self._probe(protocol)

    async def _close(self, protocol: RedisProtocol) -> None:
        """
        Close politely, or by force if the other side does not play along.
        """
        if not protocol.connected:
            return
        gone = protocol.whenDisconnected()
        force = self._clock.callLater(REPLY_SECONDS, protocol.transport.abortConnection)
        protocol.transport.loseConnection()
        try:
            await gone
        finally:
            # Also when stop() does not let us wait.
            if force.active():
                force.cancel()
            if protocol.connected:
                protocol.transport.abortConnection()


def describe(problem: BaseException) -> str:
    """
    One line that says what went wrong: some exceptions have no message.
    """
    return f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__


def _expect_cancelled(failure: Failure) -> None:
    """
    How the keeping of a connection ends.
    """
    failure.trap(CancelledError)


def _protocol_class() -> Any:
    """
    Imported only when a Redis is used: the package is an extra, and importing it chooses
    the global reactor, which is the edge's to choose.
    """
    try:
        from txredisapi import RedisProtocol
    except ImportError:
        raise StartupError(
            "REDIS_URL needs the package txredisapi: pip install 'twisted-llama[redis]'."
        ) from None
    return RedisProtocol
