"""
What is known of a request when it is over, and who hears of it.
"""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from twisted.logger import LogEvent, globalLogPublisher

from tests.api.conftest import MakeWorld
from tests.api.ends import OK, STREAM_HEAD, Client, chunk
from tests.api.world import EPOCH, World
from twisted_llama.admission.ticket import Waiter
from twisted_llama.api.watcher import RequestIds
from twisted_llama.telemetry.exchange import Exchange

PROXIES = (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize("given", [b"a", b"A-b_c.9", b"x" * 128])
def test_ids_of_clients_are_kept(world: World, given: bytes) -> None:
    """
    In the answer, on the way to the engine, and in the log.
    """
    client = world.client().ask(b"GET", b"/v1/models", (b"X-Request-Id", given))
    assert b"X-Request-Id: " + given + b"\r\n" in world.engine.received
    world.engine.answer(OK.replace(b"\r\n\r\n", b"\r\nX-Request-Id: engines\r\n\r\n"))
    assert client.answer[b"x-request-id"] == given
    assert world.exchanges[0].request_id == given


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a b", b"a/b", b"a\xe9", b'a"b', b"a\tb"])
def test_other_ids_are_replaced(world: World, given: bytes) -> None:
    """
    What might be something else in a log or a header.
    """
    client = world.client().ask(b"GET", b"/v1/models", (b"X-Request-Id", given))
    assert world.engine.received.count(b"X-Request-Id:") == 1
    world.engine.answer(OK)
    assert client.answer[b"x-request-id"].startswith(b"req-")


def test_no_two_ids_are_alike(world: World) -> None:
    """
    Within one gateway they are counted; between two they differ from the beginning.
    """
    client = world.client()
    for _ in range(5):
        client.ask(b"GET", b"/ping")
    client.send(b"what?\r\n\r\n")
    assert len({answer[b"x-request-id"] for answer in client.answers}) == 6
    first, second = RequestIds(), RequestIds()
    assert len({first.next(), first.next(), second.next(), second.next()}) == 4


@pytest.mark.parametrize(
    ("peer", "said", "host", "forwarded"),
    [
        ("192.0.2.7", (), "192.0.2.7", b"192.0.2.7"),
        ("192.0.2.7", (b"203.0.113.9",), "192.0.2.7", b"192.0.2.7"),
        ("10.0.0.1", (), "10.0.0.1", b"10.0.0.1"),
        ("10.0.0.1", (b"203.0.113.9",), "203.0.113.9", b"203.0.113.9, 10.0.0.1"),
        (
            "10.0.0.1",
            (b"6.6.6.6, 203.0.113.9, 10.9.9.9",),
            "203.0.113.9",
            b"6.6.6.6, 203.0.113.9, 10.9.9.9, 10.0.0.1",
        ),
        (
            "10.0.0.1",
            (b"6.6.6.6", b"203.0.113.9"),
            "203.0.113.9",
            b"6.6.6.6, 203.0.113.9, 10.0.0.1",
        ),
    ],
)
def test_who_a_client_is(
    make_world: MakeWorld, peer: str, said: tuple[bytes, ...], host: str, forwarded: bytes
) -> None:
    """
    What a trusted proxy says of it counts, what anybody else says does not.  With keys off
    the queue goes by that.
    """
    world = make_world(trusted_proxies=PROXIES, auth_enabled=False)
    asked: list[str] = []
    admit = world.gate.admit

    def seen(key_id: str, waiter: Waiter) -> object:
        asked.append(key_id)
        return admit(key_id, waiter)

    world.gate.admit = seen  # type: ignore[assignment,method-assign]  # to look on
    fields = [(b"X-Forwarded-For", value) for value in said]
    world.client(peer).ask(b"POST", b"/v1/x", *fields, key=None, body=b"{}")
    assert asked == [host]
    assert b"X-Forwarded-For: " + forwarded + b"\r\n" in world.engine.received
    assert world.engine.received.lower().count(b"x-forwarded-for") == 1


@pytest.mark.parametrize(
    ("peer", "said", "proto"),
    [
        ("10.0.0.1", (b"https",), b"https"),
        ("10.0.0.1", (b"HTTP",), b"http"),
        ("10.0.0.1", (), b"http"),
        ("10.0.0.1", (b"wss",), b"http"),
        ("10.0.0.1", (b"https, http",), b"http"),
        ("10.0.0.1", (b"https", b"https"), b"http"),
        ("192.0.2.7", (b"https",), b"http"),
    ],
)
def test_how_it_came_to_a_proxy(
    make_world: MakeWorld, peer: str, said: tuple[bytes, ...], proto: bytes
) -> None:
    """
    Kept as a trusted proxy says it, where that is one of two words; else how it came here.
    """
    world = make_world(trusted_proxies=PROXIES)
    fields = [(b"X-Forwarded-Proto", value) for value in said]
    world.client(peer).ask(b"GET", b"/v1/models", *fields)
    assert b"X-Forwarded-Proto: " + proto + b"\r\n" in world.engine.received
    assert world.engine.received.lower().count(b"x-forwarded-proto") == 1


def test_one_client_behind_a_proxy_is_not_all_of_them(make_world: MakeWorld) -> None:
    """
    MAX_CONNECTIONS_PER_IP counts the requests of each client that a trusted proxy names.
    """
    world = make_world(trusted_proxies=PROXIES, max_connections_per_ip=2, max_concurrent_requests=9)

    def ask(host: bytes, target: bytes = b"/v1/x") -> Client:
        return world.client("10.0.0.1").ask(b"POST", target, (b"X-Forwarded-For", host), body=b"{}")

    first, second = ask(b"203.0.113.9"), ask(b"203.0.113.9")
    third, other = ask(b"203.0.113.9"), ask(b"203.0.113.10")
    assert first.received == second.received == other.received == b""
    assert (third.answer.status, third.answer.code) == (429, "too_many_connections")
    assert third.answer[b"retry-after"] == b"1"
    assert third.answer.json["error"]["type"] == "rate_limit_error"
    client = world.client("10.0.0.1")
    client.ask(b"GET", b"/ping", (b"X-Forwarded-For", b"203.0.113.9"), key=None)
    assert client.answer.status == 200
    first.leave()
    assert ask(b"203.0.113.9").received == b""
    for client in world.clients:
        client.leave()
    assert not world.watcher._under_way


def test_without_trusted_proxies(world: World) -> None:
    """
    The address at the other end is all there is.
    """
    world.client().ask(b"GET", b"/v1/models", (b"X-Forwarded-For", b"6.6.6.6"))
    assert b"X-Forwarded-For: 192.0.2.7\r\n" in world.engine.received


def test_facts_of_a_stream(world: World) -> None:
    """
    When it began, waited, was answered and ended; how many bytes and tokens; which model.
    """
    blocking = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.clock.advance(1)
    client = world.client().ask(b"POST", b"/v1/chat/completions?x=y", body=b"{}")
    world.clock.advance(2)
    blocking.leave()
    world.clock.advance(0.5)
    world.engine.answer(STREAM_HEAD)
    world.clock.advance(0.25)
    events = [
        b'data: {"choices":[{"delta":{"content":"Hi"}}],"model":"little.gguf"}\n\n',
        b'data: {"choices":[],"model":"little.gguf",'
        b'"usage":{"completion_tokens":12,"prompt_tokens":34,"total_tokens":46},'
        b'"timings":{"prompt_n":34,"predicted_n":12,"predicted_ms":600.5}}\n\n',
        b"data: [DONE]\n\n",
    ]
    for event in events:
        world.engine.answer(chunk(event))
    world.clock.advance(1)
    world.engine.answer(b"0\r\n\r\n")
    assert client.answer.whole
    exchange = world.exchanges[-1]
    assert exchange.method == b"POST"
    assert exchange.path == b"/v1/chat/completions"
    assert exchange.endpoint == "/v1/chat/completions"
    assert exchange.key_id == "user"
    assert (exchange.status, exchange.outcome, exchange.error_code) == (200, "complete", None)
    assert exchange.relayed
    assert not exchange.public
    assert exchange.started_wall - EPOCH == exchange.started == 1
    assert exchange.queue_seconds == 2
    assert exchange.overhead_seconds == 0
    assert exchange.first_byte_seconds == 2.5
    assert exchange.first_token_seconds == 2.75
    assert exchange.finished == 4.75
    assert exchange.bytes_sent == sum(map(len, events))
    assert (exchange.prompt_tokens, exchange.generated_tokens) == (34, 12)
    assert exchange.generation_seconds == 0.6005
    assert exchange.read_model() == "little.gguf"


def test_facts_of_a_client_that_has_left(world: World) -> None:
    """
    499, with what it had got by then.
    """
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    world.engine.answer(STREAM_HEAD + chunk(b"data: x\n\n"))
    client.leave()
    (exchange,) = world.exchanges
    assert (exchange.status, exchange.outcome) == (499, "client_gone")
    assert exchange.bytes_sent == 9
    assert exchange.first_byte_seconds == 0


def test_facts_of_a_refused_request(world: World) -> None:
    """
    Its error, and that it never reached the engine.
    """
    client = world.client().ask(b"POST", b"/nothing?secret=1", body=b"{}")
    (exchange,) = world.exchanges
    assert (exchange.status, exchange.outcome) == (404, "refused")
    assert exchange.error_code == "not_found"
    assert exchange.path == b"/nothing"
    assert exchange.endpoint == "other"
    assert not exchange.relayed
    assert exchange.bytes_sent == len(client.answer.body)


def test_facts_of_a_public_page(world: World) -> None:
    """
    It is marked, and so kept out of the access log.
    """
    world.client().ask(b"GET", b"/ping?x", key=None)
    (exchange,) = world.exchanges
    assert (exchange.public, exchange.endpoint, exchange.key_id) == (True, "/ping", "-")


def test_every_observer_hears_once(world: World) -> None:
    """
    Also of requests that came together on one connection.
    """
    heard: list[Exchange] = []
    world.batch._observers += (heard.extend,)
    client = world.client()
    client.send(b"".join(client.request(b"GET", b"/ping") for _ in range(3)))
    client.ask(b"POST", b"/v1/x", body=b"{}")
    client.leave()
    assert [exchange.status for exchange in world.exchanges] == [200, 200, 200, 499]
    assert heard == world.exchanges


def test_what_is_no_request_goes_to_the_gateways_log(world: World) -> None:
    """
    With who sent it and why it was refused, and not a byte of what it was.
    """
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        world.client().send(b"SECRET\x00\x1b[31m\r\n\r\n")
    finally:
        globalLogPublisher.removeObserver(events.append)
    (event,) = [event for event in events if event.get("peer")]
    assert event["peer"] == "192.0.2.7"
    line = event["log_format"].format(**event)
    assert "malformed" in line
    assert "SECRET" not in line
    assert world.exchanges == []
