"""
Ordinary resources of C{twisted.web} in the protected tree: whoever extends the gateway can
write them as for any other site.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from twisted.web.static import Data

from tests.api.conftest import MakeWorld
from tests.api.ends import OK
from tests.api.world import World
from twisted_llama.http.site import ClientLimits


class Form(Resource):
    """
    Says what it was sent.
    """

    def render_GET(self, request: Request) -> bytes:
        return b"GET " + b",".join(request.args[b"q"])

    def render_POST(self, request: Request) -> bytes:
        request.setHeader(b"X-Kind", request.getHeader(b"content-type") or b"-")
        return b"POST " + request.content.read()

    def getChild(self, path: bytes, request: Request) -> Resource:
        return Data(b"child " + path, "text/plain")


class Later(Resource):
    """
    Answers when the test says so.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.gone: list[object] = []

    def render_GET(self, request: Request) -> int:
        self.requests.append(request)
        done: Deferred[None] = request.notifyFinish()
        done.addErrback(self.gone.append)
        return NOT_DONE_YET


class Broken(Resource):
    """
    Fails.
    """

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        raise ZeroDivisionError("a secret of ours")


@pytest.fixture
def later() -> Later:
    """
    The one of the next fixture.
    """
    return Later()


@pytest.fixture
def extended(make_world: MakeWorld, later: Later) -> World:
    """
    A gateway with some more.
    """
    return make_world(
        hung_in={
            b"static": Data(b"some text", "text/plain"),
            b"form": Form(),
            b"later": later,
            b"broken": Broken(),
        },
        cors_origins=("*",),
        client_limits=ClientLimits(max_body_bytes=100),
    )


def test_static(extended: World) -> None:
    """
    C{static.Data}, with HEAD and the gateway's own headers.
    """
    client = extended.client()
    client.ask(b"GET", b"/static", (b"Origin", b"https://any.where"))
    client.ask(b"HEAD", b"/static")
    first, second = client.answers
    assert (first.status, first.body) == (200, b"some text")
    assert first[b"content-type"] == b"text/plain"
    assert first[b"x-request-id"]
    assert first[b"access-control-allow-origin"] == b"*"
    assert (second.status, second[b"content-length"]) == (200, b"9")
    assert [e.status for e in extended.exchanges] == [200, 200]
    assert extended.exchanges[0].bytes_sent == 9


def test_behind_the_guard(extended: World) -> None:
    """
    What is hung in is protected, and hides nothing else.
    """
    assert extended.client().ask(b"GET", b"/static", key=None).answer.status == 401
    assert extended.client().ask(b"GET", b"/other").answer.status == 404
    client = extended.client().ask(b"GET", b"/v1/models")
    extended.engine.answer(OK)
    assert client.answer.status == 200


def test_queries_and_children(extended: World) -> None:
    """
    C{args} and C{getChild}.
    """
    client = extended.client()
    client.ask(b"GET", b"/form?q=a&q=b%20c")
    client.ask(b"GET", b"/form/deep")
    assert [answer.body for answer in client.answers] == [b"GET a,b c", b"child deep"]


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_body(extended: World, pieces: int) -> None:
    """
    It is there as a whole when the resource is rendered, however it came.
    """
    client = extended.client()
    kind = (b"Content-Type", b"application/x-www-form-urlencoded")
    raw = client.request(b"POST", b"/form", kind, body=b"a=b&c=d")
    step = len(raw) // pieces + 1
    for at in range(0, len(raw), step):
        client.send(raw[at : at + step])
    assert client.answer.body == b"POST a=b&c=d"
    assert client.answer[b"x-kind"] == kind[1]


def test_a_body_in_chunks(extended: World) -> None:
    """
    The same.
    """
    client = extended.client().ask(b"POST", b"/form", (b"Transfer-Encoding", b"chunked"))
    client.send(b"3\r\nabc\r\n").send(b"2\r\nde\r\n0\r\n\r\n")
    assert client.answer.body == b"POST abcde"


def test_a_body_that_is_too_large(extended: World) -> None:
    """
    413 before the resource sees anything of it.
    """
    client = extended.client().ask(b"POST", b"/form", (b"Content-Length", b"101"))
    assert client.answer.status == 413
    client = extended.client().ask(b"POST", b"/form", (b"Transfer-Encoding", b"chunked"))
    client.send(b"65\r\n" + b"x" * 101)
    assert client.answer.status == 413


def test_a_client_that_leaves_before_its_body(extended: World) -> None:
    """
    The resource never hears of it.
    """
    extended.client().ask(b"POST", b"/form", (b"Content-Length", b"50")).send(b"x").leave()
    assert [exchange.status for exchange in extended.exchanges] == [499]


def test_a_method_it_does_not_have(extended: World) -> None:
    """
    C{twisted.web} says so, in its own way.
    """
    client = extended.client().ask(b"POST", b"/static", body=b"x")
    assert client.answer.status == 405
    assert b"GET" in client.answer[b"allow"]
    assert not client.closed


def test_an_answer_in_pieces(extended: World, later: Later) -> None:
    """
    Without a length it is sent in chunks.
    """
    client = extended.client().ask(b"GET", b"/later")
    (request,) = later.requests
    request.write(b"one ")
    request.write(b"two")
    assert client.answer.body == b"one two"
    assert not client.answer.whole
    request.finish()
    assert client.answer.whole
    assert extended.exchanges[0].bytes_sent == 7


def test_an_answer_nobody_waits_for(extended: World, later: Later) -> None:
    """
    C{notifyFinish} tells the resource.
    """
    extended.client().ask(b"GET", b"/later").leave()
    assert len(later.gone) == 1
    assert extended.exchanges[0].status == 499


def test_one_that_fails(extended: World) -> None:
    """
    500 without a word of why; the log has the traceback under the request's id.
    """
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        client = extended.client().ask(b"GET", b"/broken", (b"X-Request-Id", b"find-me"))
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert (client.answer.status, client.answer.code) == (500, "internal_error")
    assert b"secret" not in client.received
    assert client.answer[b"x-request-id"] == b"find-me"
    assert not client.closed
    (event,) = [event for event in events if "log_failure" in event]
    assert event["request_id"] == "find-me"
    assert "find-me" in event["log_format"].format(**event)
    assert isinstance(event["log_failure"].value, ZeroDivisionError)
    assert extended.exchanges[0].error_code == "internal_error"
