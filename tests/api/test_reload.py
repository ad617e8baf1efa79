"""
C{POST /reload}.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from tests.api.conftest import MakeWorld
from tests.api.ends import KEY, STREAM_HEAD, chunk
from tests.api.test_endings import SlowLimits
from tests.api.world import OTHER_KEY, World
from twisted_llama.errors import ReloadFailed
from twisted_llama.limits.decision import Decision


def test_it_says_how_many_keys_there_are(world: World) -> None:
    """
    And a failed engine is asked to try again.
    """
    world.keys.add(b"sk-third", "third")
    client = world.client().ask(b"POST", b"/reload")
    assert client.answer.status == 200
    assert client.answer.json == {"status": "ok", "keys_loaded": 3}
    assert world.reloads == 1
    assert client.answer[b"x-ratelimit-remaining-requests"] == b"99"


def test_with_a_body(world: World) -> None:
    """
    Some clients always send one; it means nothing.
    """
    client = world.client().ask(b"POST", b"/reload", body=b'{"please": true}')
    client.ask(b"GET", b"/ping")
    assert [answer.status for answer in client.answers] == [200, 200]


def test_a_bad_file(world: World) -> None:
    """
    500 with what is wrong with it; the old keys stay in force.
    """
    world.keys.problem = ReloadFailed("The key file is not UTF-8 text: see its line 3.")
    client = world.client().ask(b"POST", b"/reload")
    assert (client.answer.status, client.answer.code) == (500, "reload_failed")
    error = client.answer.json["error"]
    assert error["type"] == "server_error"
    assert "line 3" in error["message"]
    client.ask(b"GET", b"/nothing")
    assert client.answers[-1].status == 404


@pytest.mark.parametrize("key", [None, b"sk-not-a-key"])
def test_it_needs_a_key(world: World, key: bytes | None) -> None:
    """
    Like every protected path.
    """
    assert world.client().ask(b"POST", b"/reload", key=key).answer.status == 401
    assert world.reloads == 0


def test_it_counts(make_world: MakeWorld) -> None:
    """
    Reading a file over and over is held to the limit too.
    """
    world = make_world(max_requests_per_minute=2)
    client = world.client()
    for _ in range(3):
        client.ask(b"POST", b"/reload")
    assert [answer.status for answer in client.answers] == [200, 200, 429]
    assert world.reloads == 2


def test_who_removes_the_own_key(world: World) -> None:
    """
    It still gets its answer, while its streams end.
    """
    stream = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.engine.answer(STREAM_HEAD + chunk(b"data: x\n\n"))
    other = world.client().ask(b"POST", b"/v1/x", key=OTHER_KEY, body=b"{}")
    client = world.client()
    request = client.request(b"POST", b"/reload")

    def reload_without_key() -> int:
        world.keys.remove(KEY)
        return World.reload(world)

    world.reload = reload_without_key  # type: ignore[method-assign]  # the file has changed
    world.site.resource = world._root()
    client.send(request)
    assert client.answer.json == {"status": "ok", "keys_loaded": 1}
    assert stream.closed
    assert b"[DONE]" not in stream.received
    assert other.received == b""
    client.ask(b"GET", b"/v1/models")
    assert client.answers[-1].status == 401


@pytest.mark.parametrize("allowed", [True, False])
def test_a_client_that_leaves_meanwhile(make_world: MakeWorld, allowed: bool) -> None:
    """
    Nobody is there to be answered when the limit is known.
    """
    limits = SlowLimits()
    world = make_world(limits=limits)
    world.client().ask(b"POST", b"/reload").leave()
    asked: Deferred[Decision] = limits.asked[0]
    asked.callback(Decision(allowed, 1, 0, 0.0, 60.0))
    assert [exchange.status for exchange in world.exchanges] == [499]
