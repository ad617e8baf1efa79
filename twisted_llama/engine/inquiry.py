"""
Small questions to an engine over HTTP, each on a connection of its own.

They are about the engine's health, never on the way of a client's request.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Protocol, cast

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    FileBodyProducer,
    HTTPConnectionPool,
    _HTTP11ClientFactory,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse

_MAX_ANSWER_BYTES = 4 * 1024 * 1024


@frozen
class Answer:
    """
    What an engine answered.
    """

    status: int
    body: bytes


class Inquiry(Protocol):
    """
    Something that can ask an engine.
    """

    async def ask(
        self, method: bytes, path: bytes, *, with_key: bool = True, body: bytes | None = None
    ) -> Answer | None:
        """
        @return: the answer, or L{None} if there was none in time.
        """


class _BoundedBody(StreamProtocol):
    """
    Collects a body, up to a limit.
    """

    def __init__(self, finished: Deferred[bytes]) -> None:
        self._finished = finished
        self._received = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """
        More of the body came.
        """
        self._received += data
        if len(self._received) > _MAX_ANSWER_BYTES:
            self.give_up()

    def give_up(self) -> None:
        """
        Close the connection; what came so far is the answer.
        """
        if self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        The body is complete, or there is no more of it.
        """
        if not self._finished.called:
            self._finished.callback(bytes(self._received))


def _collect(response: IResponse) -> Deferred[bytes]:
    protocol: _BoundedBody
    finished: Deferred[bytes] = Deferred(lambda _: protocol.give_up())
    protocol = _BoundedBody(finished)
    response.deliverBody(protocol)
    return finished


class HttpInquiry:
    """
    Asks over HTTP.

    @param agent: what makes the connections, see L{single_use_agent}.
    @param clock: for the timeout.
    @param address: the engine's host and port.
    @param key: its API key.
    @param timeout_seconds: for the whole of one question.
    """

    def __init__(
        self,
        agent: IAgent,
        clock: IReactorTime,
        *,
        address: tuple[str, int],
        key: str | None,
        timeout_seconds: float,
    ) -> None:
        host, port = address
        name = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
        self._agent = agent
        self._clock = clock
        self._origin = f"http://{name}:{port}".encode("ascii")
        self._key = key
        self._timeout_seconds = timeout_seconds

    async def ask(
        self, method: bytes, path: bytes, *, with_key: bool = True, body: bytes | None = None
    ) -> Answer | None:
        """
        Ask once.

        @return: the answer, or L{None} if there was none in time.
        """
        asked = Deferred.fromCoroutine(self._ask(method, path, with_key, body))
        asked.addTimeout(self._timeout_seconds, self._clock)
        try:
            return await _plainly_cancelled(asked)
        except CancelledError:
            raise
        except Exception:
            # Refused, reset, garbled or too slow: all mean that it does not answer.
            return None

    async def _ask(self, method: bytes, path: bytes, with_key: bool, body: bytes | None) -> Answer:
        headers = Headers()
        if with_key and self._key is not None:
            headers.setRawHeaders(b"Authorization", [b"Bearer " + self._key.encode()])
        producer = None
        make_producer = cast("Callable[..., IBodyProducer]", FileBodyProducer)
        if body is not None:
            headers.setRawHeaders(b"Content-Type", [b"application/json"])
            producer = make_producer(BytesIO(body), cooperator=_Immediate())
        response = await self._agent.request(method, self._origin + path, headers, producer)
        return Answer(response.code, await _collect(response))


class _Immediate:
    """
    Writes a small body at once; the real cooperator needs the global reactor.
    """

    def cooperate(self, iterator: object) -> _Immediate:
        for _ in cast("list[object]", iterator):
            pass
        return self

    def whenDone(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def stop(self) -> None:
        """
        There is nothing left to stop.
        """

    pauseProducing = resumeProducing = stop


def _plainly_cancelled(asked: Deferred[Answer]) -> Deferred[Answer]:
    # An Agent that is cancelled fails with one of several errors of its own, which
    # would look like an engine that does not answer, and the asker would go on.
    given_up = False

    def cancel(_: Deferred[Answer]) -> None:
        nonlocal given_up
        given_up = True
        asked.cancel()

    plain: Deferred[Answer] = Deferred(cancel)

    def pass_on(result: Answer | Failure) -> None:
        if not given_up:
            plain.callback(result)

    asked.addBoth(pass_on)
    return plain


class _QuietConnection(_HTTP11ClientFactory):
    """
    A connection whose beginning and end are not worth lines of a log.
    """

    noisy = False


class _QuietPool(HTTPConnectionPool):
    """
    Makes quiet connections.
    """

    _factory = _QuietConnection


def single_use_agent(reactor: object, connect_timeout_seconds: float) -> IAgent:
    """
    @return: an agent that keeps no connection open after its answer.
    """
    make_agent = cast("Callable[..., IAgent]", Agent)
    return make_agent(
        reactor,
        connectTimeout=connect_timeout_seconds,
        pool=_QuietPool(reactor, persistent=False),
    )
