"""
Questions over real sockets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as found
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs

from twisted_llama.engine.inquiry import Answer, HttpInquiry, single_use_agent

reactor: Any = found


class Scripted(Protocol):
    """
    Sends fixed bytes once it was asked something, then hangs up if it is told to.
    """

    factory: Any

    def connectionMade(self) -> None:
        self.factory.connected += 1
        self.factory.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.factory.received += data
        if self.factory.answer:
            self.transport.write(self.factory.answer)
        if self.factory.then_closes:
            self.transport.loseConnection()
        self.factory.asked.callback(None)
        self.factory.asked = Deferred()

    def connectionLost(self, reason: object = None) -> None:
        self.factory.gone.callback(None)
        self.factory.gone = Deferred()


class Server(Factory):
    """
    A server of fixed bytes.
    """

    protocol = Scripted
    noisy = False

    def __init__(self) -> None:
        self.answer = b""
        self.then_closes = False
        self.connected = 0
        self.received = b""
        self.asked: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.port: Any = None

    def inquiry(self, *, host: str = "127.0.0.1", timeout: float = 30.0) -> HttpInquiry:
        return HttpInquiry(
            single_use_agent(reactor, 5.0),
            reactor,
            address=(host, self.port.getHost().port),
            key="sesame",
            timeout_seconds=timeout,
        )


@pytest.fixture
def server() -> Iterator[Server]:
    """
    A server on a free port.
    """
    made = Server()
    made.port = reactor.listenTCP(0, made, interface="127.0.0.1")
    yield made
    if made.port.connected:
        pytest_twisted.blockon(made.port.stopListening())


@pytest_twisted.ensureDeferred
async def test_question_and_answer(server: Server) -> None:
    """
    With the key and without, with a body, quietly, and the connection ends.
    """
    server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    gone = server.gone
    with capturedLogs() as logs:
        answer = await server.inquiry().ask(b"POST", b"/x", body=b"{}")
    assert answer == Answer(200, b"ok")
    assert b"Authorization: Bearer sesame" in server.received
    assert server.received.endswith(b"{}")
    assert logs == []
    await gone
    gone = server.gone
    await server.inquiry(host="localhost").ask(b"GET", b"/x", with_key=False)
    assert b"Authorization" not in server.received
    await gone
    assert server.connected == 2


@pytest_twisted.ensureDeferred
async def test_endless_answer_is_cut(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    No more is kept than the limit and one read.
    """
    monkeypatch.setattr("twisted_llama.engine.inquiry._MAX_ANSWER_BYTES", 10)
    server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100
    gone = server.gone
    answer = await server.inquiry().ask(b"GET", b"/x")
    assert answer == Answer(200, b"x" * 100)
    await gone


@pytest.mark.parametrize(
    ("answer", "closes"), [(b"garbage\r\n\r\n", True), (b"", True), (b"", False)]
)
@pytest_twisted.ensureDeferred
async def test_no_answer(server: Server, answer: bytes, closes: bool) -> None:
    """
    Garbage, a closed connection and silence are all no answer.
    """
    server.answer, server.then_closes = answer, closes
    gone = server.gone
    assert await server.inquiry(timeout=0.2).ask(b"GET", b"/x") is None
    await gone


@pytest_twisted.ensureDeferred
async def test_nobody_there(server: Server) -> None:
    """
    Refused is no answer either.
    """
    inquiry = server.inquiry()
    await server.port.stopListening()
    assert await inquiry.ask(b"GET", b"/x") is None


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
@pytest_twisted.ensureDeferred
async def test_given_up(server: Server, head: bytes) -> None:
    """
    A question that is cancelled says so, and its connection ends.
    """
    server.answer = head
    asked, gone = server.asked, server.gone
    asking = Deferred.fromCoroutine(server.inquiry().ask(b"GET", b"/x"))
    await asked
    asking.cancel()
    with pytest.raises(CancelledError):
        await asking
    await gone


def test_addresses_in_brackets() -> None:
    """
    IPv6 and names that are not ASCII.
    """
    for host, origin in (("::1", b"http://[::1]:8"), ("bücher.de", b"xn--bcher-kva.de")):
        inquiry = HttpInquiry(
            single_use_agent(reactor, 1.0),
            reactor,
            address=(host, 8),
            key=None,
            timeout_seconds=1.0,
        )
        assert origin in inquiry._origin
