"""
Connections to the engine, and what is made of its answers.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError, UserError
from twisted.internet.protocol import ClientFactory
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.http.bench import NO_EPOLL, Bench, Wire, get, statuses
from tests.http.splits import split
from twisted_llama.errors import EngineTimeout, EngineUnavailable, GatewayError
from twisted_llama.http.deadlines import Deadlines
from twisted_llama.http.framing import BodyFraming
from twisted_llama.http.pool import MAX_IDLE, EnginePool
from twisted_llama.http.relay import Relay
from twisted_llama.http.response_head import ResponseHead
from twisted_llama.http.turn import Turn
from twisted_llama.http.upstream import EngineConnection

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Answered:
    """
    Notes what the engine answers.
    """

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.payload = b""
        self.whole = False
        self.error: GatewayError | None = None

    def begins(
        self, head: ResponseHead, length_bytes: int | None, framing: BodyFraming | None
    ) -> None:
        assert self.head is None
        self.head = head

    def continues(self, data: bytes, payload: bytes) -> None:
        assert not self.over
        self.payload += payload

    def ended(self) -> None:
        assert not self.over
        self.whole = True

    def failed(self, error: GatewayError) -> None:
        assert not self.over
        self.error = error

    @property
    def over(self) -> bool:
        return self.whole or self.error is not None


class Engine:
    """
    A pool, and what it connects to.
    """

    def __init__(self, silence_seconds: float = 10.0) -> None:
        self.clock = Clock()
        self.factories: list[ClientFactory] = []
        self.stopped = 0
        deadlines = Deadlines(self.clock)
        self.pool = EnginePool(
            self._connect, deadlines, Turn(self.clock), NO_EPOLL, silence_seconds
        )

    def _connect(self, factory: ClientFactory) -> None:
        self.factories.append(factory)
        factory.startedConnecting(self)  # type: ignore[arg-type]  # an IConnector as far as used

    def stopConnecting(self) -> None:
        self.stopped += 1
        self.factories[-1].clientConnectionFailed(self, Failure(UserError()))  # type: ignore[arg-type]

    def connected(self) -> tuple[EngineConnection, Wire]:
        """
        A new connection, and the engine's end of it.
        """
        made: list[EngineConnection] = []
        self.pool.connect().addCallback(made.append)
        wire = Wire()
        wire.connect(self.factories[-1].buildProtocol(wire.peer))
        return made[0], wire

    def asked(
        self, method: bytes = b"POST", *body: bytes
    ) -> tuple[EngineConnection, Wire, Answered]:
        """
        A new connection on which something was asked.
        """
        connection, wire = self.connected()
        answered = Answered()
        connection.ask(method + b" / HTTP/1.1\r\n\r\n", list(body), method == b"HEAD", answered)
        return connection, wire, answered

    def pass_time(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(0.25)


def test_question_and_answer() -> None:
    engine = Engine()
    connection, wire, answered = engine.asked(b"POST", b"small")
    assert wire.sent == b"POST / HTTP/1.1\r\n\r\nsmall"
    wire.protocol.dataReceived(OK)
    assert answered.whole
    assert answered.payload == b"ok"
    assert engine.pool.idle == 1
    assert engine.pool.take() is connection
    assert engine.pool.take() is None


STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"9\r\ndata: x\n\n\r\n0\r\n\r\n"
)


def test_after_a_stream_a_connection_has_to_settle() -> None:
    """The engine may be about to close it, whatever its head said."""
    engine = Engine()
    connection, wire, answered = engine.asked()
    wire.protocol.dataReceived(STREAM)
    assert answered.whole
    assert engine.pool.take() is None
    engine.pass_time(1.25)
    assert engine.pool.take() is connection
    engine.pool.give_back(connection)
    engine.pass_time(4)
    assert wire.ended == "abort"
    assert engine.pool.idle == 0


def test_closed_by_the_engine_while_it_settles() -> None:
    engine = Engine()
    _, wire, _ = engine.asked()
    wire.protocol.dataReceived(STREAM)
    wire.lose()
    engine.pass_time(1.25)
    assert engine.pool.take() is None


def test_an_engine_that_closes_after_streams_is_known_from_then_on() -> None:
    """Nothing of it is used again, however late it closes."""
    engine = Engine()
    wires = [engine.asked()[1] for _ in range(3)]
    for wire in wires[:2]:
        wire.protocol.dataReceived(STREAM)
    wires[0].lose()
    assert wires[1].ended == "abort"
    wires[2].protocol.dataReceived(STREAM)
    assert wires[2].ended == "abort"
    engine.pass_time(1.25)
    assert engine.pool.take() is None


def test_an_engine_that_keeps_connections_after_streams_is_known_too() -> None:
    """From the first that has settled on; until one is closed after all."""
    engine = Engine()
    asked = [engine.asked() for _ in range(4)]
    asked[0][1].protocol.dataReceived(STREAM)
    engine.pass_time(1.25)
    for _, wire, _ in asked[1:3]:
        wire.protocol.dataReceived(STREAM)
    assert (engine.pool.idle, engine.pool.settling) == (3, 0)
    assert engine.pool.take() is asked[2][0]
    asked[1][1].lose()
    assert asked[0][1].ended == "abort"
    assert (engine.pool.idle, engine.pool.settling) == (0, 0)
    asked[3][1].protocol.dataReceived(STREAM)
    assert asked[3][1].ended == "abort"


def test_the_next_engine_may_be_another() -> None:
    engine = Engine()
    wires = [engine.asked()[1] for _ in range(3)]
    for wire in wires[:2]:
        wire.protocol.dataReceived(STREAM)
    wires[0].lose()
    engine.pool.close()
    wires[2].protocol.dataReceived(STREAM)
    assert (engine.pool.idle, engine.pool.settling) == (0, 1)


def test_a_word_while_it_settles() -> None:
    engine = Engine()
    _, wire, _ = engine.asked()
    wire.protocol.dataReceived(STREAM)
    wire.protocol.dataReceived(OK)
    assert wire.ended == "abort"
    engine.pass_time(1.25)
    assert engine.pool.take() is None


def test_what_settles_is_closed_with_the_others() -> None:
    engine = Engine()
    wires = [engine.asked()[1] for _ in range(2)]
    wires[0].protocol.dataReceived(STREAM)
    wires[1].protocol.dataReceived(OK)
    engine.pool.close()
    assert [wire.ended for wire in wires] == ["abort", "abort"]


def test_long_body_goes_out_in_its_pieces() -> None:
    _, wire, _ = Engine().asked(b"POST", b"x" * 5000, b"y" * 5000)
    assert wire.sent.endswith(b"\r\n\r\n" + b"x" * 5000 + b"y" * 5000)


REUSED = [
    OK,
    CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX: y\r\n\r\n" + OK,
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
]
NOT_REUSED = [
    OK + b"x",
    OK + OK,
    CHUNKED + b"2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
]


@pytest.mark.parametrize("answer", REUSED)
def test_connections_that_are_used_again(answer: bytes) -> None:
    @given(split(answer))
    def in_any_split(pieces: list[bytes]) -> None:
        engine = Engine()
        _, wire, answered = engine.asked()
        for piece in pieces:
            assert not answered.over
            wire.protocol.dataReceived(piece)
        assert answered.whole
        assert answered.payload == (b"ok" if answer.count(b"ok") else b"")
        assert (engine.pool.idle, wire.ended) == (1, "")

    in_any_split()


@pytest.mark.parametrize("answer", NOT_REUSED)
def test_connections_that_are_not(answer: bytes) -> None:
    """
    Nor is anything behind the answer taken for part of it, or for the next one.
    """

    @given(split(answer))
    def in_any_split(pieces: list[bytes]) -> None:
        engine = Engine()
        _, wire, answered = engine.asked()
        for piece in pieces:
            if not wire.ended:
                wire.protocol.dataReceived(piece)
        assert answered.whole
        assert answered.payload in (b"ok", b"")
        assert engine.pool.idle == 0
        assert wire.ended == "abort"

    in_any_split()


def test_head_has_no_body() -> None:
    engine = Engine()
    _, wire, answered = engine.asked(b"HEAD")
    wire.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    assert answered.whole
    assert engine.pool.idle == 1


@pytest.mark.parametrize(
    "broken",
    [
        b"nonsense",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 099 x\r\n\r\n",
        b"HTTP/1.1 600 x\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok" + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3000,
    ],
)
def test_broken_heads(broken: bytes) -> None:
    engine = Engine()
    _, wire, answered = engine.asked()
    for at in range(0, len(broken), 1000):
        if not wire.ended:
            wire.protocol.dataReceived(broken[at : at + 1000])
    assert isinstance(answered.error, EngineUnavailable)
    assert answered.head is None
    assert wire.ended == "abort"
    whole = engine.asked()
    whole[1].protocol.dataReceived(broken)
    assert isinstance(whole[2].error, EngineUnavailable)


@pytest.mark.parametrize(
    ("answer", "clean", "whole"),
    [
        (b"", True, False),
        (b"HTTP/1.1 200 O", True, False),
        (OK[:-1], True, False),
        (CHUNKED + b"2\r\nok\r\n", True, False),
        (CHUNKED + b"2\r\nok\r\n0\r\n", True, False),
        (b"HTTP/1.1 200 OK\r\n\r\nok", True, True),
        # Without its FIN nobody knows whether that was all.
        (b"HTTP/1.1 200 OK\r\n\r\nok", False, False),
    ],
)
def test_connection_that_ends(answer: bytes, clean: bool, whole: bool) -> None:
    engine = Engine()
    _, wire, answered = engine.asked()
    if answer:
        wire.protocol.dataReceived(answer)
    wire.lose(clean)
    assert answered.whole is whole
    assert answered.over
    assert engine.pool.idle == 0


def test_broken_chunk() -> None:
    _, wire, answered = Engine().asked()
    wire.protocol.dataReceived(CHUNKED + b"2\r\nok\r\n")
    wire.protocol.dataReceived(b"-1\r\n")
    assert answered.payload == b"ok"
    assert isinstance(answered.error, EngineUnavailable)
    assert wire.ended == "abort"


def test_silence() -> None:
    """
    It is the pause between two reads that counts.
    """
    engine = Engine(silence_seconds=10.0)
    _, wire, answered = engine.asked()
    engine.pass_time(9)
    wire.protocol.dataReceived(CHUNKED)
    engine.pass_time(9)
    wire.protocol.dataReceived(b"2\r\nok\r\n")
    engine.pass_time(9)
    assert not answered.over
    engine.pass_time(2)
    assert isinstance(answered.error, EngineTimeout)
    assert wire.ended == "abort"


def test_a_long_silence_is_found_about_a_second_late() -> None:
    """
    However long it may be.
    """
    engine = Engine(silence_seconds=300.0)
    _, wire, answered = engine.asked()
    engine.pass_time(0.5)
    wire.protocol.dataReceived(CHUNKED)
    for _ in range(599):
        engine.pass_time(0.5)
    assert not answered.over
    for _ in range(5):
        engine.pass_time(0.5)
    assert isinstance(answered.error, EngineTimeout)


def test_silence_while_the_client_does_not_read_is_not_the_engines() -> None:
    engine = Engine(silence_seconds=10.0)
    connection, wire, answered = engine.asked()
    wire.protocol.dataReceived(CHUNKED)
    connection.pause()
    connection.pause()
    assert wire.paused
    engine.pass_time(60)
    assert not answered.over
    connection.resume()
    assert not wire.paused
    engine.pass_time(9)
    assert not answered.over
    engine.pass_time(2)
    assert answered.over


def test_idle_connections_are_given_up_in_time() -> None:
    engine = Engine()
    _, wire, _ = engine.asked()
    wire.protocol.dataReceived(OK)
    engine.pass_time(3)
    assert engine.pool.idle == 1
    engine.pass_time(1)
    assert (engine.pool.idle, wire.ended) == (0, "abort")
    engine.pass_time(1)
    assert engine.clock.getDelayedCalls() == []


@pytest.mark.parametrize("what", ["speaks", "leaves"])
def test_idle_connection_that_does_something(what: str) -> None:
    engine = Engine()
    _, wire, answered = engine.asked()
    wire.protocol.dataReceived(OK)
    if what == "speaks":
        wire.protocol.dataReceived(OK)
        assert wire.ended == "abort"
    else:
        wire.lose(True)
    assert engine.pool.idle == 0
    assert answered.payload == b"ok"


def test_pool_has_its_bounds_and_an_end() -> None:
    engine = Engine()
    wires = [engine.asked()[1] for _ in range(MAX_IDLE + 1)]
    for wire in wires:
        wire.protocol.dataReceived(OK)
    assert engine.pool.idle == MAX_IDLE
    assert wires[-1].ended == "abort"
    engine.pool.close()
    assert engine.pool.idle == 0
    assert all(wire.ended for wire in wires)


def test_answer_before_the_request_was_taken() -> None:
    """
    The rest of the request would stand before the next one.
    """
    engine = Engine()
    _, wire, answered = engine.asked(b"POST", b"x" * 5000)
    wire.fill()
    wire.protocol.dataReceived(OK)
    assert answered.whole
    assert (engine.pool.idle, wire.ended) == (0, "abort")


def test_abort() -> None:
    """
    Nobody is told, whatever comes after.
    """
    engine = Engine()
    connection, wire, answered = engine.asked()
    connection.abort()
    connection.abort()
    wire.lose()
    assert not answered.over
    connection.pause()
    connection.resume()
    assert not wire.paused


def test_engine_that_cannot_be_reached() -> None:
    engine = Engine()
    failures: list[Failure] = []
    engine.pool.connect().addErrback(failures.append)
    engine.factories[0].clientConnectionFailed(engine, Failure(ConnectionRefusedError()))  # type: ignore[arg-type]
    assert failures[0].check(ConnectionRefusedError)


def test_attempt_that_is_given_up() -> None:
    """
    Whoever gives it up is told just that.
    """
    engine = Engine()
    failures: list[Failure] = []
    connecting = engine.pool.connect()
    connecting.addErrback(failures.append)
    connecting.cancel()
    assert failures[0].check(CancelledError)
    assert engine.stopped == 1


# -- passed on -------------------------------------------------------------------


def relayed(answer: bytes, request: bytes = get(b"/later")) -> tuple[Wire, Wire, Relay, Any]:
    """
    The client's end, the engine's end, the relay and how it ended, once the engine has said
    C{answer}.
    """
    bench, engine = Bench(), Engine()
    client = bench.connect(request)
    connection, wire = engine.connected()
    ended: list[object] = []
    relay = Relay(bench.later.waiting[0], connection, engine.clock.seconds, ended.append)
    connection.ask(b"GET / HTTP/1.1\r\n\r\n", [], request.startswith(b"HEAD"), relay)
    wire.protocol.dataReceived(answer)
    return client, wire, relay, ended


def test_no_content_has_no_length() -> None:
    """
    RFC 9110, section 8.6.
    """
    client, _, _, ended = relayed(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
    assert statuses(client.sent) == [204]
    assert b"Content-Length" not in client.sent
    assert ended == [None]


def test_answer_to_head_keeps_its_length() -> None:
    client, _, _, ended = relayed(
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", get(b"/later", method=b"HEAD")
    )
    assert b"Content-Length: 99\r\n" in client.sent
    assert client.sent.endswith(b"\r\n\r\n")
    assert ended == [None]


def test_stream_of_known_length_that_breaks_off() -> None:
    """
    An event in the place of what is missing could make it look whole.
    """
    client, wire, relay, ended = relayed(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 60\r\n\r\n"
        b"data: x\n\n"
    )
    wire.lose()
    assert len(ended) == 1
    relay.break_off(b'{"error": "................................................"}')
    assert client.sent.endswith(b"data: x\n\n")
    assert client.ended == "close"


def test_client_that_does_not_read_stops_the_engine() -> None:
    client, wire, _, _ = relayed(CHUNKED)
    client.fill()
    wire.protocol.dataReceived(b"2\r\nok\r\n")
    assert wire.paused
    client.drain()
    assert not wire.paused
    wire.protocol.dataReceived(b"0\r\n\r\n")
    assert client.sent.endswith(b"\r\n\r\n2\r\nok\r\n0\r\n\r\n")


def test_breaking_off_when_the_client_has_left() -> None:
    client, wire, relay, ended = relayed(CHUNKED)
    client.lose()
    wire.lose()
    before = client.sent
    relay.break_off(b"{}")
    assert client.sent == before
    assert len(ended) == 1


def test_stopping_closes_the_engines_connection() -> None:
    _, wire, relay, ended = relayed(CHUNKED)
    relay.stop()
    assert wire.ended == "abort"
    assert ended == []
