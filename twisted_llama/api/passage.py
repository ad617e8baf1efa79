"""
One request on its way: from an accepted key to the last byte of the engine's
answer.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from twisted_llama.admission.gate import Gate
from twisted_llama.admission.ticket import Ticket
from twisted_llama.api.errors import note_error, render_error
from twisted_llama.api.limiter import Limiter
from twisted_llama.api.request import ApiRequest
from twisted_llama.api.running import RunningRequests
from twisted_llama.errors import Draining, EngineUnavailable, GatewayError
from twisted_llama.http.eager import eagerly
from twisted_llama.http.headers import engine_request_lines
from twisted_llama.http.pool import EnginePool
from twisted_llama.http.relay import Relay
from twisted_llama.http.upstream import EngineConnection
from twisted_llama.limits.decision import Decision

_CHEAP = frozenset({b"GET", b"HEAD", b"OPTIONS"})


@frozen
class ServedEngine:
    """
    An engine as requests see it.

    @ivar gate: who gives out its slots.
    @ivar pool: the connections to it.
    @ivar answers_now: whether it can be asked without waiting for it to load.
    @ivar identity: the C{Host} line for it, and the line with its key.
    """

    gate: Gate
    pool: EnginePool
    answers_now: Callable[[], bool]
    identity: Callable[[], bytes]


class Passage:
    """
    Waits for all that a request needs (its key's limit, its body, a slot, a
    connection), asks the engine, and leaves nothing behind, however it ends.

    Most requests need not wait for anything, and then no coroutine is
    suspended and no L{Deferred} made for them.

    @ivar principal: whose it is; C{None} with keys off.
    @ivar expiry: what ends it when its key expires.
    @ivar joined_at: when it joined the queue, if it had to wait.
    """

    __slots__ = (
        "_acceptance",
        "_body",
        "_ended_by",
        "_engine",
        "_gate",
        "_limiter",
        "_now",
        "_pick_engine",
        "_relay",
        "_repeatable",
        "_request",
        "_running",
        "_ticket",
        "_waiting",
        "expiry",
        "joined_at",
        "principal",
    )

    def __init__(
        self,
        request: ApiRequest,
        pick_engine: Callable[[], ServedEngine],
        limiter: Limiter,
        running: RunningRequests,
        now: Callable[[], float],
    ) -> None:
        """
        @param pick_engine: says which engine the request is for.
        @param now: the clock, in seconds.
        """
        self._request = request
        self._pick_engine = pick_engine
        self._limiter = limiter
        self._running = running
        self._now = now
        self.principal = request.principal
        self._engine: ServedEngine
        self.expiry: IDelayedCall | None = None
        self._body: list[bytes] = []
        self._ticket: Ticket | None = None
        self._relay: Relay | None = None
        self._repeatable = False
        self._waiting: Deferred[None] | None = None
        self._gate: Gate | None = None
        self.joined_at: float
        self._acceptance: Decision | None = None
        self._ended_by: GatewayError | None = None

    def begin(self) -> None:
        """
        Set out.
        """
        self._request.on_gone = self._leave
        self._running.begin(self)
        try:
            waiting = eagerly(self._get_ready())
        except Exception:
            self._fail(Failure())
        else:
            if waiting is not None:
                self._wait(waiting)

    def end(self, error: GatewayError) -> None:
        """
        See L{twisted_llama.api.running.Run.end}.
        """
        self._ended_by = error
        if self._relay is not None:
            self._relay.stop()
            self._answered(error)
        else:
            self._give_up()

    def _leave(self) -> None:
        """
        The client has left.
        """
        relay = self._relay
        if relay is not None:
            relay.stop()
            self._note(relay)
            self._over()
        else:
            self._give_up()

    def _give_up(self) -> None:
        """
        Wait no longer, whatever for.
        """
        if self._gate is not None:
            self._gate.give_up(self)
            self._turned_away(Failure(CancelledError()))
        elif self._waiting is not None:
            self._waiting.cancel()

    def _wait(self, waiting: Deferred[None]) -> None:
        self._waiting = waiting
        waiting.addErrback(self._fail)
        if self._request.channel is None:
            waiting.cancel()

    # -- before the engine is asked ------------------------------------------

    async def _get_ready(self) -> None:
        request = self._request
        accepting = self._limiter.accept(request)
        if accepting is None or isinstance(accepting, Decision):
            self._acceptance = accepting
        else:
            self._acceptance = await accepting
        try:
            reading = request.read_body()
            self._body = reading if isinstance(reading, list) else await reading
            self._engine = self._pick_engine()
            if request.method not in _CHEAP or not self._engine.answers_now():
                gate = self._engine.gate
                self._ticket = gate.admit(self._key_id(), self)
                if self._ticket is None:
                    self._gate = gate
                    if request.channel is None:
                        self._give_up()
                    return
            elif request.channel.site.draining:
                raise Draining(1)
        except BaseException:
            self._limiter.take_back(request, self._acceptance)
            raise
        asking = self._ask()
        if asking is not None:
            await asking

    def admitted(self, ticket: Ticket) -> None:
        """
        See L{twisted_llama.admission.ticket.Waiter}.
        """
        self._gate = None
        self._ticket = ticket
        self._request.exchange.queue_seconds = ticket.waited_seconds
        try:
            asking = self._ask()
        except Exception:
            # Answered, as in L{begin}; the gate, whose call this is, can do nothing about it.
            self._fail(Failure())
        else:
            if asking is not None:
                self._wait(asking)

    def turned_away(self, error: GatewayError) -> None:
        """
        See L{twisted_llama.admission.ticket.Waiter}.
        """
        self._turned_away(Failure(error))

    def _turned_away(self, failure: Failure) -> None:
        self._gate = None
        self._limiter.take_back(self._request, self._acceptance)
        self._fail(failure)

    def _key_id(self) -> str:
        """
        Who waits in turn with the others: a key, or without keys an address.
        """
        principal = self.principal
        return self._request.client_host if principal is None else principal.key_id

    # -- asking it ---------------------------------------------------------------

    def _ask(self) -> Deferred[None] | None:
        """
        Ask the engine, by a connection that is there or by a new one.

        @return: when it is asked; C{None} if it is.
        """
        connection = self._engine.pool.take()
        if connection is None:
            return eagerly(self._ask_anew())
        # What changes nothing may be asked twice: the engine may have closed
        # a kept connection at this very moment.
        self._repeatable = self._request.method in _CHEAP and not self._body
        self._ask_by(connection)
        return None

    async def _connect(self) -> EngineConnection:
        """
        Open a connection to the engine.

        @raise EngineUnavailable: if that fails, for whatever reason.
        """
        try:
            return await self._engine.pool.connect()
        except CancelledError:
            raise
        except Exception as error:
            raise EngineUnavailable(f"The engine cannot be reached: {error}") from error

    async def _ask_anew(self) -> None:
        self._ask_by(await self._connect())

    def _ask_by(self, connection: EngineConnection) -> None:
        request = self._request
        now = self._now
        self._relay = relay = Relay(request, connection, now, self._answered)
        exchange = request.exchange
        exchange.relayed = True
        exchange.overhead_seconds = now() - exchange.started - exchange.queue_seconds
        connection.ask(self._engine_head(), self._body, request.method == b"HEAD", relay)
        self._body = []

    def _engine_head(self) -> bytes:
        """
        The head of the request to the engine.
        """
        request = self._request
        head = request.head
        body = self._body
        if body or request.method not in _CHEAP:
            length_bytes = len(body[0]) if len(body) == 1 else sum(map(len, body))
            end = b"Content-Length: %d\r\n\r\n" % length_bytes
        else:
            end = b"\r\n"
        return (
            b"%b %b%b HTTP/1.1\r\n%b%bX-Request-Id: %b\r\n"
            b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n%b"
        ) % (
            request.method,
            request.path,
            request.query,
            self._engine.identity(),
            engine_request_lines(head),
            request.exchange.request_id,
            request.forwarded_for,
            request.forwarded_proto or (b"https" if request.channel.isSecure() else b"http"),
            end,
        )

    # -- how it ends -----------------------------------------------------------

    def _answered(self, error: GatewayError | None) -> None:
        """
        The engine's answer is passed on whole, or never will be.
        """
        request = self._request
        relay = self._relay
        assert relay is not None
        if error is None:
            self._note(relay)
            # First the slot is given back: the client's next request, if it is
            # there already, is begun by the end of this one.
            self._over()
            request.finish()
        elif (
            self._repeatable and isinstance(error, EngineUnavailable) and not relay.begun
        ) and self._ended_by is None:
            self._repeatable = False
            self._relay = None
            self._wait(Deferred.fromCoroutine(self._ask_anew()))
        elif relay.begun and request.channel is not None:
            self._note(relay)
            self._over()
            request.exchange.outcome = "cut"
            note_error(request.exchange, error)
            relay.break_off(render_error(error).body)
        else:
            self._note(relay)
            self._fail(Failure(error))

    def _fail(self, failure: Failure) -> None:
        """
        The engine was not asked, or has not answered.
        """
        request = self._request
        self._over()
        stopped = failure.check(CancelledError, GatewayError)
        if stopped and self._ended_by is not None:
            # What was cancelled may have failed in its own way.
            failure = Failure(self._ended_by)
        if request.channel is not None:
            request.processingFailed(failure)
        elif not stopped:
            request.log.failure(
                "While serving a client that has left ({request_id})",
                failure,
                request_id=request.exchange.request_id.decode("ascii"),
            )

    def _over(self) -> None:
        """
        Nothing is held for the request any more.
        """
        self._relay = self._waiting = None
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.release()
        self._running.over(self)

    def _note(self, relay: Relay) -> None:
        """
        Keep what the answer showed.
        """
        request = self._request
        exchange = request.exchange
        request.sentLength = relay.body_bytes
        if relay.first_byte_at is not None:
            exchange.first_byte_seconds = relay.first_byte_at - exchange.started
        if relay.first_body_at is not None and request.method == b"POST":
            exchange.first_token_seconds = relay.first_body_at - exchange.started
            exchange.tap = relay.tap
