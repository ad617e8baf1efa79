"""
What browsers are told about pages of other origins.
"""

from __future__ import annotations

import pytest

from tests.api.conftest import MakeWorld
from tests.api.ends import OK, STREAM_HEAD, Answer, chunk
from tests.api.world import World
from twisted_llama.http.site import ClientLimits

ALLOWED = b"https://chat.example.org"
ORIGIN = (b"Origin", ALLOWED)
ASKS = (b"Access-Control-Request-Method", b"POST")
NAMES = {
    b"access-control-allow-origin",
    b"access-control-allow-methods",
    b"access-control-allow-headers",
    b"access-control-expose-headers",
    b"access-control-max-age",
}


def cors_of(answer: Answer) -> dict[bytes, bytes]:
    """
    Its headers for browsers; none may come twice, and no credentials ever.
    """
    found = [(name.lower(), value) for name, value in answer.fields]
    cors = [(n, v) for n, v in found if n.startswith(b"access-control-") or n == b"vary"]
    assert len(cors) == len(dict(cors)), cors
    assert b"access-control-allow-credentials" not in dict(cors)
    return dict(cors)


@pytest.fixture
def listed(make_world: MakeWorld) -> World:
    """
    A gateway that allows two origins.
    """
    return make_world(
        cors_origins=(ALLOWED.decode(), "http://localhost:3000"),
        max_requests_per_minute=1,
        client_limits=ClientLimits(max_body_bytes=100),
    )


def test_an_allowed_origin(listed: World) -> None:
    """
    It is echoed, with all that goes with it.
    """
    client = listed.client().ask(b"GET", b"/v1/models", ORIGIN)
    listed.engine.answer(OK)
    assert cors_of(client.answer) == {
        b"access-control-allow-origin": ALLOWED,
        b"access-control-allow-methods": b"GET, POST, OPTIONS",
        b"access-control-allow-headers": b"Authorization, Content-Type, X-Api-Key, X-Request-Id",
        b"access-control-expose-headers": (
            b"X-Request-Id, Retry-After, x-ratelimit-limit-requests, "
            b"x-ratelimit-remaining-requests, x-ratelimit-reset-requests"
        ),
        b"access-control-max-age": b"86400",
        b"vary": b"Origin",
    }


def test_every_kind_of_answer(listed: World) -> None:
    """
    Pages, streams and errors alike.
    """
    client = listed.client()
    client.ask(b"GET", b"/ping", ORIGIN, key=None)
    client.ask(b"GET", b"/metrics", ORIGIN, key=None)
    client.ask(b"DELETE", b"/ping", ORIGIN, key=None)
    client.ask(b"GET", b"/v1/models", ORIGIN, key=None)
    client.ask(b"GET", b"/nothing", ORIGIN)
    client.ask(b"POST", b"/v1/x", ORIGIN, body=b"{}")
    listed.engine.answer(STREAM_HEAD + chunk(b"data: x\n\n") + b"0\r\n\r\n")
    client.ask(b"POST", b"/v1/x", ORIGIN, body=b"{}")
    listed.pass_time(60)
    client.ask(b"POST", b"/v1/x", ORIGIN, (b"Content-Length", b"101"))
    assert [answer.status for answer in client.answers] == [200, 200, 405, 401, 404, 200, 429, 413]
    for answer in client.answers:
        assert cors_of(answer).keys() == NAMES | {b"vary"}
        assert cors_of(answer)[b"access-control-allow-origin"] == ALLOWED


@pytest.mark.parametrize(
    "origin",
    [b"https://evil.example.org", b"http://chat.example.org", ALLOWED + b".evil", b"null", b""],
)
def test_other_origins(listed: World, origin: bytes) -> None:
    """
    They are told nothing, and the request is served: the browser decides.
    """
    client = listed.client().ask(b"GET", b"/ping", (b"Origin", origin))
    assert client.answer.status == 200
    assert cors_of(client.answer) == {}


def test_no_origin(listed: World) -> None:
    """
    What comes from no page has no use for it.
    """
    assert cors_of(listed.client().ask(b"GET", b"/ping").answer) == {}


def test_any_origin(make_world: MakeWorld) -> None:
    """
    C{*} answers all alike, so no cache has to tell them apart.
    """
    world = make_world(cors_origins=("*",))
    answer = world.client().ask(b"GET", b"/ping", (b"Origin", b"https://any.where")).answer
    assert cors_of(answer).keys() == NAMES
    assert cors_of(answer)[b"access-control-allow-origin"] == b"*"


def test_the_engines_own_do_not_pass(make_world: MakeWorld) -> None:
    """
    Whatever it says of origins is dropped, with C{CORS_ORIGINS} and without.
    """
    said = OK.replace(
        b"\r\n\r\n",
        b"\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n"
        b"ACCESS-CONTROL-ALLOW-METHODS: PUT\r\nAccess-Control-Allow-Headers: *\r\n"
        b"Access-Control-Expose-Headers: *\r\nAccess-Control-Max-Age: 1\r\n\r\n",
    )
    for origins, expected in (((), {}), ((ALLOWED.decode(),), ALLOWED)):
        world = make_world(cors_origins=origins)
        client = world.client().ask(b"GET", b"/v1/models", ORIGIN)
        world.engine.answer(said)
        cors = cors_of(client.answer)
        assert cors == expected or cors[b"access-control-allow-origin"] == expected


def test_preflight(listed: World) -> None:
    """
    204 for any path, without a key and without counting; the connection stays.
    """
    client = listed.client()
    for target in (b"/v1/chat/completions", b"/ping", b"/nothing", b"*"):
        client.ask(b"OPTIONS", target, ORIGIN, ASKS, key=None)
    for answer in client.answers:
        assert (answer.status, answer.body) == (204, b"")
        assert cors_of(answer)[b"access-control-allow-origin"] == ALLOWED
        assert answer.all(b"content-length") == answer.all(b"transfer-encoding") == []
        assert answer[b"x-request-id"]
    assert len(client.answers) == 4
    assert not client.closed
    assert listed.engine_ends == []


def test_preflight_of_another_origin(listed: World) -> None:
    """
    It is told nothing, and so may do nothing.
    """
    client = listed.client().ask(
        b"OPTIONS", b"/v1/models", (b"Origin", b"https://evil.example"), ASKS, key=None
    )
    assert client.answer.status == 204
    assert cors_of(client.answer) == {}


def test_what_is_no_preflight(make_world: MakeWorld) -> None:
    """
    An OPTIONS without both headers, or with C{CORS_ORIGINS} empty, is a request like others.
    """
    world = make_world(cors_origins=(ALLOWED.decode(),))
    for fields in ((), (ORIGIN,), (ASKS,)):
        client = world.client().ask(b"OPTIONS", b"/v1/models", *fields, key=None)
        assert client.answer.status == 401
        client = world.client().ask(b"OPTIONS", b"/ping", *fields, key=None)
        assert client.answer.status == 405
    off = make_world()
    assert off.client().ask(b"OPTIONS", b"/v1/x", ORIGIN, ASKS, key=None).answer.status == 401
    client = off.client().ask(b"OPTIONS", b"/v1/x", ORIGIN, ASKS)
    assert off.engine.received.startswith(b"OPTIONS /v1/x HTTP/1.1\r\n")
    off.engine.answer(b"HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: *\r\n\r\n")
    assert client.answer.status == 204
    assert cors_of(client.answer) == {}
