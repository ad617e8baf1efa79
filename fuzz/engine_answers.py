"""
An independent reading of what an engine answers, all at once and by the letter
of RFC 9112; where that leaves a choice the gateway refuses.
"""

from __future__ import annotations

import re
from typing import Literal

from attrs import evolve, field, frozen

from fuzz.answers import TOKEN

MAX_HEAD_BYTES = 65536
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"(" + TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:;" + TOKEN + rb"(?:=(?:" + TOKEN + rb"|" + _QUOTED + rb"))?)*"
)

State = Literal["none", "partial", "broken", "whole"]


@frozen
class Reading:
    """
    One answer of the engine.

    @ivar status: 0 while there is no head.
    @ivar fields: the header fields, names in lower case.
    @ivar payload: as much of the body as there is.
    @ivar excess: what came behind the end.
    @ivar reusable: whether the connection may carry another request.
    """

    state: State
    status: int = 0
    fields: dict[bytes, list[bytes]] = field(factory=dict)
    payload: bytes = b""
    excess: bytes = b""
    reusable: bool = False

    @property
    def named_by_connection(self) -> set[bytes]:
        """
        The fields that C{Connection} names.
        """
        values = b",".join(self.fields.get(b"connection", []))
        return {name.strip().lower() for name in values.split(b",")}


_BROKEN = Reading("broken")


def read_engine_answer(stream: bytes, method: bytes, end: str) -> Reading:
    """
    Read an answer.

    @param method: of the request.
    @param end: C{"closes"} or C{"breaks off"} if the connection ended behind
        the bytes, C{"open"} otherwise.
    """
    at = 0
    while True:
        border = stream.find(b"\r\n\r\n", at) + 4
        if border < 4:
            return Reading("partial" if stream[at:] else "none")
        if border > MAX_HEAD_BYTES:
            return _BROKEN
        line, *lines = stream[at : border - 4].split(b"\r\n")
        at = border
        status_line = _STATUS_LINE.fullmatch(line)
        fields: dict[bytes, list[bytes]] = {}
        for each in lines:
            match = _FIELD.fullmatch(each)
            if match is None:
                return _BROKEN
            fields.setdefault(match[1].lower(), []).append(match[2].strip(b" \t"))
        if status_line is None:
            return _BROKEN
        codings = fields.get(b"transfer-encoding", [])
        lengths = fields.get(b"content-length", [])
        old = status_line[1] == b"0"
        if codings and (lengths or old or [coding.lower() for coding in codings] != [b"chunked"]):
            return _BROKEN
        if lengths and (len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0])):
            return _BROKEN
        status = int(status_line[2])
        if status == 101:
            return _BROKEN
        if status >= 200:
            break
    options = {
        option.strip().lower()
        for value in fields.get(b"connection", [])
        for option in value.split(b",")
    }
    kept = b"close" not in options and (not old or b"keep-alive" in options)
    head = Reading("partial", status, fields)
    if method == b"HEAD" or status in (204, 304):
        whole = evolve(head, state="whole", excess=stream[at:])
    elif codings:
        whole = _read_chunks(head, stream, at)
    elif lengths:
        whole = _read_length(head, stream[at:], int(lengths[0]))
    else:
        closed = end == "closes"
        return evolve(head, state="whole" if closed else "partial", payload=stream[at:])
    return evolve(
        whole,
        reusable=whole.state == "whole" and kept and end == "open" and not whole.excess,
    )


def _read_length(head: Reading, body: bytes, length: int) -> Reading:
    state: State = "whole" if len(body) >= length else "partial"
    return evolve(head, state=state, payload=body[:length], excess=body[length:])


def _read_chunks(head: Reading, stream: bytes, at: int) -> Reading:
    payload: list[bytes] = []

    def reading(state: State, excess: bytes = b"") -> Reading:
        return evolve(head, state=state, payload=b"".join(payload), excess=excess)

    while True:
        border = stream.find(b"\n", at)
        if border < 0:
            return reading("broken" if len(stream) - at > 256 else "partial")
        line = _CHUNK_LINE.fullmatch(stream[at : border - 1])
        if line is None or stream[border - 1 : border] != b"\r" or border + 1 - at > 256:
            return reading("broken")
        size = int(line[1], 16)
        at = border + 1
        if not size:
            break
        payload.append(stream[at : at + size])
        at += size
        if not b"\r\n".startswith(stream[at : at + 2]):
            return reading("broken")
        at += 2
        if at > len(stream):
            return reading("partial")
    begin = at
    while True:
        border = stream.find(b"\n", at)
        if border < 0:
            return reading("partial")
        line_bytes = stream[at : border + 1]
        at = border + 1
        if at - begin > 8192 or not line_bytes.endswith(b"\r\n"):
            return reading("broken")
        if line_bytes == b"\r\n":
            return reading("whole", stream[at:])
        if not _FIELD.fullmatch(line_bytes[:-2]):
            return reading("broken")
