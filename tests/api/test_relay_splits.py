"""
The engine's bytes, cut at every place: the client gets the same.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.api.world import World
from tests.http.splits import split

CHUNK = (
    b'data: {"choices":[{"finish_reason":%b,"index":0,"delta":{%b}}],"created":1,"id":"a",'
    b'"model":"m.gguf","system_fingerprint":"b","object":"chat.completion.chunk"%b}\n\n'
)
USAGE = b',"usage":{"completion_tokens":5,"prompt_tokens":3,"total_tokens":8}'
TIMINGS = b',"timings":{"cache_n":0,"prompt_n":3,"predicted_n":5,"predicted_ms":500.0}'
EVENTS = [
    CHUNK % (b"null", b'"role":"assistant","content":null', b""),
    *(CHUNK % (b"null", b'"content":"%d"' % at, b"") for at in range(5)),
    CHUNK % (b'"stop"', b"", USAGE + TIMINGS),
    b"data: [DONE]\n\n",
]
BODY = b"".join(EVENTS)


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def response(*lines: bytes) -> bytes:
    return (
        b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Type: text/event-stream", *lines]) + b"\r\n\r\n"
    )


FRAMED = {
    "chunked": response(b"Transfer-Encoding: chunked") + chunked(EVENTS),
    "with extensions and trailers": response(b"Transfer-Encoding: chunked")
    + b"5;a=b\r\n%b\r\n%x\r\n%b\r\n0\r\nX: y\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:]),
    "a length": response(b"Content-Length: %d" % len(BODY)) + BODY,
    "until it closes": response() + BODY,
    "after interim answers": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
    + response(b"Transfer-Encoding: chunked")
    + chunked(EVENTS),
}


@given(
    framing=st.sampled_from(list(FRAMED)),
    version=st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]),
    data=st.data(),
)
def test_whole_answers(framing: str, version: bytes, data: st.DataObject) -> None:
    world = World()
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}", version=version)
    engine = world.engine
    for piece in data.draw(split(FRAMED[framing])):
        engine.answer(piece)
    if framing == "until it closes":
        engine.close()
    answer = client.answer
    assert (answer.status, answer.body, answer.whole) == (200, BODY, True)
    exchange = world.exchanges[-1]
    assert (exchange.outcome, exchange.bytes_sent) == ("complete", len(BODY))
    counted = (exchange.prompt_tokens, exchange.generated_tokens, exchange.generation_seconds)
    assert counted == (3, 5, 0.5)
    assert exchange.read_model() == "m.gguf"
    client.leave()
    world.assert_nothing_left()


@given(data=st.data())
def test_answers_that_break_off(data: st.DataObject) -> None:
    """
    Wherever it is: an event says so, there is no C{[DONE]}, and no proper end.
    """
    world = World()
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    engine = world.engine
    stream = FRAMED["chunked"]
    head = stream.index(b"\r\n\r\n") + 4
    end = data.draw(st.integers(head, stream.index(b"[DONE]")))
    for piece in data.draw(split(stream[:end])):
        engine.answer(piece)
    engine.close()
    answer = client.answer
    assert answer.status == 200
    assert not answer.whole
    assert b"[DONE]" not in answer.body
    *_, last, nothing = answer.body.split(b"\n\n")
    assert nothing == b""
    # Cut inside an empty line, the stream has one line end more than it needs.
    last = last.removeprefix(b"\n")
    assert last.startswith(b'data: {"error": {"message": ')
    assert BODY.startswith(answer.body[: answer.body.index(last)].removesuffix(b"\n\n"))
    assert client.closed
    exchange = world.exchanges[-1]
    assert exchange.status == 502
    if BODY[: exchange.bytes_sent].endswith(b"}\n\n"):
        assert exchange.read_model() == "m.gguf", "it is known from the first event on"
    world.assert_nothing_left()


@given(data=st.data())
def test_what_follows_an_answer_is_never_passed_on(data: st.DataObject) -> None:
    world = World()
    client = world.client().ask(b"POST", b"/v1/x", body=b"{}")
    engine = world.engine
    json = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    for piece in data.draw(split(json + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")):
        if not engine.closed:
            engine.answer(piece)
    assert client.answer.body == b"{}"
    assert b"secret" not in client.received
    again = client.ask(b"POST", b"/v1/x", body=b"{}")
    assert world.engine is not engine, "the connection is not used again"
    world.engine.answer(json)
    assert [answer.body for answer in again.answers] == [b"{}", b"{}"]
    client.leave()
    world.assert_nothing_left()


@given(data=st.data(), body=st.binary(max_size=60))
def test_requests_in_any_split(data: st.DataObject, body: bytes) -> None:
    """
    Chunked or not, the engine gets one plain request with the same body.
    """
    world = World()
    client = world.client()
    if data.draw(st.booleans()):
        head = client.request(b"POST", b"/v1/x?y=1", (b"Transfer-Encoding", b"chunked"))
        request = head + chunked(data.draw(split(body)))
    else:
        request = client.request(b"POST", b"/v1/x?y=1", body=body)
    for piece in data.draw(split(request)):
        client.send(piece)
    received = world.engine.received
    head, _, sent = received.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/x?y=1 HTTP/1.1\r\n")
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert b"ransfer-" not in head
    assert sent == body
    client.leave()
    world.assert_nothing_left()
