"""
Every error that the gateway makes itself: status, body, headers, and whether the connection
ends with it.
"""

from __future__ import annotations

import pytest

from tests.api.conftest import MakeWorld
from tests.api.ends import KEY, OK, Client
from tests.api.world import World
from twisted_llama.http.head_reader import HeadLimits
from twisted_llama.http.site import ClientLimits

INVALID = "invalid_request_error"
TIGHT = ClientLimits(
    head=HeadLimits(200, 300, 8),
    max_body_bytes=100,
    header_timeout_seconds=3,
    body_timeout_seconds=5,
)


def check(client: Client, status: int, kind: str, code: str, closes: bool) -> dict[str, object]:
    """
    Check the last answer.

    @return: its error.
    """
    answer = client.answers[-1]
    assert (answer.status, answer.code) == (status, code)
    assert answer.whole
    assert answer.reason
    error = answer.json["error"]
    assert error["type"] == kind
    assert isinstance(error["message"], str)
    assert error["param"] == ("authorization" if status == 401 else None)
    assert answer[b"x-request-id"]
    assert answer[b"date"]
    assert answer.all(b"connection") == ([b"close"] if closes else [])
    assert client.closed is closes
    return dict(error)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET\r\n\r\n",
        b"GET /ping HTTP/1.1\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /v1/../ping HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET //ping HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_malformed_is_400(world: World, sent: bytes) -> None:
    """
    What is no request, or can be read as two, is 400 and ends the connection; no key is asked
    for before.
    """
    client = world.client().send(sent)
    check(client, 400, INVALID, "bad_request", True)
    # Those whose head is sound are logged, with the path as it came.
    assert all(exchange.status == 400 for exchange in world.exchanges)


def test_malformed_chunk_is_400(world: World) -> None:
    """
    The same for a body, which is read only once its sender has shown a key.
    """
    client = world.client().ask(b"POST", b"/v1/x", (b"Transfer-Encoding", b"chunked"))
    client.send(b"zz\r\n")
    check(client, 400, INVALID, "bad_request", True)
    assert world.exchanges[-1].status == 400
    assert world.engine_ends == []


@pytest.mark.parametrize(
    ("fields", "reason", "begins"),
    [
        ((), "missing", "No API key was provided"),
        (((b"Authorization", b"Bearer"),), "malformed", "The Authorization header"),
        (((b"Authorization", KEY),), "malformed", "The Authorization header"),
        (((b"Authorization", b"Basic " + KEY),), "malformed", "The Authorization header"),
        (
            ((b"Authorization", b"Bearer sk-not-a-key-at-all"),),
            "unknown",
            "Incorrect API key provided",
        ),
        (((b"X-Api-Key", b"sk-not-a-key-at-all"),), "unknown", "Incorrect API key provided"),
    ],
)
def test_no_valid_key_is_401(
    world: World, fields: tuple[tuple[bytes, bytes], ...], reason: str, begins: str
) -> None:
    """
    Whatever is wrong with the key: 401, and the connection may go on.
    """
    client = world.client().ask(b"GET", b"/v1/models", *fields, key=None)
    error = check(client, 401, INVALID, "invalid_api_key", False)
    assert str(error["message"]).startswith(begins)
    assert b"sk-not" not in client.received
    assert client.answer[b"www-authenticate"] == b"Bearer"
    assert [e.error_reason for e in world.exchanges] == [reason]
    client.ask(b"GET", b"/ping")
    assert client.answers[-1].status == 200


def test_no_keys_at_all_is_401(world: World) -> None:
    """
    Without any key in force nobody gets in.
    """
    world.keys._principals.clear()
    client = world.client().ask()
    error = check(client, 401, INVALID, "invalid_api_key", False)
    assert "no valid API keys" in str(error["message"])


def test_expired_key_is_401(world: World) -> None:
    """
    A key ends at its time, without a reload.
    """
    world.keys.add(b"sk-short-lived", "short", expires=world.wall_clock() + 5)
    world.pass_time(5)
    client = world.client().ask(key=b"sk-short-lived")
    error = check(client, 401, INVALID, "invalid_api_key", False)
    assert "expired" in str(error["message"])


def test_unknown_path_is_404(world: World) -> None:
    """
    Nothing is there; it counts against no limit.
    """
    client = world.client().ask(b"GET", b"/nothing")
    check(client, 404, INVALID, "not_found", False)
    assert client.answer.all(b"x-ratelimit-limit-requests") == []


def test_wrong_method_is_405(world: World) -> None:
    """
    On public paths and on /reload, with what would be allowed.
    """
    client = world.client().ask(b"DELETE", b"/health", key=None)
    check(client, 405, INVALID, "method_not_allowed", False)
    assert client.answer[b"allow"] == b"GET, HEAD"
    client = world.client().ask(b"GET", b"/reload")
    check(client, 405, INVALID, "method_not_allowed", False)
    assert client.answer[b"allow"] == b"POST"


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE"])
def test_methods_of_proxies_are_405(world: World, method: bytes) -> None:
    """
    Refused before the path is looked at.
    """
    client = world.client().ask(method, b"/ping")
    check(client, 405, INVALID, "method_not_allowed", True)
    assert client.answer[b"allow"]


def test_slow_head_is_408(make_world: MakeWorld) -> None:
    """
    A head has its time, and no more with each byte.
    """
    world = make_world(client_limits=TIGHT)
    client = world.client().send(b"GET ")
    for _ in range(4):
        world.pass_time(1)
        client.send(b"x")
    error = check(client, 408, "timeout_error", "request_timeout", True)
    assert "headers" in str(error["message"])


def test_slow_body_is_408(make_world: MakeWorld) -> None:
    """
    The longest pause in a body.
    """
    world = make_world(client_limits=TIGHT)
    client = world.client().ask(b"POST", b"/v1/x", (b"Content-Length", b"10")).send(b"abc")
    world.pass_time(6)
    check(client, 408, "timeout_error", "request_timeout", True)
    assert world.exchanges[-1].status == 408


@pytest.mark.parametrize(
    "fields", [((b"Content-Length", b"101"),), ((b"Transfer-Encoding", b"chunked"),)]
)
def test_large_body_is_413(make_world: MakeWorld, fields: tuple[tuple[bytes, bytes], ...]) -> None:
    """
    By its announced length or while it is read.
    """
    world = make_world(client_limits=TIGHT)
    client = world.client().ask(b"POST", b"/v1/x", *fields).send(b"65\r\n" + b"x" * 101)
    error = check(client, 413, INVALID, "payload_too_large", True)
    assert "100 bytes (MAX_REQUEST_BODY_SIZE)" in str(error["message"])
    assert world.engine_ends == []


@pytest.mark.parametrize(
    "values",
    [[b"gzip"], [b"identity, gzip"], [b"identity", b"br"], [b"X-GZIP"], [b"gzip;q=0"], [b"\xff"]],
)
def test_compressed_body_is_415(world: World, values: list[bytes]) -> None:
    """
    With what would be accepted, before the body is read, and without counting against a limit.
    """
    fields = [(b"Content-Encoding", value) for value in values]
    client = world.client().ask(b"POST", b"/v1/x", *fields, (b"Content-Length", b"9"))
    error = check(client, 415, INVALID, "unsupported_content_encoding", False)
    assert "without Content-Encoding" in str(error["message"])
    assert client.answer[b"accept-encoding"] == b"identity"
    assert client.answer.all(b"x-ratelimit-limit-requests") == []
    assert world.engine_ends == []
    client.send(b"123456789").ask(b"GET", b"/ping")
    assert client.answers[-1].status == 200


@pytest.mark.parametrize("value", [b"", b"identity", b"Identity, identity"])
def test_body_that_is_as_it_is_goes_through(world: World, value: bytes) -> None:
    """
    It may be said, too.
    """
    client = world.client().ask(b"POST", b"/v1/x", (b"Content-Encoding", value), body=b"{}")
    world.engine.answer(OK)
    assert client.answer.status == 200


def test_key_comes_before_the_encoding(world: World) -> None:
    """
    Nothing is said about a request of nobody.
    """
    encoded = (b"Content-Encoding", b"gzip")
    client = world.client().ask(b"POST", b"/v1/x", encoded, key=None, body=b"{}")
    check(client, 401, INVALID, "invalid_api_key", False)


def test_long_request_line_is_414(make_world: MakeWorld) -> None:
    """
    MAX_REQUEST_LINE_SIZE.
    """
    client = make_world(client_limits=TIGHT).client().ask(b"GET", b"/" + b"x" * 200)
    check(client, 414, INVALID, "uri_too_long", True)


@pytest.mark.parametrize(
    ("fields", "setting"),
    [
        (((b"X-Long", b"x" * 300),), "MAX_HEADER_LINE_SIZE"),
        (((b"X-Many", b"x"),) * 9, "MAX_HEADERS"),
    ],
)
def test_large_headers_are_431(
    make_world: MakeWorld, fields: tuple[tuple[bytes, bytes], ...], setting: str
) -> None:
    """
    One line too long, or too many.
    """
    client = make_world(client_limits=TIGHT).client().ask(b"GET", b"/ping", *fields)
    error = check(client, 431, INVALID, "header_fields_too_large", True)
    assert setting in str(error["message"])


def test_key_over_its_limit_is_429(make_world: MakeWorld) -> None:
    """
    Retry-After is computed from the oldest request that counts, and the message names the
    limit.
    """
    world = make_world(max_requests_per_minute=2)
    client = world.client().ask()
    world.engine.answer(OK)
    world.pass_time(20)
    client.ask()
    world.engine.answer(OK)
    world.pass_time(12.5)
    client.ask()
    error = check(client, 429, "rate_limit_error", "rate_limit_exceeded", False)
    assert "2 requests per minute" in str(error["message"])
    answer = client.answers[-1]
    assert answer[b"retry-after"] == b"28"
    assert answer[b"x-ratelimit-limit-requests"] == b"2"
    assert answer[b"x-ratelimit-remaining-requests"] == b"0"
    assert answer[b"x-ratelimit-reset-requests"] == b"48s"
    world.pass_time(28)
    client.ask()
    world.engine.answer(OK)
    assert client.answers[-1].status == 200


def test_other_transfer_coding_is_501(world: World) -> None:
    """
    Only chunked is known.
    """
    client = world.client().ask(b"POST", b"/v1/x", (b"Transfer-Encoding", b"gzip, chunked"))
    check(client, 501, "server_error", "not_implemented", True)


def test_other_version_is_505(world: World) -> None:
    """
    HTTP/2 by prior knowledge, for one.
    """
    client = world.client().ask(b"GET", b"/ping", version=b"HTTP/2.0")
    check(client, 505, INVALID, "http_version_not_supported", True)


def test_refused_connection_is_502(world: World) -> None:
    """
    The engine is not there.
    """
    world.accepts = False
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.attempts[0].refuse()
    check(client, 502, "server_error", "engine_unavailable", False)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nConte", b"SSH-2.0-x\r\n\r\n"])
def test_no_valid_answer_is_502(world: World, said: bytes) -> None:
    """
    The engine dies before its answer has begun, or says what is no answer.
    """
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.engine.answer(said)
    world.engine.close()
    check(client, 502, "server_error", "engine_unavailable", False)


def test_full_queue_is_503(make_world: MakeWorld) -> None:
    """
    MAX_QUEUE_SIZE.
    """
    world = make_world(max_queue_size=1)
    for _ in range(2):
        world.client().ask(b"POST", b"/v1/x", body=b"{}")
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    check(client, 503, "server_error", "queue_full", False)
    assert int(client.answer[b"retry-after"]) >= 1


@pytest.mark.parametrize(
    ("state", "code"), [("ready", "queue_timeout"), ("loading", "model_loading")]
)
def test_long_wait_is_503(make_world: MakeWorld, state: str, code: str) -> None:
    """
    QUEUE_TIMEOUT, and what it is called while the engine loads.
    """
    world = make_world(queue_timeout=7)
    world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.gate.set_engine(state)  # type: ignore[arg-type]  # one of its states
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.pass_time(6.5)
    assert client.received == b""
    world.pass_time(1)
    check(client, 503, "server_error", code, False)
    assert int(client.answer[b"retry-after"]) >= 1


def test_draining_is_503(world: World) -> None:
    """
    The gateway ends: what waits is refused, and so is what comes on connections with a
    request under way.
    """
    busy = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    waiting = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    late = world.client().ask(b"POST", b"/v1/x", (b"Content-Length", b"2"))
    world.gate.drain()
    world.site.drain()
    check(waiting, 503, "server_error", "draining", True)
    late.send(b"{}")
    check(late, 503, "server_error", "draining", True)
    new = world.client().ask(b"GET", b"/v1/models")
    check(new, 503, "server_error", "draining", True)
    for client in (waiting, late, new):
        assert int(client.answer[b"retry-after"]) >= 1
    world.engine.answer(OK)
    assert busy.answer.status == 200
    assert busy.answer[b"connection"] == b"close"
    assert busy.closed


def test_silent_engine_is_504(make_world: MakeWorld) -> None:
    """
    REQUEST_TIMEOUT before the first byte.
    """
    world = make_world(request_timeout=9)
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.pass_time(10)
    check(client, 504, "timeout_error", "engine_timeout", False)
