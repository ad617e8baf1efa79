"""
The bytes of requests.
"""

from __future__ import annotations

import json


def request(
    path: str,
    key: str | None = None,
    body: object = None,
    *,
    method: str = "",
    request_id: str = "",
    fields: tuple[str, ...] = (),
    version: str = "1.1",
    chunk_bytes: int = 0,
) -> bytes:
    """
    The bytes of a request.

    @param body: bytes, or what is sent as JSON.
    @param fields: further header lines.
    @param chunk_bytes: send the body in chunks of this size.
    """
    content = (
        body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    )
    lines = [f"{method or ('POST' if body is not None else 'GET')} {path} HTTP/{version}"]
    lines.append("Host: gateway.test")
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    if request_id:
        lines.append(f"X-Request-Id: {request_id}")
    lines += fields
    if body is not None:
        lines.append("Content-Type: application/json")
        lines.append(
            "Transfer-Encoding: chunked" if chunk_bytes else f"Content-Length: {len(content)}"
        )
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    if not chunk_bytes or body is None:
        return head + content
    pieces = [content[at : at + chunk_bytes] for at in range(0, len(content), chunk_bytes)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def chat(stream: bool, max_tokens: int, said: str = "hello") -> dict[str, object]:
    """
    The body of a chat.
    """
    return {
        "messages": [{"role": "user", "content": said}],
        "stream": stream,
        "max_tokens": max_tokens,
    }
