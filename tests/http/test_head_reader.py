"""
Collecting a head: any split gives the same, and nothing grows without bound.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.splits import split
from twisted_llama.errors import (
    GatewayError,
    HeaderFieldsTooLarge,
    MalformedRequest,
    UriTooLong,
)
from twisted_llama.http.head_reader import HeadLimits, HeadReader

SMALL = HeadLimits(max_line_bytes=30, max_field_bytes=20, max_fields=3)
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def read(pieces: list[bytes], limits: HeadLimits = SMALL) -> tuple[bytes | None, bytes]:
    """
    The first head, and all that was fed behind it.
    """
    reader = HeadReader(limits)
    head: bytes | None = None
    rest = b""
    for piece in pieces:
        if head is not None:
            rest += piece
            continue
        head = reader.feed(piece)
        if head is not None:
            rest, reader.excess = reader.excess, b""
    return head, rest


@given(st.data(), st.sampled_from([b"", b"\r\n"]), st.binary(max_size=20))
def test_any_split(data: st.DataObject, before: bytes, rest: bytes) -> None:
    assert read(data.draw(split(before + HEAD + rest))) == (HEAD, rest)


@given(st.data(), st.binary(max_size=80))
def test_any_bytes_get_one_verdict(data: st.DataObject, junk: bytes) -> None:
    """
    As far as a verdict is due: an early refusal is one, too.
    """

    def verdict(pieces: list[bytes]) -> object:
        try:
            return read(pieces)
        except GatewayError:
            return "refused"

    text = b"GET /" + junk + b"\r\n\r\n"
    whole, cut = verdict([text]), verdict(data.draw(split(text)))
    # What breaks the grammar may be noticed at once only when it comes in pieces;
    # the parser behind refuses the same.
    assert whole == cut or cut == "refused"


def test_limits_are_exact() -> None:
    line = b"GET /" + b"a" * 16 + b" HTTP/1.1"
    assert len(line) == SMALL.max_line_bytes
    assert read([line + b"\r\n\r\n"])[0]
    field = b"A: " + b"b" * 17
    assert len(field) == SMALL.max_field_bytes
    assert read([b"GET / HTTP/1.1\r\n" + (field + b"\r\n") * 3 + b"\r\n"])[0]


@given(st.data())
def test_too_long_a_line(data: st.DataObject) -> None:
    text = b"GET /" + b"a" * 17 + b" HTTP/1.1\r\n\r\n"
    with pytest.raises(UriTooLong, match="30 bytes"):
        read(data.draw(split(text)))


@given(st.data())
def test_too_long_a_field(data: st.DataObject) -> None:
    text = b"GET / HTTP/1.1\r\nA: " + b"b" * 18 + b"\r\n\r\n"
    with pytest.raises(HeaderFieldsTooLarge, match="MAX_HEADER_LINE_SIZE=20"):
        read(data.draw(split(text)))


@given(st.data())
def test_too_many_fields(data: st.DataObject) -> None:
    text = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 4 + b"\r\n"
    with pytest.raises(HeaderFieldsTooLarge, match="MAX_HEADERS=3"):
        read(data.draw(split(text)))


@pytest.mark.parametrize(
    ("endless", "refusal"), [(b"GET /" + b"a" * 100, UriTooLong), (b"A" * 100, MalformedRequest)]
)
def test_a_line_that_does_not_end_is_refused_before_it_does(
    endless: bytes, refusal: type[GatewayError]
) -> None:
    with pytest.raises(refusal):
        read([endless[i : i + 7] for i in range(0, len(endless), 7)])


@pytest.mark.parametrize(
    "start", [b"\x16\x03\x01", b"get /", b"GET / HTTP/1.1\nHost: a\n", b"GET /\rx", b"\r\n\r\nG"]
)
def test_what_cannot_become_a_head_is_refused_at_once(start: bytes) -> None:
    with pytest.raises(MalformedRequest):
        read([start])


def test_one_reader_reads_many_heads() -> None:
    reader = HeadReader(SMALL)
    for _ in range(3):
        assert not reader.begun
        assert reader.feed(b"\r\n") is None
        assert reader.feed(HEAD[:5]) is None
        assert reader.begun
        assert reader.feed(HEAD[5:]) == HEAD
