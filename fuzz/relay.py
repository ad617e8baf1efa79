"""
What the engine answers: any bytes, in any pieces, until it closes, breaks off or
falls silent.

Promises: the client gets one answer, and a proper one, or the beginning of one and
then no proper end; where nothing was sent yet, an error that says that the engine is
to blame; what is passed on is what an independent reading of the engine's bytes
gives; the slot is given back once; and a connection is used again only if its
answer was whole, said so by itself, and nothing came behind it.
"""

from __future__ import annotations

from functools import cache

from fuzz.answers import Answer, read_answers, read_engine_requests
from fuzz.engine_answers import Reading, read_engine_answer
from fuzz.engine_side import ENGINE_HOST
from fuzz.gateway import ENGINE_KEY, KEY, Gateway
from fuzz.script import read_script
from fuzz.wires import Wire

PIECES = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 304 Not Modified\r\n",
    b"HTTP/1.1 500 \r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    b"Content-Type: text/event-stream\r\n",
    b"Content-Type: application/json\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: ",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: x-secret, content-type\r\n",
    b"X-Secret: y\r\n",
    b"X-Request-Id: of the engine\r\n",
    b"Access-Control-Allow-Origin: *\r\n",
    b"Vary: Origin\r\n",
    b"Date: Sat, 01 Jan 2028 00:00:00 GMT\r\n",
    b"\r\n",
    b"5\r\nhello\r\n",
    b"hello",
    b"9\r\ndata: x\n\n\r\n",
    b"e\r\ndata: [DONE]\n\n\r\n",
    b"0\r\n\r\n",
    b"0\r\nX: y\r\n\r\n",
    b"5;a=b\r\nhello\r\n",
    b'5;a="b"\r\nhello\r\n',
    b"5 \r\nhello\r\n",
    b"05\r\nhello\r\n",
    b"400\r\n" + b"x" * 1024 + b"\r\n",
    b"x" * 64,
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Transfer-Encoding: identity\r\n",
    b" folded\r\n",
    b"X: " + b"y" * 1000 + b"\r\n",
    b'43\r\ndata: {"usage":{"prompt_tokens":1,"completion_tokens":2},"model":"m"}\n\n\r\n',
    b"Upgrade: h2c\r\n",
    b"Trailer: X\r\n",
    b"Keep-Alive: timeout=5, max=100\r\n",
    b"\xff\xfe",
]
EVENTS = [
    "cut",
    "closes",
    "breaks off",
    "a moment passes",
    "seconds pass",
    "a minute passes",
    "the client reads no more",
    "the client reads again",
    "the client leaves",
    "the client sends more",
]
REQUEST_TIMEOUT = 30
SETTINGS = {
    "max_requests_per_minute": 100_000,
    "max_concurrent_requests": 1,
    "request_timeout": REQUEST_TIMEOUT,
    "relay_buffer_bytes": 65_536,
    "client_write_timeout": 45,
}
#: How the client asks: the method, the version, and whether the engine's
#: connection has been used before.
WAYS = [
    (method, version, used)
    for used in (False, True)
    for method in (b"POST", b"GET", b"HEAD")
    for version in (b"HTTP/1.1", b"HTTP/1.0")
]
#: One read that was on its way when the client stopped reading, and what is put round it.
HELD_BYTES = 65536 + 4096
_WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@cache
def gateway() -> Gateway:
    """
    The gateway of all executions.
    """
    return Gateway(**SETTINGS)


def check(octets: bytes) -> None:
    """
    See the module.  The first byte says how the client asks.
    """
    if not octets:
        return
    method, version, used = WAYS[octets[0] % len(WAYS)]
    world = gateway()
    world.begin()
    try:
        exchange = Exchange(world, method, version, used)
        for step in read_script(octets[1:], PIECES, EVENTS):
            exchange.take(step)
        exchange.close()
    finally:
        world.end()


def request(method: bytes, version: bytes) -> bytes:
    """
    A request that a key opens the engine for.
    """
    body = b"Content-Length: 2\r\n\r\n{}" if method == b"POST" else b"\r\n"
    return b"%b /v1/x %b\r\nHost: a\r\nAuthorization: Bearer %b\r\n%b" % (
        method,
        version,
        KEY,
        body,
    )


class Exchange:
    """
    One request, and whatever the engine says to it.
    """

    def __init__(self, world: Gateway, method: bytes, version: bytes, used: bool) -> None:
        self._world = world
        self._method = method
        self._version = version
        self._left = self._ahead = False
        self._began = world.reactor.seconds()
        self._engine_end = "open"
        if used:
            self._ask_before()
        self._read_before = len(world.engines[-1].read) if used else 0
        self._client = world.client()
        self._client.give(request(method, version))
        world.settle()
        self._wire = world.engines[-1]
        assert world.graph.gate.active <= 1
        assert self._wire.sent, "the engine was not asked"

    def _ask_before(self) -> None:
        """
        Have a connection to the engine that waits.
        """
        client = self._world.client()
        client.give(request(b"GET", b"HTTP/1.1"))
        self._world.engines[-1].give(_WHOLE)
        self._world.settle()
        assert self._world.graph.pool.idle == 1

    def take(self, step: bytes | str) -> None:
        """
        One step of the script.
        """
        world, client = self._world, self._client
        wire = world.engines[-1]
        self._follow()
        if isinstance(step, bytes):
            wire.give(step)
        elif step == "closes" or step == "breaks off":
            if not wire.lost:
                self._engine_end = step
            wire.leave(cleanly=step == "closes")
        elif step == "a moment passes":
            world.pass_time(0.3)
        elif step == "seconds pass":
            world.pass_time(12)
        elif step == "a minute passes":
            world.pass_time(70)
        elif step == "the client reads no more":
            client.fill()
        elif step == "the client reads again":
            client.drain()
        elif step == "the client leaves":
            client.leave()
            self._left = True
        else:
            client.give(request(b"GET", b"HTTP/1.1")[:30])
            self._ahead = True
        world.settle()
        if client.blocked_bytes and not wire.lost and not self._over:
            assert wire.paused, "a client takes nothing, and the engine is read"
        assert client.blocked_bytes <= HELD_BYTES, f"{client.blocked_bytes} bytes are held"
        if self._left:
            pool = self._world.graph.pool
            kept = pool.idle or pool.settling
            assert wire.lost or kept, "nobody wants this answer any more"

    def close(self) -> None:
        """
        The script is over: whatever is open ends by time.
        """
        world, client = self._world, self._client
        client.drain()
        world.settle()
        self._follow()
        settled, late = self._over, self._late
        if not settled:
            world.pass_time(100)
            world.pass_time(100)
            self._follow()
        world.check_log()
        world.check_at_rest()
        reading = read_engine_answer(
            bytes(self._wire.read[self._read_before :]), self._method, self._engine_end
        )
        asked = bytes(client.read)
        answers = read_answers(bytes(client.sent), int(self._method == b"HEAD"), client.finished)
        if self._left or (client.ended == "abort" and self._late):
            # Nobody to be told, or one who took nothing.
            return
        assert answers, f"no answer to {asked!r}; the engine said {reading!r}"
        if not late:
            # Whatever shows what becomes of the answer is seen at once.
            shown = reading.state in ("whole", "broken") or self._engine_end != "open"
            assert settled or not shown, f"nothing came of {reading!r}"
        self._check(answers[0], reading)
        if settled and not client.lost and not client.ended and not self._ahead:
            self._check_next(reading)

    def _follow(self) -> None:
        """
        What may be asked twice is asked again on a connection of its own, if an old one gave no
        answer; that one counts then.
        """
        wire = self._world.engines[-1]
        if wire is not self._wire:
            assert self._method != b"POST", "asked twice"
            assert not self._client.sent, "asked again after the answer had begun"
            self._wire, self._read_before, self._engine_end = wire, 0, "open"

    @property
    def _late(self) -> bool:
        """
        Whether the engine may have been silent for too long.
        """
        return self._world.reactor.seconds() - self._began >= REQUEST_TIMEOUT

    @property
    def _over(self) -> bool:
        return len(self._world.graph.running) == 0

    def _check(self, answer: Answer, reading: Reading) -> None:
        """
        The answer against the independent reading.
        """
        code = answer.code
        if self._method == b"HEAD" and answer.status != reading.status:
            code = {502: "engine_unavailable", 504: "engine_timeout"}.get(answer.status)
        ours = code in ("engine_unavailable", "engine_timeout")
        if reading.state == "whole":
            if ours and self._late and code == "engine_timeout":
                return
            assert not ours, f"refused: {answer!r}; the engine said {reading!r}"
            assert answer.status == reading.status, (answer, reading)
            body = b"" if self._method == b"HEAD" else reading.payload
            assert answer.whole, (answer, reading)
            assert answer.body == body, (answer, reading)
            self._check_fields(answer, reading)
        elif reading.status and not ours:
            assert answer.status == reading.status, (answer, reading)
            body, mark, _ = answer.body.partition(b'data: {"error": ')
            # Where only the connection's end shows the body's, the event says it.
            whole = answer.whole and (answer.self_ending or not mark)
            assert not whole, f"taken for whole: {answer!r}; the engine said {reading!r}"
            if mark:
                # An event that was cut in two is ended first.
                body = body.removesuffix(b"\n\n") if not reading.payload.startswith(body) else body
                assert b"[DONE]" not in answer.body or b"[DONE]" in reading.payload
            assert reading.payload.startswith(body), (answer, reading)
        else:
            assert ours, f"{answer!r}; the engine said {reading!r}"
            assert answer.status == (504 if code == "engine_timeout" else 502), answer
            assert code == "engine_unavailable" or self._late, "no time has passed"

    def _check_fields(self, answer: Answer, reading: Reading) -> None:
        """
        The header fields against those of the engine.
        """
        dropped = reading.named_by_connection
        for name, value in answer.fields:
            if name in reading.fields and name in dropped:
                raise AssertionError(f"{name!r} belongs to the engine's connection: {value!r}")
        assert b"of the engine" not in answer.all(b"x-request-id")[0]
        assert not answer.all(b"upgrade")
        assert not answer.all(b"trailer")
        assert not answer.all(b"keep-alive")

    def _check_next(self, reading: Reading) -> None:
        """
        The next request: on which connection, and with which answer.
        """
        world, client = self._world, self._client
        before, sent = self._wire, len(client.sent)
        reusable = reading.reusable and not before.lost
        client.give(request(b"POST", b"HTTP/1.1"))
        world.settle()
        wire = world.engines[-1]
        if wire is before:
            assert reusable, f"used again after {reading!r}"
        asked = read_engine_requests(bytes(wire.sent), ENGINE_HOST, ENGINE_KEY)
        assert asked[-1].body == b"{}"
        assert world.graph.gate.active == 1, world.graph.gate.active
        self._check_one_slot(wire)
        wire.give(_WHOLE)
        world.settle()
        (answer,) = read_answers(bytes(client.sent[sent:]), 0, False)
        assert (answer.status, answer.body) == (200, b"{}"), answer
        assert world.graph.gate.active == 0, world.graph.gate.active

    def _check_one_slot(self, wire: Wire) -> None:
        """
        There is one, however often the last one was given back.
        """
        world = self._world
        other = world.client("192.0.2.8")
        engines = len(world.engines)
        other.give(request(b"POST", b"HTTP/1.1"))
        world.settle()
        assert world.graph.gate.waiting == 1, "more slots than there are"
        assert len(world.engines) == engines
        other.leave()
        world.settle()
