"""
Relayed paths: from an accepted key to the last byte of the engine's answer.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twisted_llama.admission.gate import Gate
from twisted_llama.admission.ticket import Ticket
from twisted_llama.api.errors import note_error, render_error
from twisted_llama.api.limiter import Limiter
from twisted_llama.api.request import ApiRequest
from twisted_llama.api.running import Run, RunningRequests
from twisted_llama.errors import Draining, EngineUnavailable, GatewayError
from twisted_llama.http.headers import engine_request_lines
from twisted_llama.http.pool import EnginePool
from twisted_llama.http.relay import Relay
from twisted_llama.http.upstream import EngineConnection

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
        """
        run = Run(request.principal)
        work = Deferred.fromCoroutine(self._serve(request, run))
        if request.channel is not None and not work.called:
            run.attach(work)
            request.on_gone = work.cancel
        work.addErrback(self._failed, request, run)
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: ApiRequest, run: Run) -> None:
        stopped = failure.check(CancelledError, GatewayError)
        if stopped and run.ended_by is not None:
            # What was cancelled may have failed in its own way.
            failure = Failure(run.ended_by)
        if request.channel is not None:
            request.processingFailed(failure)
        elif not stopped:
            request.log.failure(
                "While serving a client that has left ({request_id})",
                failure,
                request_id=request.exchange.request_id.decode("ascii"),
            )

    async def _serve(self, request: ApiRequest, run: Run) -> None:
        over = self._running.begin(run)
        try:
            acceptance = await self._limiter.accept(request)
            try:
                reading = request.read_body()
                body = await reading if isinstance(reading, Deferred) else reading
                engine = self._engine()
                ticket = await self._admit(request, engine)
            except BaseException:
                if acceptance is not None:
                    acceptance.take_back()
                raise
            try:
                whole = await self._exchange(request, engine, body, run)
            finally:
                if ticket is not None:
                    ticket.release()
        finally:
            over()
        if whole:
            # Last of all: the client's next request, if it is there already, is
            # begun by this, and must find the slot given back.
            request.finish()

    async def _admit(self, request: ApiRequest, engine: ServedEngine) -> Ticket | None:
        """
        Wait for a slot, if the request needs one.
        """
        if request.method in _CHEAP and engine.answers_now():
            if request.channel.site.draining:
                raise Draining(1)
            return None
        key_id = request.client_host if request.principal is None else request.principal.key_id
        admitted = engine.gate.admit(key_id)
        ticket = await admitted if isinstance(admitted, Deferred) else admitted
        request.exchange.queue_seconds = ticket.waited_seconds
        return ticket

    async def _exchange(
        self, request: ApiRequest, engine: ServedEngine, body: list[bytes], run: Run
    ) -> bool:
        """
        Ask the engine and pass its answer on.

        @return: whether it was passed on whole; if not, it was broken off.
        """
        head = self._engine_head(request, engine, body)
        connection = engine.pool.take()
        # What changes nothing may be asked twice: the engine may have closed a
        # kept connection at this very moment.
        repeatable = connection is not None and request.method in _CHEAP and not body
        if connection is None:
            connection = await self._connect(engine.pool)
        relay = self._ask(request, connection, head, body)
        try:
            try:
                await relay.done
            except EngineUnavailable:
                if relay.begun or not repeatable:
                    raise
                relay = self._ask(request, await self._connect(engine.pool), head, body)
                await relay.done
        except (GatewayError, CancelledError) as error:
            self._note(request, relay)
            reason = run.ended_by or error
            if relay.begun and isinstance(reason, GatewayError) and request.channel is not None:
                request.exchange.outcome = "cut"
                note_error(request.exchange, reason)
                relay.break_off(render_error(reason).body)
                return False
            raise
        self._note(request, relay)
        return True

    async def _connect(self, pool: EnginePool) -> EngineConnection:
        """
        Open a connection to the engine.

        @raise EngineUnavailable: if that fails, for whatever reason.
        """
        try:
            return await pool.connect()
        except CancelledError:
            raise
        except Exception as error:
            raise EngineUnavailable(f"The engine cannot be reached: {error}") from error

    def _ask(
        self, request: ApiRequest, connection: EngineConnection, head: bytes, body: list[bytes]
    ) -> Relay:
        relay = Relay(request, connection, self._now)
        exchange = request.exchange
        exchange.relayed = True
        exchange.overhead_seconds = self._now() - exchange.started - exchange.queue_seconds
        connection.ask(head, body, request.method == b"HEAD", relay)
        return relay

    def _note(self, request: ApiRequest, relay: Relay) -> None:
        """
        Keep what the answer showed.
        """
        exchange = request.exchange
        request.sentLength = relay.body_bytes
        if relay.first_byte_at is not None:
            exchange.first_byte_seconds = relay.first_byte_at - exchange.started
        if relay.first_body_at is not None and request.method == b"POST":
            exchange.first_token_seconds = relay.first_body_at - exchange.started
            usage = relay.tap.read()
            exchange.model = usage.model
            exchange.prompt_tokens = usage.prompt_tokens
            exchange.generated_tokens = usage.generated_tokens
            exchange.generation_seconds = usage.generation_seconds

    def _engine_head(self, request: ApiRequest, engine: ServedEngine, body: list[bytes]) -> bytes:
        """
        The head of the request to the engine.
        """
        head = request.head
        lines = [
            b"%b %b%b HTTP/1.1\r\n" % (request.method, request.path, request.query),
            engine.identity(),
            *engine_request_lines(head),
            b"X-Request-Id: %b\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n"
            % (
                request.exchange.request_id,
                request.forwarded_for,
                b"https" if request.channel.isSecure() else b"http",
            ),
        ]
        host = head.first.get(b"host")
        if host is not None:
            lines.append(b"X-Forwarded-Host: %b\r\n" % host)
        if body or request.method not in _CHEAP:
            lines.append(b"Content-Length: %d\r\n\r\n" % sum(map(len, body)))
        else:
            lines.append(b"\r\n")
        return b"".join(lines)
