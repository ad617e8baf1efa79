"""
Bytes that are no request, and what they have to be answered with.
"""

from __future__ import annotations

from random import Random

_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.test\r\n"
_GET = b"GET /v1/models HTTP/1.1\r\nHost: gateway.test\r\n"

#: What is sent, and the statuses of which one has to come back, with the
#: connection closed after it.
BAD_BYTES: tuple[tuple[str, bytes, tuple[int, ...]], ...] = (
    ("no protocol", b"hello there\r\n\r\n", (400,)),
    ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x7f" * 64, (400,)),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    ("version 3", b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", (400, 505)),
    ("no host", b"GET /v1/models HTTP/1.1\r\n\r\n", (400,)),
    ("two hosts", _GET + b"Host: other.test\r\n\r\n", (400,)),
    (
        "length and chunked",
        _HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        (400,),
    ),
    ("two lengths", _HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", (400,)),
    ("signed length", _HEAD + b"Content-Length: +3\r\n\r\nabc", (400,)),
    ("unknown coding", _HEAD + b"Transfer-Encoding: gzip\r\n\r\n", (400, 501)),
    ("coding twice", _HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", (400, 501)),
    ("bare line feeds", b"GET /v1/models HTTP/1.1\nHost: gateway.test\n\n", (400,)),
    ("folded header", _GET + b"X-A: b\r\n c\r\n\r\n", (400,)),
    ("space before colon", _GET + b"X-A : b\r\n\r\n", (400,)),
    ("a NUL", _GET + b"X-A: \x00\r\n\r\n", (400,)),
    ("dots in the path", b"GET /v1/%2e%2e/ping HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    ("another authority", b"GET http://b.test/v1/models HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    ("long request line", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", (414,)),
    ("long header line", _GET + b"X-A: " + b"a" * 9000 + b"\r\n\r\n", (431,)),
    ("many headers", _GET + b"X-A: a\r\n" * 80 + b"\r\n", (431,)),
)


def noise(random: Random) -> bytes:
    """
    Bytes at random that begin no request.
    """
    return bytes([random.randrange(128, 256)]) + random.randbytes(random.randrange(20, 400))
