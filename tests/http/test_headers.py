"""
What is passed on and what is not.
"""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.http.head import parse_request_head
from twisted_llama.http.headers import (
    client_response_lines,
    engine_request_lines,
    forwarded_for,
    trusts,
)
from twisted_llama.http.response_head import parse_response_head

PROXIES = (ip_network("10.0.0.0/8"), ip_network("::1/128"))


def asked(*lines: bytes) -> list[bytes]:
    head = b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", *lines]) + b"\r\n\r\n"
    *sent, host = engine_request_lines(parse_request_head(head)[0]).splitlines(keepends=True)
    assert host == b"X-Forwarded-Host: a\r\n"
    return sent


def answered(*lines: bytes) -> bytes:
    head = b"\r\n".join([b"HTTP/1.1 200 OK", *lines]) + b"\r\n\r\n"
    return client_response_lines(parse_response_head(head)[0])


def test_end_to_end_fields_go_on_in_order() -> None:
    assert asked(b"Accept: a", b"X-Y: 1", b"accept:b", b"Cookie: c=d") == [
        b"Accept: a\r\n",
        b"X-Y: 1\r\n",
        b"accept: b\r\n",
        b"Cookie: c=d\r\n",
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: close",
        b"Proxy-Authorization: x",
        b"TE: trailers",
        b"Trailer: x",
        b"Upgrade: h2c",
        b"Authorization: Bearer secret",
        b"X-Api-Key: secret",
        b"Host: a",
        b"Expect: 100-continue",
        b"X-Request-Id: theirs",
        b"X-Forwarded-For: 1.2.3.4",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: evil",
        b"Forwarded: for=1.2.3.4",
        b"X-Conversation-Id: 1",
        b"Content_Length: 5",
        b"Transfer_Encoding: chunked",
        b"X_Api_Key: x",
    ],
)
def test_what_ends_here(line: bytes) -> None:
    if line.startswith(b"Host"):
        assert asked() == []
    else:
        assert asked(line) == []


def test_what_connection_names_is_dropped_and_nothing_else() -> None:
    assert asked(b"Connection: X-Mine, close", b"X-Mine: 1", b"X-Other: 2") == [b"X-Other: 2\r\n"]


def test_answers_lose_what_is_ours_to_say() -> None:
    kept = answered(
        b"Server: llama.cpp",
        b"Content-Type: application/json",
        b"Content-Length: 5",
        b"Keep-Alive: timeout=5",
        b"Connection: X-Gone",
        b"X-Gone: 1",
        b"Access-Control-Allow-Origin: *",
        b"Access-Control-Allow-Credentials: true",
        b"Vary: Origin",
        b"Vary: Accept-Encoding",
        b"X-Request-Id: theirs",
        b"Set-Cookie: a=b",
        b"Set-Cookie: c=d",
    )
    assert kept == (
        b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: application/json\r\n"
        b"Vary: Accept-Encoding\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n"
    )


def test_streams_are_not_to_be_buffered() -> None:
    lines = answered(b"Content-Type: text/event-stream", b"X-Accel-Buffering: yes")
    assert lines.count(b"X-Accel-Buffering") == 1
    assert lines.endswith(b"X-Accel-Buffering: no\r\n")


@pytest.mark.parametrize(
    ("peer", "sent", "value", "client"),
    [
        ("192.0.2.1", [b"X-Forwarded-For: 1.1.1.1"], b"192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", [], b"10.0.0.1", "10.0.0.1"),
        ("10.0.0.1", [b"X-Forwarded-For: 1.1.1.1"], b"1.1.1.1, 10.0.0.1", "1.1.1.1"),
        (
            "10.0.0.1",
            [b"X-Forwarded-For: 9.9.9.9, 1.1.1.1", b"X-Forwarded-For: 10.0.0.2"],
            b"9.9.9.9, 1.1.1.1, 10.0.0.2, 10.0.0.1",
            "1.1.1.1",
        ),
        ("10.0.0.1", [b"X-Forwarded-For: junk"], b"junk, 10.0.0.1", "junk"),
        ("", [], b"", ""),
    ],
)
def test_who_sent_it(peer: str, sent: list[bytes], value: bytes, client: str) -> None:
    head = b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *sent]) + b"\r\n\r\n"
    assert forwarded_for(parse_request_head(head)[0], peer, PROXIES) == (value, client)


@given(st.text(max_size=20))
def test_trust_is_for_addresses_alone(host: str) -> None:
    assert trusts((), host) is False
    assert isinstance(trusts(PROXIES, host), bool)
