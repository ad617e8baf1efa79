"""
Who is served when, if not all can be served at once.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Iterator

import pytest

from tests.gateway.running import Gateway
from tests.gateway.scripted_engine import Gate, ScriptedEngine, echo
from tests.gateway.talking import CHAT, Client, chat, fresh_id, named, request_bytes


class Crowd:
    """
    Clients of a gateway that serves one at a time, the first of which holds the slot.

    @ivar holder: the first one's request id.
    """

    def __init__(self, gateway: Gateway, engine: ScriptedEngine, stack: contextlib.ExitStack):
        self.gateway = gateway
        self.engine = engine
        self._stack = stack
        self._gates: dict[str, Gate] = {}
        self._clients: dict[str, Client] = {}
        gateway.wait_queue(0, 0)
        self.holder = self.enter(gateway.key)
        engine.wait(self.holder)

    def enter(self, key: str) -> str:
        """
        Send a request, and wait until the gateway has it.

        @return: its id.
        """
        request_id = fresh_id("crowd")
        gate = self._gates[request_id] = Gate()
        self._stack.callback(gate.open)
        self.engine.script(request_id, lambda asked: (gate.wait(), echo(asked))[1])
        client = self._stack.enter_context(Client.connected(self.gateway.port))
        self._clients[request_id] = client
        lines = f"Connection: close\r\nX-Request-Id: {request_id}\r\n"
        client.post(CHAT, chat(), key, lines)
        self.gateway.wait_queue(1, len(self._clients) - 1)
        return request_id

    def leave(self, request_id: str) -> None:
        """
        A client goes away.
        """
        self._clients.pop(request_id).close()

    def serve(self, request_id: str) -> int:
        """
        Let the engine answer a request, which must be the one that it works on.

        @return: the status that the client gets.
        """
        self.engine.wait(request_id)
        self._gates[request_id].open()
        return self._clients.pop(request_id).read().status


@pytest.fixture
def crowd(narrow: Gateway, engine: ScriptedEngine) -> Iterator[Crowd]:
    """
    One client that is being served.
    """
    with contextlib.ExitStack() as stack:
        yield Crowd(narrow, engine, stack)
    narrow.wait_queue(0, 0)


def test_in_turn(crowd: Crowd) -> None:
    """One at a time, the rest in the order in which they came, none more than may wait."""
    keys = crowd.gateway.keys
    waiting = [crowd.enter(keys["first"]) for _ in range(3)]
    refused_id = fresh_id("refused")
    refused = crowd.gateway.ask("POST", CHAT, body=chat(), headers=named(refused_id))
    assert refused.status == 503
    assert refused.error["code"] == "queue_full"
    assert refused.error["type"] == "server_error"
    assert int(refused["Retry-After"] or 0) >= 1
    assert crowd.gateway.ask("GET", "/ready").status == 503
    assert crowd.gateway.ask("GET", "/ping").status == 200
    assert crowd.gateway.ask("GET", "/v1/models").status == 200, "cheap ones do not queue"
    for request_id in (crowd.holder, *waiting):
        later = [one for one in waiting if crowd.engine.find(one) is None]
        assert crowd.serve(request_id) == 200
        assert len(later) <= 3
    assert [crowd.gateway.access_status(one) for one in waiting] == [200] * 3
    assert crowd.gateway.access_status(refused_id) == 503
    assert crowd.engine.find(refused_id) is None
    order = [asked.id for asked in crowd.engine.asked() if asked.id in waiting]
    assert order == waiting


def test_fair_between_keys(crowd: Crowd) -> None:
    """The second key's first request is served second, though it came last."""
    keys = crowd.gateway.keys
    one, two = crowd.enter(keys["second"]), crowd.enter(keys["second"])
    other = crowd.enter(keys["third"])
    for request_id in (crowd.holder, one, other, two):
        assert crowd.serve(request_id) == 200


def test_who_leaves_gives_up_its_place(crowd: Crowd) -> None:
    """It never reaches the engine, and the next one moves up."""
    keys = crowd.gateway.keys
    leaver = crowd.enter(keys["first"])
    stayer = crowd.enter(keys["first"])
    crowd.leave(leaver)
    crowd.gateway.wait_queue(1, 1)
    assert crowd.serve(crowd.holder) == 200
    assert crowd.serve(stayer) == 200
    assert crowd.engine.find(leaver) is None
    assert crowd.gateway.access_status(leaver) == 499


def test_who_leaves_while_served_frees_the_slot(crowd: Crowd) -> None:
    """At once, without waiting for the engine."""
    waiter = crowd.enter(crowd.gateway.keys["first"])
    crowd.leave(crowd.holder)
    assert crowd.serve(waiter) == 200
    assert crowd.gateway.access_status(crowd.holder) == 499


def test_a_refused_request_does_not_count(crowd: Crowd) -> None:
    """What the queue refuses is given back to the key's limit."""
    keys = crowd.gateway.keys
    waiting = [crowd.enter(keys["first"]) for _ in range(3)]

    def remaining() -> int:
        answer = crowd.gateway.ask("GET", "/v1/models", key=keys["third"])
        return int(answer["x-ratelimit-remaining-requests"] or -1)

    before = remaining()
    refused = crowd.gateway.ask("POST", CHAT, body=chat(), key=keys["third"])
    assert refused.status == 503
    # One less for each time that we looked, at most; what has aged comes back.
    assert remaining() >= before - 1
    for request_id in (crowd.holder, *waiting):
        crowd.serve(request_id)


def test_two_hundred_clients_that_leave_at_random(mocked: Gateway) -> None:
    """In the middle of a head, of a body, in the queue, in a stream: nothing is left of them."""
    choice = random.Random(8)
    pause = threading.Event()
    request = json.dumps(chat(500, stream=True)).encode()
    leaving: list[tuple[float, Client]] = []
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            client = stack.enter_context(Client.connected(mocked.port))
            key = mocked.keys[choice.choice(["user", "other"])]
            whole = request_bytes("POST", CHAT, key, request)
            client.send(whole if choice.random() < 0.7 else whole[: choice.randrange(len(whole))])
            leaving.append((choice.random(), client))
        now = 0.0
        for moment, client in sorted(leaving, key=lambda each: each[0]):
            pause.wait(moment - now)
            now = moment
            client.close()
    mocked.wait_queue(0, 0)
    assert mocked.ask("POST", CHAT, body=chat()).status == 200
