"""
The mock engine, spoken to over HTTP in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.server import Site

from twisted_llama.engine import mock_answers
from twisted_llama.engine.mock import MockResource, MockShape, main, parse_shape

CHAT = {"messages": [{"role": "user", "content": "hi there"}]}


class Connection:
    """
    One client.
    """

    def __init__(self, site: Site, clock: Clock) -> None:
        self.clock = clock
        self.transport = StringTransport()
        self.protocol = site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def send(self, method: str, path: str, body: object = None, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        content = b"" if body is None else content
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.protocol.dataReceived("\r\n".join([*lines, "", ""]).encode() + content)

    def read(self) -> tuple[int, dict[str, str], bytes]:
        head, _, rest = self.transport.value().partition(b"\r\n\r\n")
        self.transport.clear()
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        if headers.get("transfer-encoding") == "chunked":
            rest = unchunk(rest)
        return int(status.split()[1]), headers, rest

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        self.send(method, path, body, **headers)
        self.clock.pump([0.0] * 100)
        status, _, content = self.read()
        return status, json.loads(content)

    def close(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


def unchunk(rest: bytes) -> bytes:
    """
    The content of what came so far.
    """
    content = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        content += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return content


def events(content: bytes) -> list[Any]:
    """
    The events of a stream; C{[DONE]} as it is.
    """
    found = [event.removeprefix(b"data: ") for event in content.split(b"\n\n")[:-1]]
    return [event.decode() if event == b"[DONE]" else json.loads(event) for event in found]


Connect = Callable[..., Connection]


@pytest.fixture
def connect() -> Connect:
    """
    Connects to a mock engine of a certain shape.
    """

    def make(site_and_clock: tuple[Site, Clock] | None = None, **shape: Any) -> Connection:
        clock = Clock()
        resource = MockResource(MockShape(**shape), clock, lambda: 1000.0)
        site = Site(resource, reactor=clock)
        return Connection(site, clock)

    return make


def test_chat(connect: Connect) -> None:
    """
    Its text, its counts and its shape.
    """
    status, answer = connect().ask("POST", "/v1/chat/completions", CHAT)
    assert status == 200
    assert answer["choices"] == [
        {
            "finish_reason": "stop",
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "This is the mock engine. You said: hi there",
            },
        }
    ]
    assert answer["object"] == "chat.completion"
    assert answer["usage"]["completion_tokens"] == 9
    assert answer["usage"]["total_tokens"] == 11
    assert answer["timings"]["predicted_n"] == 9


def test_chat_stream(connect: Connect) -> None:
    """
    Token by token, as they come, in llama-server's order.
    """
    client = connect(delay_seconds=0.1)
    request = {**CHAT, "stream": True, "max_tokens": 2, "stream_options": {"include_usage": True}}
    client.send("POST", "/v1/chat/completions", request)
    status, headers, content = client.read()
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    (role,) = events(content)
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": None}
    client.clock.advance(0.1)
    (first,) = events(unchunk(client.transport.value()))
    client.transport.clear()
    assert first["choices"][0]["delta"] == {"content": "This"}
    client.clock.advance(0.1)
    *_, second, end, counts, done = events(unchunk(client.transport.value()))
    assert second["choices"][0] == {"finish_reason": None, "index": 0, "delta": {"content": " is"}}
    assert end["choices"][0] == {"finish_reason": "length", "index": 0, "delta": {}}
    assert counts["choices"] == []
    assert counts["usage"]["completion_tokens"] == 2
    assert counts["timings"]["predicted_ms"] == pytest.approx(200)
    assert done == "[DONE]"


def test_chat_stream_without_usage(connect: Connect) -> None:
    """
    The timings come with the end.
    """
    client = connect()
    client.send("POST", "/v1/chat/completions", {**CHAT, "stream": True})
    client.clock.pump([0.0] * 20)
    *_, end, done = events(client.read()[2])
    assert end["choices"][0]["finish_reason"] == "stop"
    assert "timings" in end
    assert "usage" not in end
    assert done == "[DONE]"


def test_text_completion(connect: Connect) -> None:
    """
    Whole and as a stream.
    """
    _, answer = connect().ask("POST", "/v1/completions", {"prompt": ["a", "b"], "max_tokens": 0})
    assert answer["choices"][0]["text"] == ""
    assert answer["object"] == "text_completion"
    client = connect()
    client.send("POST", "/v1/completions", {"prompt": "a", "stream": True, "max_tokens": 1})
    client.clock.pump([0.0] * 5)
    token, end, done = events(client.read()[2])
    assert token["choices"][0]["text"] == "This"
    assert end["choices"][0]["finish_reason"] == "length"
    assert end["usage"]["completion_tokens"] == 1
    assert done == "[DONE]"


def test_native_completion(connect: Connect) -> None:
    """
    Whole and as a stream, which ends without C{[DONE]}.
    """
    _, answer = connect().ask("POST", "/completion", {"prompt": "a", "n_predict": -1})
    assert answer["stop_type"] == "eos"
    assert answer["content"].endswith("You said: a")
    client = connect(tokens=20)
    client.send("POST", "/completions", {"prompt": "a", "stream": True, "n_predict": 15})
    client.clock.pump([0.0] * 20)
    found = events(client.read()[2])
    assert len(found) == 16
    assert found[14]["tokens_predicted"] == 15
    assert found[-1]["stop_type"] == "limit"


def test_key_is_wanted(connect: Connect) -> None:
    """
    As llama-server wants it, in either header.
    """
    client = connect(keys=("sesame",))
    for path in ("/health", "/v1/health", "/v1/models", "/models"):
        assert client.ask("GET", path)[0] == 200
    refused = {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}
    assert client.ask("POST", "/tokenize", {}) == (401, {"error": refused})
    assert client.ask("GET", "/props", authorization="Bearer open")[0] == 401
    assert client.ask("GET", "/props", authorization="Bearer sesame")[1]["total_slots"] == 4
    assert client.ask("GET", "/props", x_api_key="sesame")[0] == 200


def test_loading(connect: Connect) -> None:
    """
    503 until it is loaded.
    """
    client = connect(load_seconds=3.0)
    status, answer = client.ask("GET", "/health")
    assert (status, answer["error"]["type"]) == (503, "unavailable_error")
    client.clock.advance(3)
    assert client.ask("GET", "/health") == (200, {"status": "ok"})


def test_slots_are_a_limit(connect: Connect) -> None:
    """
    A request more than slots waits; a client that leaves frees its slot, and
    one that leaves while it waits never takes one.
    """
    first = connect(slots=1, delay_seconds=1.0)
    others = [Connection(first.protocol.site, first.clock) for _ in range(3)]
    for client in (first, *others[:2]):
        client.send("POST", "/v1/chat/completions", {**CHAT, "stream": True})
    assert others[0].transport.value() == b""
    assert others[2].ask("GET", "/slots")[1][0]["is_processing"] is True
    others[0].close()
    first.close()
    assert others[1].transport.value() != b""
    others[1].close()
    assert others[2].ask("GET", "/slots")[1][0]["is_processing"] is False
    assert first.clock.getDelayedCalls() != []  # the keep-alive timer of the last one
    others[2].close()


def test_other_paths(connect: Connect) -> None:
    """
    Models, vectors and tokens.
    """
    client = connect(model="m.gguf")
    assert client.ask("GET", "/v1/models")[1]["data"][0]["id"] == "m.gguf"
    vectors = client.ask("POST", "/v1/embeddings", {"input": ["a", "b"]})[1]["data"]
    assert len(vectors) == 2
    assert vectors[0]["embedding"] != vectors[1]["embedding"]
    assert len(client.ask("POST", "/tokenize", {"content": "a b c"})[1]["tokens"]) == 3
    for method in ("GET", "POST"):
        assert client.ask(method, "/nope")[1]["error"]["message"] == "File Not Found"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b"{"),
        ("/v1/chat/completions", []),
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"messages": []}),
        ("/v1/completions", {}),
        ("/v1/embeddings", {}),
    ],
)
def test_bad_requests(connect: Connect, path: str, body: object) -> None:
    """
    400, as llama-server says it.
    """
    status, answer = connect().ask("POST", path, body)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_contents_of_all_shapes() -> None:
    """
    Parts of a message are joined.
    """
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, "b"]
    assert mock_answers.prompt_of({"messages": [{"content": parts}]}, "chat") == "a  b"
    assert mock_answers.prompt_of({"messages": ["x"]}, "chat") == "x"
    assert mock_answers.prompt_of({"messages": [{}]}, "chat") == ""


@given(st.text(), st.none() | st.integers(0, 50), st.none() | st.integers(-1, 50))
def test_length_is_respected(prompt: str, wanted: int | None, limit: int | None) -> None:
    """
    Never more tokens than the request or the shape allows.
    """
    tokens = mock_answers.answer_tokens(prompt, wanted, limit)
    if limit is not None and limit >= 0:
        assert len(tokens) <= limit
    if wanted is not None:
        assert len(tokens) <= wanted


def test_limits_of_all_names() -> None:
    """
    The newest name first; booleans and negative numbers are none.
    """
    assert mock_answers.token_limit({"max_tokens": 3, "max_completion_tokens": 2}) == 2
    assert mock_answers.token_limit({"max_tokens": True}) is None
    assert mock_answers.token_limit({"n_predict": -1}) is None


def test_command_line(tmp_path: Path) -> None:
    """
    llama-server's, with what is of no use here ignored.
    """
    (tmp_path / "k").write_text("secret\n")
    shape = parse_shape(
        [
            *("-m", "/models/a.gguf", "--host", "127.0.0.1", "--port", "9", "-c", "512"),
            *("-ngl", "99", "-t", "2", "--api-key-file", str(tmp_path / "k"), "-fa", "on"),
            *("--delay-ms", "20", "--tokens", "5", "--load-seconds", "1.5", "-np", "2"),
        ]
    )
    expected = MockShape("127.0.0.1", 9, "a.gguf", ("secret",), 2, 512, 0.02, 5, 1.5)
    assert shape == expected
    assert parse_shape(["-a", "x"]).model == "x"


def test_bad_key_file(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Status 1 and one line.
    """
    assert main(["--api-key-file", "/nonexistent/k"]) == 1
    assert "error: " in capsys.readouterr().err
