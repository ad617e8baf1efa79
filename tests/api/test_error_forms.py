"""
Which of several errors is told, and to whom in which form.
"""

from __future__ import annotations

import pytest

from tests.api.conftest import MakeWorld
from tests.api.ends import KEY, OK
from tests.api.test_errors import INVALID, TIGHT, check
from tests.api.world import World
from twisted_llama.api.errors import TABLE, render_error, row
from twisted_llama.auth.checkers import RefusedKey
from twisted_llama.errors import GatewayError, InternalError, NotAdmitted


def test_order_of_checks(make_world: MakeWorld) -> None:
    """
    Head, path, key, the key's limit, body, queue: of all that is wrong the first is told.
    """
    world = make_world(client_limits=TIGHT, max_requests_per_minute=1, max_queue_size=1)
    large = (b"Content-Length", b"1000")
    for secret, key_id in ((b"sk-at-work", "working"), (b"sk-spent", "spent")):
        world.keys.add(secret, key_id)
        world.client().ask(b"POST", b"/v1/x", key=secret, body=b"{}")
    assert (world.gate.active, world.gate.waiting) == (1, 1)

    def status(target: bytes, *fields: tuple[bytes, bytes], key: bytes | None) -> int:
        return world.client().ask(b"POST", target, *fields, key=key).answer.status

    long_line = (b"X-Long", b"x" * 301)
    assert status(b"//v1/x", long_line, large, key=None) == 431
    assert status(b"//v1/x", large, key=None) == 400
    assert status(b"/v1/x", large, key=None) == 401
    assert status(b"/v1/x", large, key=b"sk-spent") == 429
    assert status(b"/v1/x", large, key=KEY) == 413
    assert status(b"/v1/x", key=KEY) == 503


@pytest.mark.parametrize(("version", "closes"), [(b"HTTP/1.0", True), (b"HTTP/1.1", False)])
def test_to_both_versions(world: World, version: bytes, closes: bool) -> None:
    """
    An HTTP/1.0 client gets the same error, and the end of the connection.
    """
    client = world.client().ask(b"GET", b"/nothing", version=version)
    check(client, 404, INVALID, "not_found", closes)


def test_to_head(world: World) -> None:
    """
    The head of the error, and its length, without its body.
    """
    client = world.client().ask(b"HEAD", b"/v1/models", key=None)
    answer = client.answer
    assert answer.status == 401
    assert int(answer[b"content-length"]) > 0
    assert client.received.endswith(b"\r\n\r\n")


def test_pipelined(world: World) -> None:
    """
    Errors and answers come in the order of the requests.
    """
    client = world.client()
    client.send(
        client.request(b"GET", b"/ping")
        + client.request(b"GET", b"/nothing")
        + client.request(b"GET", b"/v1/models")
        + client.request(b"POST", b"/ping", body=b"{}")
        + client.request(b"GET", b"/v1/models", key=None)
        + client.request(b"GET", b"/v1/../x")
        + client.request(b"GET", b"/ping")
    )
    assert [answer.status for answer in client.answers] == [200, 404]
    world.engine.answer(OK)
    assert [answer.status for answer in client.answers] == [200, 404, 200, 405, 401, 400]
    assert client.closed


def test_refused_body_is_got_out_of_the_way(world: World) -> None:
    """
    A small body that nobody asked for is read and dropped, so that the connection lives on;
    for a large one it ends.
    """
    client = world.client().ask(b"POST", b"/v1/x", key=None, body=b"x" * 1000)
    check(client, 401, INVALID, "invalid_api_key", False)
    client.ask(b"GET", b"/ping")
    assert client.answers[-1].status == 200
    client = world.client().ask(b"POST", b"/v1/x", (b"Content-Length", b"100000"), key=None)
    check(client, 401, INVALID, "invalid_api_key", True)


def test_every_error_has_its_row() -> None:
    """
    No class of errors is forgotten, and each has its own code.
    """
    found: list[type[GatewayError]] = []

    def walk(cls: type[GatewayError]) -> None:
        for child in cls.__subclasses__():
            found.append(child)
            walk(child)

    walk(GatewayError)
    kinds = [cls for cls in found if cls.__module__ == "twisted_llama.errors"]
    assert set(TABLE) == set(kinds) - {NotAdmitted}
    assert len({cls.code for cls in TABLE}) == len(TABLE)


def test_what_is_no_gateway_error_is_500() -> None:
    """
    Our own fault, of which nothing is told.
    """
    answer = render_error(ZeroDivisionError("the secret"))
    assert (answer.status, answer.close) == (500, False)
    assert b"internal_error" in answer.body
    assert b"secret" not in answer.body
    assert isinstance(row(ZeroDivisionError())[0], InternalError)


def test_subclasses_are_found() -> None:
    """
    Checkers raise their own kinds.
    """
    assert row(RefusedKey("unknown"))[1] == 401
