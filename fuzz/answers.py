"""
Reading what the gateway sends, by the letter of RFC 9112: what is not plainly
an answer, or a request to the engine, breaks a promise.
"""

from __future__ import annotations

import json
import re

from attrs import frozen

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [\t\x20-\x7e\x80-\xff]*")
_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.1")
_FIELD = re.compile(
    rb"("
    + TOKEN
    + rb"): ((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)"
)
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Fields = list[tuple[bytes, bytes]]


class Unreadable(AssertionError):
    """
    The gateway has sent what nobody can read.
    """


@frozen
class Answer:
    """
    One answer.

    @ivar fields: the header fields, names in lower case.
    @ivar whole: whether its body came to an end of its own.
    @ivar self_ending: whether its end can be told from the connection's.
    """

    status: int
    fields: Fields
    body: bytes
    whole: bool
    self_ending: bool

    def all(self, name: bytes) -> list[bytes]:
        """
        The values of a header, as often as it came.
        """
        return [value for key, value in self.fields if key == name]

    @property
    def closes(self) -> bool:
        """
        Whether it says that the connection ends with it.
        """
        return self.all(b"connection") == [b"close"]

    @property
    def whole_by_itself(self) -> bool:
        """
        Whether its head shows where its body ends.
        """
        names = (b"content-length", b"transfer-encoding")
        return self.status in (204, 304) or any(map(self.all, names))

    @property
    def code(self) -> str | None:
        """
        The code of the gateway's own error, if it is one.
        """
        if self.status < 400 or self.all(b"content-type") != [b"application/json"]:
            return None
        try:
            said = json.loads(self.body)
        except ValueError:
            # An engine's, which may have broken off; ours are whole.
            return None
        if not isinstance(said, dict) or set(said) != {"error"}:
            return None
        error = said["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert error["message"], error
        return str(error["code"])


def read_answers(stream: bytes, heads: int, ended: bool) -> list[Answer]:
    """
    Read the answers of one connection, interim ones left out.

    @param heads: how many of the requests may have been C{HEAD}.
    @param ended: whether the connection ended behind them.

    @raise Unreadable: if that cannot be done.
    """
    answers: list[Answer] = []
    # Where an answer may be to HEAD and may not: what came before it, the other
    # reading, and the place behind that.
    choices: list[tuple[int, Answer, int, int]] = []
    at = 0
    while at < len(stream):
        if stream.startswith(CONTINUE, at):
            at += len(CONTINUE)
            continue
        try:
            head, behind = _read_head(stream, at)
            if heads and not (head.closes or head.whole_by_itself):
                answer, at, heads = head, behind, heads - 1
            else:
                answer, at = _read_body(head, stream, behind, ended)
            if heads and (at > behind or not answer.whole):
                if answer.whole:
                    choices.append((len(answers), head, behind, heads - 1))
                else:
                    choices.append((len(answers), answer, at, 0))
                    answer, at, heads = head, behind, heads - 1
            answers.append(answer)
        except Unreadable:
            if not choices:
                raise
            count, other, at, heads = choices.pop()
            answers[count:] = [other]
    for answer in answers[:-1]:
        assert answer.whole, "an answer follows one that is not whole"
        assert not answer.closes, "an answer follows the last one"
    return answers


def _read_head(stream: bytes, at: int) -> tuple[Answer, int]:
    end = stream.find(b"\r\n\r\n", at)
    if end < 0:
        raise Unreadable(f"half a head: {stream[at:][:200]!r}")
    status_line, *lines = stream[at:end].split(b"\r\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise Unreadable(f"no status line: {status_line[:200]!r}")
    status = int(match[1])
    fields = read_fields(lines)
    names = [name for name, _ in fields]
    for once in (b"x-request-id", b"connection", b"content-length", b"transfer-encoding"):
        if names.count(once) > 1:
            raise Unreadable(f"{once!r} comes twice")
    if status < 200 or b"x-request-id" not in names or b"date" not in names:
        raise Unreadable(f"no final answer of the gateway: {stream[at:end]!r}")
    return Answer(status, fields, b"", True, True), end + 4


def _read_body(head: Answer, stream: bytes, at: int, ended: bool) -> tuple[Answer, int]:
    lengths, codings = head.all(b"content-length"), head.all(b"transfer-encoding")
    body, whole, self_ending = b"", True, True
    if codings:
        if codings != [b"chunked"] or lengths or head.status in (204, 304):
            raise Unreadable(f"unclear framing: {head.fields!r}")
        body, whole, at = _read_chunks(stream, at)
    elif head.status in (204, 304):
        pass
    elif lengths:
        if not _LENGTH.fullmatch(lengths[0]):
            raise Unreadable(f"no length: {lengths!r}")
        length = int(lengths[0])
        body = stream[at : at + length]
        at += len(body)
        whole = len(body) == length
    else:
        if not head.closes:
            raise Unreadable(f"nothing shows where this ends: {head.fields!r}")
        body, at, self_ending = stream[at:], len(stream), False
        whole = ended
    return Answer(head.status, head.fields, body, whole, self_ending), at


def _read_chunks(stream: bytes, at: int) -> tuple[bytes, bool, int]:
    body: list[bytes] = []
    while True:
        end = stream.find(b"\r\n", at)
        if end < 0:
            if not re.fullmatch(rb"[0-9A-Fa-f]*\r?", stream[at:]):
                raise Unreadable(f"no chunk: {stream[at:][:40]!r}")
            return b"".join(body), False, len(stream)
        if not _CHUNK_SIZE.fullmatch(stream, at, end):
            raise Unreadable(f"no chunk size: {stream[at:end][:40]!r}")
        size = int(stream[at:end], 16)
        at = end + 2
        if not size:
            if stream[at : at + 2] == b"\r\n":
                return b"".join(body), True, at + 2
            if stream[at:] in (b"", b"\r"):
                return b"".join(body), False, len(stream)
            raise Unreadable(f"trailers: {stream[at:][:40]!r}")
        body.append(stream[at : at + size])
        at += size
        border = stream[at : at + 2]
        if not b"\r\n".startswith(border):
            raise Unreadable(f"a chunk is longer than its size: {border!r}")
        at += 2
        if at > len(stream):
            return b"".join(body), False, len(stream)


def read_fields(lines: list[bytes]) -> Fields:
    """
    Read header lines.

    @raise Unreadable: if one is none.
    """
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Unreadable(f"no header field: {line[:200]!r}")
        fields.append((match[1].lower(), match[2]))
    return fields


@frozen
class EngineRequest:
    """
    One request as the engine gets it.
    """

    method: bytes
    target: bytes
    fields: Fields
    body: bytes

    def __getitem__(self, name: bytes) -> bytes:
        (value,) = [value for key, value in self.fields if key == name]
        return value


#: What belongs to the client's connection, or would be read in two ways.
_NEVER_SENT = frozenset(
    b"connection transfer-encoding te trailer upgrade keep-alive expect x-api-key forwarded "
    b"proxy-authorization proxy-authenticate proxy-connection".split()
)


def read_engine_requests(stream: bytes, host: bytes, key: bytes) -> list[EngineRequest]:
    """
    Read what the engine was sent on one connection: whole requests, with the
    engine's key and no other.

    @raise Unreadable: if that cannot be done.
    """
    requests = []
    at = 0
    while at < len(stream):
        end = stream.find(b"\r\n\r\n", at)
        if end < 0:
            raise Unreadable(f"half a request: {stream[at:][:200]!r}")
        line, *lines = stream[at:end].split(b"\r\n")
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise Unreadable(f"no request line: {line[:200]!r}")
        fields = read_fields(lines)
        names = [name for name, _ in fields]
        for name in names:
            assert name not in _NEVER_SENT, f"the engine is sent {name!r}"
            assert b"_" not in name, f"the engine is sent {name!r}"
        lengths = [value for name, value in fields if name == b"content-length"]
        if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
            raise Unreadable(f"unclear length: {lengths!r}")
        length = int(lengths[0]) if lengths else 0
        body = stream[end + 4 : end + 4 + length]
        if len(body) != length:
            raise Unreadable(f"{len(body)} of {length} bytes")
        request = EngineRequest(match[1], match[2], fields, body)
        for name in (b"host", b"authorization", b"x-request-id", b"x-forwarded-for"):
            assert names.count(name) == 1, f"{name!r} comes {names.count(name)} times"
        assert request[b"host"] == host, fields
        assert request[b"authorization"] == b"Bearer " + key, fields
        requests.append(request)
        at = end + 4 + length
    return requests
