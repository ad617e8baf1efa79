"""
Who is served when by an engine that has work to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from importlib.util import find_spec
from time import monotonic

import pytest

from tests.conftest import Require
from tests.gateway.running import Gateway, running, until
from tests.gateway.talking import CHAT, Answer, Client, chat
from tests.tiny_model import tiny_model

#: Enough to keep the slot for a good part of a second.
TOKENS = 2500
#: Little enough for eleven.
FEW_TOKENS = 500


@pytest.fixture(scope="module")
def short_queue(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Iterator[Gateway]:
    """
    MAX_CONCURRENT_REQUESTS=1 MAX_QUEUE_SIZE=2.
    """
    require(find_spec("xllamacpp"), "the embedded engine is missing: pip install xllamacpp")
    settings = {
        "ENGINE": "embedded",
        "MODEL_PATH": tiny_model(),
        "CTX": 8192,
        "NGL": 0,
        "THREADS": 1,
        "MAX_CONCURRENT_REQUESTS": 1,
        "MAX_QUEUE_SIZE": 2,
    }
    with running(Gateway(tmp_path_factory.mktemp("short"), settings)) as gateway:
        yield gateway


def test_four_clients_at_once(short_queue: Gateway) -> None:
    """Three are served in turn; one is refused and told truly when to come again."""

    def ask(_: int) -> tuple[Answer, float]:
        answer = short_queue.ask("POST", CHAT, body=chat(TOKENS))
        return answer, monotonic()

    with ThreadPoolExecutor(4) as pool:
        # The gateway has to have measured how long a slot is held.
        assert short_queue.ask("POST", CHAT, body=chat(TOKENS)).status == 200
        # No slot is free again before all four have come.
        with short_queue.engine_held():
            asked = [pool.submit(ask, number) for number in range(4)]
            wait(asked, return_when=FIRST_COMPLETED)
            short_queue.wait_queue(1, 2)
        answers = [one.result() for one in asked]
    assert sorted(answer.status for answer, _ in answers) == [200, 200, 200, 503]
    (refused, refused_at) = next(each for each in answers if each[0].status == 503)
    assert refused.error["code"] == "queue_full"
    assert refused.error["type"] == "server_error"
    served_at = sorted(at for answer, at in answers if answer.status == 200)
    retry_after = int(refused["Retry-After"] or 0)
    assert retry_after >= 1
    # True: all that were before it are served by then, give or take a busy machine, and it
    # was not told to stay away for much longer than they took.
    took = served_at[-1] - refused_at
    assert took <= 2 * retry_after
    assert retry_after <= 3 * took + 2
    assert short_queue.queue() == (0, 0)
    assert short_queue.ask("POST", CHAT, body=chat(2)).status == 200


def test_a_key_with_ten_requests_and_one_with_one(real: Gateway) -> None:
    """The other key's first request is served second, not eleventh."""
    order: list[str] = []

    def ask(name: str) -> int:
        status = real.ask("POST", CHAT, body=chat(FEW_TOKENS), key=real.keys[name]).status
        order.append(name)
        return status

    with ThreadPoolExecutor(11) as pool:
        # The first one takes until all the others are there.
        with real.engine_held():
            asked = [pool.submit(ask, "first") for _ in range(10)]
            real.wait_queue(1, 9)
            asked.append(pool.submit(ask, "second"))
            real.wait_queue(1, 10)
        assert {one.result() for one in asked} == {200}
    assert order == ["first", "second", *["first"] * 9]


def test_the_engine_stops_when_its_client_leaves(real: Gateway) -> None:
    """Its slot is free at once, though thousands of tokens were asked for."""
    with Client.connected(real.port) as client:
        client.post(CHAT, chat(7000, stream=True), real.key)
        client.hear(2)
    real.wait_queue(0, 0)
    port, key = real.engine_address()

    def idle() -> bool:
        with Client.connected(port) as asking:
            line = f"GET /slots HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
            asking.send(f"{line}Connection: close\r\n\r\n".encode())
            return not any(slot["is_processing"] for slot in asking.read("GET").json)

    until(idle, "the engine is idle", 5)
