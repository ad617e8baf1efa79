"""
The head of a request and its target: any bytes, in any pieces.

Promises: what is no head raises a C{GatewayError} and nothing else; pieces make
no difference to a head that is whole; a reader that remembers says the same as one
that does not; a head that is taken has one reading, which a reader by the letter
of RFC 9112 has too; what is sent on to the engine is again a head with the same
meaning; and a target once judged is judged the same again, names no other path,
and has no trick left in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fuzz.script import read_script
from twisted_llama.errors import GatewayError, HeaderFieldsTooLarge, MalformedRequest, UriTooLong
from twisted_llama.http.head import RequestHead, parse_request_head, read_request_head
from twisted_llama.http.head_reader import HeadLimits, HeadReader
from twisted_llama.http.headers import engine_request_lines
from twisted_llama.http.target import judge_target

PIECES = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"OPTIONS ",
    b"TRACE ",
    b"CONNECT ",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b" HTTP/2.0\r\n",
    b"Host: a\r\n",
    b"Host: [::1]:80\r\n",
    b"\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: ",
    b"Connection: close\r\n",
    b"Connection: keep-alive, x\r\n",
    b"Connection: ",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Content_Length: 5\r\n",
    b"X: y\r\n",
    b" folded\r\n",
    b"/v1/models",
    b"/v1/../ping",
    b"/./",
    b"//",
    b"/%2e%2e/",
    b"%2f",
    b"%00",
    b"%C3%A9",
    b"%41",
    b"?x=1",
    b"#f",
    b";p=1",
    b"http://a/v1",
    b"https://b/",
    b"http://a?x",
    b"*",
    b"\\",
    b": ",
    b"chunked",
    b"gzip",
    b"GET /v1/models HTTP/1.1\r\nHost: a\r\n",
]
EVENTS = ["cut"]
LIMITS = HeadLimits(max_line_bytes=300, max_field_bytes=300, max_fields=12)
#: The reader that channels use, which may remember what it has read.
READ_REMEMBERING = read_request_head
#: What it reads by itself, and need not have among the fields.
ALONE = (b"content-length", b"authorization")
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*")
#: What is decoded twice by some, cut at or taken for a slash by others.
_TRICKS = re.compile(
    rb"//|/\.\.?(/|$)|[\\;#\x00-\x20\x7f-\xff]|%(?![0-9A-F]{2})"
    rb"|%([01][0-9A-F]|7F|2[235EF]|3[BCEF]|5[CE]|60|7[BCD])|%(2D|2E|3[0-9]|4[1-9A-F]|5F|7E)"
)


def check(octets: bytes) -> None:
    """
    See the module.
    """
    pieces = [step for step in read_script(octets, PIECES, EVENTS) if isinstance(step, bytes)]
    whole = b"".join(pieces)
    judge(whole)
    head, behind = collect([whole])
    in_pieces, behind_pieces = collect(pieces)
    if isinstance(head, bytes) and isinstance(in_pieces, bytes):
        assert head == in_pieces, f"{head!r} whole, {in_pieces!r} in pieces"
        assert behind == behind_pieces, f"{behind!r} whole, {behind_pieces!r} in pieces"
    elif isinstance(head, bytes) and in_pieces is not None:
        # What is refused sooner in pieces is refused later as a whole.
        assert isinstance(read(head), GatewayError), f"{head!r} is refused in pieces: {in_pieces!r}"
    elif isinstance(in_pieces, bytes):
        raise AssertionError(f"{in_pieces!r} is refused as a whole: {head!r}")
    if isinstance(head, bytes):
        parsed = read(head)
        # Again, for readers that remember.
        for _ in range(2):
            assert facts(read(head, READ_REMEMBERING)) == facts(parsed), head
        if not isinstance(parsed, GatewayError):
            check_head(head, *parsed)


def collect(pieces: list[bytes]) -> tuple[bytes | GatewayError | None, bytes]:
    """
    Collect a head.

    @return: the head, why it is refused, or C{None} if it is not whole; and what
        came behind it.
    """
    reader = HeadReader(LIMITS)
    for number, piece in enumerate(pieces):
        try:
            head = reader.feed(piece)
        except (MalformedRequest, UriTooLong, HeaderFieldsTooLarge) as error:
            return error, b""
        if head is not None:
            return head, excess_of(reader) + b"".join(pieces[number + 1 :])
    return None, b""


def excess_of(reader: Any) -> bytes:
    """
    What came behind a head.
    """
    excess: bytes = reader.excess
    return excess


def read(
    octets: bytes, parse: Callable[[bytes], Any] = parse_request_head
) -> tuple[RequestHead, int | None] | GatewayError:
    """
    Parse a head.

    @return: it and the length of the body in bytes (C{None} for chunks), or why it
        is refused.
    """
    try:
        parsed = parse(octets)
    except GatewayError as error:
        assert str(error)
        return error
    return parsed  # type: ignore[no-any-return]  # a tuple of two or three


def facts(parsed: tuple[Any, ...] | GatewayError) -> tuple[object, ...]:
    """
    What has to be the same in every reading; the length is not among the fields
    in all of them.
    """
    if isinstance(parsed, GatewayError):
        return type(parsed), str(parsed)
    head, length_bytes, *others = parsed
    return (
        others[0] if others else head.first.get(b"authorization"),
        head.method,
        head.target,
        head.version,
        [field for field in head.fields if field[0] not in ALONE],
        {key: value for key, value in head.first.items() if key not in ALONE},
        head.keep_alive,
        head.expects_continue and length_bytes != 0,
        length_bytes,
    )


def check_head(octets: bytes, head: RequestHead, length_bytes: int | None) -> None:
    """
    What was taken, against a reader by the letter.
    """
    line, *lines = octets[:-4].split(b"\r\n")
    method, target, version = line.split(b" ")
    assert (head.method, head.version) == (method, version), (octets, head.method, head.version)
    fields = []
    for each in lines:
        field = _FIELD.fullmatch(each)
        assert field is not None, f"{each!r} is no field"
        fields.append((field[1].lower(), field[1], field[2]))
    assert list(head.fields) == fields, (head.fields, fields)
    values: dict[bytes, list[bytes]] = {}
    for key, _, value in fields:
        values.setdefault(key, []).append(value)
    codings, lengths = values.get(b"transfer-encoding", []), values.get(b"content-length", [])
    if codings:
        assert [coding.lower() for coding in codings] == [b"chunked"], codings
        assert not lengths
        assert version == b"HTTP/1.1"
        assert length_bytes is None
    else:
        assert len(lengths) <= 1, lengths
        assert length_bytes == (int(lengths[0]) if lengths else 0)
        assert not lengths or lengths[0].isdigit()
    hosts = values.get(b"host", [])
    assert len(hosts) == 1 or (not hosts and version == b"HTTP/1.0"), hosts
    options = {o.strip().lower() for v in values.get(b"connection", []) for o in v.split(b",")}
    kept = b"close" not in options and (version == b"HTTP/1.1" or b"keep-alive" in options)
    assert head.keep_alive == kept, octets
    assert head.target == b"*" or head.target.startswith(b"/"), head.target
    if target.startswith(b"/"):
        assert head.target == target
    else:
        assert target == b"*" or target.lower().startswith(
            (b"http://%b" % hosts[0].lower(), b"https")
        )
    judge(head.target)
    check_sent_on(head, options)


def check_sent_on(head: RequestHead, options: set[bytes]) -> None:
    """
    The lines for the engine are fields, and none of them belongs to the client's
    connection.
    """
    lines = engine_request_lines(head)
    parsed = read(b"GET / HTTP/1.1\r\nHost: e\r\n%b\r\n" % lines)
    assert not isinstance(parsed, GatewayError), parsed
    sent, length_bytes = parsed
    assert length_bytes == 0
    # What the gateway may put in itself stands apart.
    passed_on = [field for field in sent.fields[1:] if field[0] != b"x-forwarded-host"]
    names = {key for key, _, _ in passed_on}
    assert not names & (options | {b"host", b"authorization", b"transfer-encoding", b"upgrade"})
    kept = [field for field in head.fields if field[0] in names]
    assert passed_on == kept, (passed_on, kept)


def judge(target: bytes) -> None:
    """
    Judge a target, and judge the result again.
    """
    try:
        path, query = judge_target(target)
    except MalformedRequest as error:
        assert str(error)
        return
    assert not _TRICKS.search(path), f"{path!r} has more than one reading"
    assert path.startswith(b"/")
    assert not query or query.startswith(b"?")
    assert judge_target(path + query) == (path, query), "judged otherwise the second time"
    assert b"#" not in query
    assert path.count(b"/") == target.partition(b"?")[0].count(b"/")
