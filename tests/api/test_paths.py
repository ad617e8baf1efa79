"""
Where a path leads: which need no key, which go to the engine, and that no spelling of one is
ever taken for another.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.conftest import MakeWorld
from tests.api.ends import KEY, OK
from tests.api.world import World
from twisted_llama.api.routes import PUBLIC, Destination, destination

RELAYED = [
    b"/v1/models",
    b"/v1/models/some/model",
    b"/v1/chat/completions",
    b"/v1/anything/else",
    b"/v1/",
    b"/completion",
    b"/completions",
    b"/chat/completions",
    b"/embedding",
    b"/embeddings",
    b"/infill",
    b"/tokenize",
    b"/detokenize",
    b"/apply-template",
    b"/rerank",
    b"/reranking",
    b"/responses",
]
NEVER = [
    (b"GET", b"/"),
    (b"GET", b"/index.html"),
    (b"GET", b"/v1"),
    (b"GET", b"/v2/models"),
    (b"GET", b"/V1/models"),
    (b"GET", b"/slots"),
    (b"POST", b"/slots/0"),
    (b"POST", b"/props"),
    (b"POST", b"/models"),
    (b"DELETE", b"/models"),
    (b"GET", b"/models/x"),
    (b"POST", b"/models/load"),
    (b"POST", b"/models/unload"),
    (b"GET", b"/lora-adapters"),
    (b"POST", b"/lora-adapters"),
    (b"GET", b"/tools"),
    (b"GET", b"/cors-proxy"),
    (b"POST", b"/completion/"),
    (b"POST", b"/Completion"),
    (b"GET", b"/metrics/"),
    (b"GET", b"/ping/x"),
    (b"GET", b"/health/"),
    (b"GET", b"/PING"),
    (b"GET", b"/pin"),
]

#: What is put in front of, behind and into paths to have them taken for others.
TRICKS = (
    b"? ?? ?x=/v1/models ?/ping ?;/ping / // /// /. /./ /.. /../ /..;/ ..;/ .. . ./ ../ ~ * & "
    b"! $ ' ( ) ; ;/ ;x=1 ;%2f.. %00 %09 %0a %0d %0d%0a %20 %23 %25 %26 %2e %2e%2e %2e/ "
    b"%2e%2e/ %2e%2e%2f %2f %2F %2f%2f %252f %252e%252e/ %3b %3B/ %3f %3F %5c %5C.. %7f %80 "
    b"%c0%ae%c0%ae/ %c0%af %e2%80%8b %u002f %ff %zz % %2 \\ \\/ ..\\ ..%5c ..%2f ..%252f ..%00/ "
    b'..%09 .%2e/ #x # | ^ ` { } " < > .json .html .css .php .bak :80 @x %70ing %50ing '
    b"%2570ing http://gateway.test/ /%2e/ /%2e%2e/ /.%2e/ /;/ /..%2f /%2f /%5c /x/.. /x/../ "
    b"/x/%2e%2e/"
).split(b" ")
PATHS = [*sorted(PUBLIC), b"/v1/models", b"/reload", b"/slots", b"/"]


def spellings() -> list[bytes]:
    """
    The tricks with every kind of path, in every place.
    """
    made = set()
    for path in PATHS:
        for trick in TRICKS:
            made |= {
                path + trick,
                trick + path,
                b"/" + trick + path,
                path + b"/" + trick,
                path + b"/" + trick + b"/ping",
                b"/ping" + trick + path,
                b"/ping/" + trick + path,
                path[:2] + trick + path[2:],
            }
    return sorted(made - {path for path in made if b" " in path})


def from_corpus() -> list[bytes]:
    """
    Some thousand more, where C{TEST_CORPORA} names a folder with lists of them.
    """
    lists = Path(os.environ.get("TEST_CORPORA", "-")) / "bypass.json"
    if not lists.exists():
        return []
    tricks = json.loads(lists.read_text())
    made = set()
    for path in ("ping", "health", "v1/models", "reload"):
        made |= {f"/{path}{end}" for end in tricks["endpaths"]}
        for middle in tricks["midpaths"]:
            made |= {f"/{middle}{path}", f"/{middle}/{path}", f"/ping/{middle}/{path}"}
            made |= {f"/{path}/{middle}/ping", f"/{path}{middle}ping", f"/ping{middle}{path}"}
    return [path.encode() for path in made if " " not in path]


def ask(world: World, target: bytes, key: bytes | None) -> tuple[int, bytes]:
    """
    Ask for a target, in a connection of its own.

    @return: the status, and what the engine was asked for.
    """
    client = world.client()
    before = len(world.engine_ends)
    client.ask(b"GET", target, key=key)
    sent = b""
    if len(world.engine_ends) > before:
        sent = world.engine.received
        world.engine.answer(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    answers = client.answers
    client.leave()
    world.pool.close()
    assert len(answers) == 1, (target, answers)
    return answers[0].status, sent


@pytest.fixture
def busy_world(make_world: MakeWorld) -> World:
    """
    A gateway for thousands of requests.
    """
    return make_world(max_requests_per_minute=1_000_000)


def test_no_spelling_gets_by_without_a_key(busy_world: World) -> None:
    """
    Only the public paths themselves answer to everybody; and whatever answers to the holder of
    a key was judged by the very bytes that are sent on.
    """
    seen = {200: 0, 400: 0, 404: 0, 405: 0}
    for target in {*spellings(), *from_corpus()}:
        status, sent = ask(busy_world, target, None)
        assert status in (200, 400, 401), target
        assert sent == b"", target
        path = target.split(b"?")[0]
        if path.lower().startswith(b"http://"):
            path = b"/" + path.split(b"/", 3)[3]
        if status == 200:
            assert path in (*PUBLIC, b"/%70ing"), target
        status, sent = ask(busy_world, target, KEY)
        seen[status] += 1
        if sent:
            asked = sent.split(b" ")[1]
            assert asked.startswith(b"/v1/"), target
            assert b".." not in asked.split(b"?")[0].split(b"/"), target
            assert b"//" not in asked.split(b"?")[0], target
    assert min(seen.values()) > 0, seen


def test_a_method_in_a_header_is_not_one(world: World) -> None:
    """
    Nor is a path: the request line alone decides.
    """
    for name in (b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override"):
        client = world.client().ask(b"DELETE", b"/ping", (name, b"GET"), key=None)
        assert client.answer.status == 405
        client = world.client().ask(b"GET", b"/reload", (name, b"POST"))
        assert client.answer.status == 405
    for name in (b"X-Original-URL", b"X-Rewrite-URL", b"X-Override-URL", b"X-Forwarded-Path"):
        client = world.client().ask(b"GET", b"/v1/models", (name, b"/ping"), key=None)
        assert client.answer.status == 401
        client = world.client().ask(b"GET", b"/ping", (name, b"/v1/models"), key=None)
        assert (client.answer.status, client.answer.body) == (200, b"")
    for name in (b"X-Forwarded-For", b"X-Real-IP", b"Client-IP", b"X-Custom-IP-Authorization"):
        client = world.client().ask(b"GET", b"/v1/models", (name, b"127.0.0.1"), key=None)
        assert client.answer.status == 401
    assert world.engine_ends == []


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_public_paths(world: World, path: bytes) -> None:
    """
    GET and HEAD for everybody, with any query; nothing else for anybody.
    """
    for target in (path, path + b"?", path + b"?x=/v1/models&y=%2e%2e"):
        assert world.client().ask(b"GET", target, key=None).answer.status == 200
        client = world.client().ask(b"HEAD", target, key=None)
        assert client.answer.status == 200
        assert client.received.endswith(b"\r\n\r\n")
    got = world.client().ask(b"GET", path, key=None).answer
    assert int(got[b"content-length"]) == len(got.body)
    for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"):
        client = world.client().ask(method, path)
        assert (client.answer.status, client.answer[b"allow"]) == (405, b"GET, HEAD")
    for other in (path + b"/", path + b"/x", path.upper(), path + b"x"):
        assert world.client().ask(b"GET", other, key=None).answer.status == 401
        assert world.client().ask(b"GET", other).answer.status == 404
    assert world.engine_ends == []


def test_public_paths_answer_whatever_happens(make_world: MakeWorld) -> None:
    """
    With a full queue and a dead engine too, and to keys over their limit.
    """
    world = make_world(max_queue_size=1, max_requests_per_minute=2)
    for _ in range(2):
        world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.gate.set_engine("loading")
    client = world.client()
    for _ in range(3):
        for path in sorted(PUBLIC - {b"/ready"}):
            client.ask(b"GET", path)
    assert {answer.status for answer in client.answers} == {200}


@pytest.mark.parametrize("path", RELAYED)
def test_relayed(world: World, path: bytes) -> None:
    """
    Method, path and query reach the engine as they came.
    """
    client = world.client().ask(b"POST", path + b"?a=b&c=%2F", body=b"{}")
    assert world.engine.received.startswith(b"POST " + path + b"?a=b&c=%2F HTTP/1.1\r\n")
    world.engine.answer(OK)
    assert client.answer.status == 200


@pytest.mark.parametrize(("method", "path"), NEVER)
def test_never_relayed(world: World, method: bytes, path: bytes) -> None:
    """
    What the engine has beyond inference is not there.
    """
    client = world.client().ask(method, path)
    assert (client.answer.status, client.answer.code) == (404, "not_found")
    assert world.client().ask(method, path, key=None).answer.status == 401
    assert world.engine_ends == []


@pytest.mark.parametrize("path", [b"/props", b"/models"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_relayed_to_be_read(path: bytes, method: bytes) -> None:
    """
    What may be read and not changed.
    """
    assert destination(method, path, ()) is Destination.ENGINE
    for other in (b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"):
        assert destination(other, path, ()) is Destination.NOTHING


def test_the_whole_server(world: World) -> None:
    """
    C{OPTIONS *} asks what the gateway as a whole can do, and that needs a key.
    """
    assert world.client().ask(b"OPTIONS", b"*", key=None).answer.status == 401
    answer = world.client().ask(b"OPTIONS", b"*").answer
    assert (answer.status, answer[b"Allow"]) == (204, b"GET, HEAD, POST, OPTIONS")


@pytest.mark.parametrize(
    ("prefix", "path", "leads"),
    [
        (b"/slots", b"/slots", Destination.ENGINE),
        (b"/slots", b"/slots/0", Destination.ENGINE),
        (b"/slots", b"/slotsx", Destination.NOTHING),
        (b"/slots", b"/slot", Destination.NOTHING),
        (b"/ui/", b"/ui/", Destination.ENGINE),
        (b"/ui/", b"/ui/x.css", Destination.ENGINE),
        (b"/ui/", b"/ui", Destination.NOTHING),
        (b"/", b"/anything", Destination.ENGINE),
        (b"/", b"/reload", Destination.RELOAD),
    ],
)
def test_extra_paths(prefix: bytes, path: bytes, leads: Destination) -> None:
    """
    PROXY_EXTRA_PATHS opens whole segments.
    """
    assert destination(b"POST", path, (b"/other", prefix)) is leads


def test_an_extra_path_needs_a_key(make_world: MakeWorld) -> None:
    """
    It is relayed, and protected like the others.
    """
    world = make_world(proxy_extra_paths=(b"/slots",))
    assert world.client().ask(b"GET", b"/slots", key=None).answer.status == 401
    world.client().ask(b"GET", b"/slots")
    assert world.engine.received.startswith(b"GET /slots HTTP/1.1\r\n")


@given(st.binary(max_size=12).map(lambda path: b"/" + path), st.sampled_from([b"GET", b"POST"]))
def test_only_named_paths_lead_anywhere(path: bytes, method: bytes) -> None:
    """
    Everything else leads nowhere.
    """
    named = path.startswith(b"/v1/") or path in (*RELAYED, b"/props", b"/models", b"/reload")
    assert (destination(method, path, ()) is Destination.NOTHING) == (
        not named or (method == b"POST" and path in (b"/props", b"/models"))
    )
