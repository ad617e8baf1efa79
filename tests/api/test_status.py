"""
The pages that say how the gateway is.
"""

from __future__ import annotations

import json

import pytest

from tests.api.conftest import MakeWorld
from tests.api.ends import OK, Answer
from tests.api.world import EPOCH, READY, World
from twisted_llama import __version__
from twisted_llama.engine.status import EngineStatus, LastExit


def get(world: World, path: bytes, *fields: tuple[bytes, bytes]) -> Answer:
    """
    Ask without a key.
    """
    return world.client().ask(b"GET", path, *fields, key=None).answer


def test_ping(world: World) -> None:
    """
    Nothing but a status.
    """
    answer = get(world, b"/ping")
    assert (answer.status, answer.body, answer[b"content-length"]) == (200, b"", b"0")


def test_health(world: World) -> None:
    """
    All of it, and nothing else.
    """
    world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.pass_time(90)
    answer = get(world, b"/health")
    assert answer.status == 200
    assert answer.json == {
        "status": "ok",
        "uptime_seconds": 90.0,
        "engine": {
            "state": "ready",
            "model": "little.gguf",
            "pid": 77,
            "restarts": 0,
            "ready_since": EPOCH - 60,
            "last_exit": None,
            "reason": None,
        },
        "queue": {"max_concurrent": 1, "max_queue_size": 0, "active": 1, "waiting": 1},
        "authentication": {"enabled": True, "keys": 2},
        "version": __version__,
    }


@pytest.mark.parametrize(
    ("status", "said", "last_exit"),
    [
        (EngineStatus("starting"), "loading", None),
        (EngineStatus("loading"), "loading", None),
        (
            EngineStatus("loading", last_exit=LastExit(1, None, "bad model file")),
            "degraded",
            {"code": 1, "reason": "bad model file"},
        ),
        (
            EngineStatus("backoff", last_exit=LastExit(None, "SIGKILL", "out of memory")),
            "degraded",
            {"signal": "SIGKILL", "reason": "out of memory"},
        ),
        (EngineStatus("failed", reason="gone"), "degraded", None),
        (EngineStatus("loading", external=True), "loading", None),
    ],
)
def test_health_of_an_engine_in_trouble(
    world: World, status: EngineStatus, said: str, last_exit: object
) -> None:
    """
    200 all the same; C{/ready} is 503 and says when to come back.
    """
    world.status = status
    answer = get(world, b"/health")
    assert (answer.status, answer.json["status"]) == (200, said)
    assert answer.json["engine"]["last_exit"] == last_exit
    assert answer.json["engine"]["reason"] == (status.reason or None)
    answer = get(world, b"/ready")
    assert (answer.status, answer.json["status"]) == (503, said)
    assert int(answer[b"retry-after"]) >= 1


def test_health_without_keys(make_world: MakeWorld) -> None:
    """
    AUTH_ENABLED=false can be seen from outside.
    """
    answer = get(make_world(auth_enabled=False), b"/health")
    assert answer.json["authentication"] == {"enabled": False, "keys": 0}


def test_draining(world: World) -> None:
    """
    Who asks while the gateway ends is sent elsewhere.
    """
    asking = [world.client().send(b"GET "), world.client().send(b"GET ")]
    world.gate.drain()
    world.site.draining = True
    for client, path, status in zip(asking, (b"/health", b"/ready"), (200, 503), strict=True):
        client.send(client.request(b"GET", path, key=None)[4:])
        answer = client.answer
        assert (answer.status, answer.json["status"]) == (status, "draining")
        assert answer[b"connection"] == b"close"
        assert bool(answer.all(b"retry-after")) is (status == 503)


def test_ready(make_world: MakeWorld) -> None:
    """
    As long as a request would be served or queued.
    """
    world = make_world(max_queue_size=1)
    for _ in range(2):
        assert get(world, b"/ready").status == 200
        world.client().ask(b"POST", b"/v1/x", body=b"{}")
    answer = get(world, b"/ready")
    assert answer.status == 503
    assert answer.json["queue"]["waiting"] == 1
    assert answer.json["status"] == "ok"
    assert int(answer[b"retry-after"]) >= 1
    for _ in range(2):
        world.engine.answer(OK)
    assert get(world, b"/ready").status == 200
    world.gate.set_engine("loading")
    world.gate.loading_estimate = 41.5
    assert get(world, b"/ready")[b"retry-after"] == b"42"


@pytest.mark.parametrize("path", [b"/health", b"/ready"])
def test_head(world: World, path: bytes) -> None:
    """
    The head of what GET answers.
    """
    client = world.client().ask(b"HEAD", path, key=None)
    whole = get(world, path)
    assert client.answer.status == 200
    assert client.answer[b"content-length"] == whole[b"content-length"]
    assert client.answer[b"content-type"] == b"application/json"


def test_metrics_json(world: World) -> None:
    """
    What there was, counted.
    """
    client = world.client()
    client.ask(b"GET", b"/v1/models")
    world.engine.answer(OK)
    client.ask(b"GET", b"/v1/models", key=None)
    client.ask(b"GET", b"/nothing")
    figures = get(world, b"/metrics").json["gateway"]
    assert figures["total_requests"] == 3
    assert figures["requests_success"] == 1
    assert figures["requests_error"] == 2
    assert figures["requests_authenticated"] == 2
    assert figures["requests_unauthorized"] == 1
    assert figures["errors_by_type"] == {"invalid_api_key": 1, "not_found": 1}
    assert figures["requests_by_path"] == {"/v1/models": 2, "other": 1}
    assert set(figures) == {
        "total_requests",
        "active_requests",
        "requests_by_path",
        "errors_by_type",
        "requests_success",
        "requests_error",
        "requests_authenticated",
        "requests_unauthorized",
        "bytes_sent",
        "queue_depth",
        "queue_rejections",
        "queue_wait_seconds_total",
        "uptime_seconds",
    }


@pytest.mark.parametrize(
    ("accept", "kind", "holds"),
    [
        (b"text/plain", b"text/plain; version=0.0.4; charset=utf-8", b"llm_gateway_requests_total"),
        (b"Text/Plain;version=0.0.4;q=0.5,*/*;q=0.1", b"text/plain", b"# TYPE llm_gateway_"),
        (
            b"application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            b"application/openmetrics-text",
            b"# EOF\n",
        ),
    ],
)
def test_metrics_text(world: World, accept: bytes, kind: bytes, holds: bytes) -> None:
    """
    As Prometheus asks for them.
    """
    get(world, b"/nothing")
    answer = get(world, b"/metrics", (b"Accept", accept))
    assert answer.status == 200
    assert answer[b"content-type"].startswith(kind)
    assert holds in answer.body
    assert b'llm_gateway_engine_state{state="ready"} 1' in answer.body


@pytest.mark.parametrize("accept", [b"*/*", b"application/json", b"text/html", b""])
def test_metrics_for_others(world: World, accept: bytes) -> None:
    """
    JSON.
    """
    assert json.loads(get(world, b"/metrics", (b"Accept", accept)).body)["gateway"]


def test_metrics_with_a_key(make_world: MakeWorld) -> None:
    """
    METRICS_AUTH_ENABLED, which costs nothing of the key's limit.
    """
    world = make_world(metrics_auth_enabled=True)
    assert get(world, b"/metrics").status == 401
    answer = world.client().ask(b"GET", b"/metrics").answer
    assert answer.status == 200
    assert answer.all(b"x-ratelimit-limit-requests") == []
    assert answer.json["gateway"]["requests_unauthorized"] == 1
    client = world.client().ask(b"POST", b"/metrics", body=b"{}")
    assert (client.answer.status, client.answer[b"allow"]) == (405, b"GET, HEAD")
    open_to_all = make_world(metrics_auth_enabled=True, auth_enabled=False)
    assert get(open_to_all, b"/metrics").status == 200


def test_nothing_reaches_the_engine(world: World) -> None:
    """
    Whoever looks at the gateway does not wake or disturb its engine.
    """
    world.status = READY
    for path in (b"/ping", b"/health", b"/ready", b"/metrics"):
        get(world, path)
    assert world.engine_ends == world.attempts == []
