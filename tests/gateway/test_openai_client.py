"""
OpenAI's own package as a client, and a real engine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import openai
import pytest

from tests.gateway.running import Gateway, until
from tests.gateway.talking import CHAT, Answer, Client, Stream, ask, chat, events, fresh_id, named
from twisted_llama.http.sse import TOKEN_ENDS

MESSAGES = [{"role": "user", "content": "Say something."}]
Connect = Callable[..., openai.OpenAI]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """
    Makes clients of a gateway, without retries unless told otherwise.
    """
    clients: list[openai.OpenAI] = []

    def make(gateway: Gateway, key: str | None = None, max_retries: int = 0) -> openai.OpenAI:
        client = openai.OpenAI(
            base_url=f"http://127.0.0.1:{gateway.port}/v1",
            api_key=key or gateway.key,
            max_retries=max_retries,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def test_a_chat(embedded: Gateway, connect: Connect) -> None:
    """An answer of a real engine, with its counts."""
    completion = connect(embedded).chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=8
    )
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 8


def test_a_stream(embedded: Gateway, connect: Connect) -> None:
    """As many pieces as tokens, and the counts at the end."""
    stream = connect(embedded).chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    pieces = [
        chunk.choices[0].delta.content
        for chunk in chunks
        if chunk.choices and chunk.choices[0].delta.content
    ]
    assert len(pieces) >= 11
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == 12


def test_the_models(embedded: Gateway, connect: Connect) -> None:
    """The engine's one model, under a name and not a path."""
    (model,) = connect(embedded).models.list()
    assert "tiny" in model.id


def test_a_wrong_key(mocked: Gateway, connect: Connect) -> None:
    """The package knows what the gateway says."""
    with pytest.raises(openai.AuthenticationError) as caught:
        connect(mocked, "sk-this-key-is-not-known-here").models.list()
    assert caught.value.code == "invalid_api_key"
    assert "Incorrect API key provided" in str(caught.value)
    assert "sk-this" not in str(caught.value)


def test_a_path_that_is_not_there(mocked: Gateway, connect: Connect) -> None:
    """The package knows the engine's errors, too."""
    with pytest.raises(openai.NotFoundError):
        connect(mocked).fine_tuning.jobs.list()


def test_its_retries_wait_as_long_as_they_are_told(
    mocked: Gateway,
    connect: Connect,
    limited_keys: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the limit each try is refused, and each is followed by the wait that it named."""
    key = limited_keys.pop()
    waits: list[float] = []
    client = connect(mocked, key, max_retries=2)
    for _ in range(2):
        client.models.list()
    monkeypatch.setattr("openai._base_client.time.sleep", waits.append)
    refused_before = refused(mocked)
    with pytest.raises(openai.RateLimitError) as caught:
        client.models.list()
    monkeypatch.undo()
    assert caught.value.code == "rate_limit_exceeded"
    assert refused(mocked) == refused_before + 3
    told = int(caught.value.response.headers["Retry-After"])
    assert len(waits) == 2
    # A second may have passed between the tries.
    assert all(1 <= told <= wait <= min(60, told + 2) for wait in waits)


def refused(gateway: Gateway) -> int:
    """
    How many requests were over their key's limit so far.
    """
    figures = gateway.ask("GET", "/metrics").json["gateway"]
    return int(figures["errors_by_type"].get("rate_limit_exceeded", 0))


VARYING = (
    (re.compile(rb'"id":"[^"]*"'), b'"id":""'),
    (re.compile(rb'"created":\d+'), b'"created":0'),
    (re.compile(rb'"timings":\{[^}]*\}'), b'"timings":{}'),
)


def comparable(body: bytes) -> bytes:
    """
    A body without what differs from one answer to the next.
    """
    for pattern, same in VARYING:
        body = pattern.sub(same, body)
    return body


@pytest.mark.parametrize("stream", [False, True])
def test_bodies_are_the_engines(embedded: Gateway, stream: bool) -> None:
    """The same request, asked directly and through the gateway, has the same bytes of body."""
    content = chat(24, stream=stream, temperature=0, seed=7, cache_prompt=False)
    port, key = embedded.engine_address()
    direct = ask(port, "POST", CHAT, key=key, body=content)
    through = embedded.ask("POST", CHAT, body=content)
    assert direct.status == through.status == 200
    assert direct["content-type"] == through["content-type"]
    assert comparable(through.body) == comparable(direct.body)
    if stream:
        assert events(through.body)[-1] == "[DONE]"
        assert len(events(through.body)) > 20
        assert direct.body.count(TOKEN_ENDS) > 20, "the relay knows no tokens of this engine"


def test_errors_are_the_engines(embedded: Gateway) -> None:
    """What the engine refuses is passed on as it is."""
    port, key = embedded.engine_address()
    broken = b'{"messages": '
    answers = [
        ask(port, "POST", CHAT, key=key, body=broken),
        embedded.ask("POST", CHAT, body=broken),
    ]
    assert answers[0].status == answers[1].status >= 400
    assert answers[0].body == answers[1].body


def test_a_client_that_leaves_stops_the_engine(embedded: Gateway) -> None:
    """Seconds of work are left when it goes; within about one, no slot is busy any more."""
    port, key = embedded.engine_address()

    def busy() -> bool:
        slots = ask(port, "GET", "/slots", key=key).json
        return any(slot["is_processing"] for slot in slots)

    request_id = fresh_id("left")
    with Client.connected(embedded.port) as client:
        content = chat(4000, stream=True, ignore_eos=True)
        client.post(CHAT, content, embedded.key, f"X-Request-Id: {request_id}\r\n")
        client.hear(5)
        assert busy()
    until(lambda: not busy(), "no slot is busy", 1.5)
    assert embedded.access_status(request_id) == 499
    embedded.wait_queue(0, 0)


def test_the_engine_needs_its_key(embedded: Gateway) -> None:
    """Whoever finds the engine's port gets nothing from it, not even with a client's key."""
    port, _ = embedded.engine_address()
    answers: list[Answer] = [
        ask(port, "POST", CHAT, key=key, body=chat()) for key in (None, embedded.key)
    ]
    assert [answer.status for answer in answers] == [401, 401]


def test_streams_side_by_side(embedded: Gateway) -> None:
    """More streams than slots: all are served whole."""
    with (
        Client.connected(embedded.port) as one,
        Client.connected(embedded.port) as two,
        Client.connected(embedded.port) as three,
    ):
        clients = (one, two, three)
        for client in clients:
            content = chat(50, stream=True, ignore_eos=True)
            client.post(CHAT, content, embedded.key, "Connection: close\r\n")
        streams = [Stream.of(client.rest()) for client in clients]
    assert all(stream.whole and stream.events[-1] == "[DONE]" for stream in streams)


def test_a_request_has_one_id_everywhere(embedded: Gateway) -> None:
    """A client's own id comes back and stands in the log."""
    request_id = fresh_id()
    answer = embedded.ask("POST", CHAT, body=chat(), headers=named(request_id))
    assert answer["X-Request-Id"] == request_id
    assert embedded.access_status(request_id) == 200
