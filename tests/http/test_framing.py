"""
Bodies: any split of the bytes gives the same payload and the same verdict.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.splits import split
from twisted_llama.http.framing import (
    BodyFraming,
    ChunkedFraming,
    CloseFraming,
    FramingError,
    LengthFraming,
)


def read(framing: BodyFraming, pieces: list[bytes]) -> tuple[bytes, bool, bytes]:
    """
    Feed all pieces; what is fed behind the end counts as excess.
    """
    payload, excess = b"", b""
    for piece in pieces:
        if framing.finished:
            excess += piece
        else:
            payload += framing.feed(piece)
            excess += framing.excess
    return payload, framing.finished, excess


def chunked(*payloads: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in payloads) + b"0\r\n\r\n"


@given(st.data(), st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.binary(max_size=20))
def test_chunks_in_any_split(data: st.DataObject, payloads: list[bytes], rest: bytes) -> None:
    pieces = data.draw(split(chunked(*payloads) + rest))
    assert read(ChunkedFraming(), pieces) == (b"".join(payloads), True, rest)


@given(st.data(), st.binary(max_size=60))
def test_any_bytes_get_one_verdict(data: st.DataObject, body: bytes) -> None:
    """
    Whatever it is, how it was cut decides nothing.
    """

    def verdict(pieces: list[bytes]) -> object:
        try:
            return read(ChunkedFraming(), pieces)
        except FramingError:
            return "broken"

    alphabet = st.lists(
        st.sampled_from(
            [b"0", b"5", b"a", b";", b"x=y", b"\r\n", b"\n", b"\r", b" ", b"+", b"hello"]
        ),
        max_size=14,
    )
    likely = b"".join(data.draw(alphabet))
    for text in (body, likely):
        if text:
            assert verdict([text]) == verdict(data.draw(split(text)))


@pytest.mark.parametrize(
    "body",
    [
        b"+5\r\nhello\r\n",
        b"-1\r\n",
        b"0x5\r\nhello\r\n",
        b"5_0\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n",
        b"5\r\nhello\r\r\n",
        b"\r\n",
        b"g\r\n",
        b"5;\r\nhello\r\n",
        b'5;a="b\r\nhello\r\n',
        b"5;a b\r\nhello\r\n",
        b"1234567890abcdef1\r\n",
        b"5;" + b"a" * 300 + b"\r\nhello\r\n",
        b"5" + b"0" * 300,
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n: empty\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: " + b"b" * 9000 + b"\r\n\r\n",
        b"0\r\n" + b"A: b\r\n" * 2000 + b"\r\n",
    ],
)
def test_broken_chunks(body: bytes) -> None:
    with pytest.raises(FramingError):
        read(ChunkedFraming(), [body])


@pytest.mark.parametrize(
    "body", [b"5;a\r\nhello\r\n0\r\n\r\n", b'5;a=b;c="d e"\r\nhello\r\n0\r\nX: y\r\n\r\n']
)
def test_extensions_and_trailers_are_read_and_dropped(body: bytes) -> None:
    assert read(ChunkedFraming(), [body]) == (b"hello", True, b"")


def test_whole_plain_chunks_may_be_sent_on_as_they_are() -> None:
    framing = ChunkedFraming()
    assert framing.feed(b"5\r\nhello\r\n") == b"hello"
    assert framing.verbatim
    assert framing.feed(b"1\r\na\r\nb\r\nhello world\r\n") == b"ahello world"
    assert framing.verbatim
    assert framing.feed(b"6\r\n1\r\n2\r\n\r\n") == b"1\r\n2\r\n"
    assert framing.verbatim
    for other in (
        b"B\r\nhello world\r\n",
        b"05\r\nhello\r\n",
        b"5;a=b\r\nhello\r\n",
        b"1\r\na\r\n1;a=b\r\nb\r\n",
        b"1\r\na\r\n5\r\nhe",
        b"llo\r\n1\r\na\r\n",
        b"1\r\na\r\n1\r",
        b"\nb\r\n",
        b"1\r\na\r\n1\r\nb",
        b"\r\n",
        b"1\r\na\r\n0\r\n\r\n",
    ):
        framing.feed(other)
        assert not framing.verbatim
    assert framing.finished


@given(st.lists(st.text("ab1\r\n", min_size=1, max_size=30), min_size=1, max_size=5))
def test_whole_chunks_of_whatever_looks_like_framing(texts: list[str]) -> None:
    """
    Line ends and sizes in what is sent are not taken for the framing's own.
    """
    chunks = [text.encode() for text in texts]
    framing = ChunkedFraming()
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    assert framing.feed(data) == b"".join(chunks)
    assert framing.feed(b"0\r\n\r\n") == b""
    assert framing.finished


@given(st.data(), st.binary(max_size=50), st.binary(max_size=20))
def test_a_length_in_any_split(data: st.DataObject, body: bytes, rest: bytes) -> None:
    pieces = data.draw(split(body + rest))
    framing = LengthFraming(len(body))
    payload, finished, excess = read(framing, pieces)
    assert (payload, finished, excess) == (body, True, rest)
    framing.feed_eof()


def test_ends_that_come_too_early() -> None:
    length = LengthFraming(3)
    length.feed(b"ab")
    with pytest.raises(FramingError, match="1 bytes early"):
        length.feed_eof()
    chunks = ChunkedFraming()
    chunks.feed(b"2\r\nab\r\n")
    with pytest.raises(FramingError):
        chunks.feed_eof()


def test_until_the_connection_ends() -> None:
    framing = CloseFraming()
    assert framing.feed(b"abc") == b"abc"
    assert not framing.finished
    framing.feed_eof()
    assert framing.finished
