"""
The engine's output as bounded, clean lines.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.engine.output import LineSplitter, OutputTail


@given(st.lists(st.binary(max_size=30)), st.lists(st.integers(1, 9), min_size=1))
def test_cuts_do_not_matter(pieces: list[bytes], sizes: list[int]) -> None:
    """
    Lines are the same however the bytes arrive.
    """
    stream = b"\n".join(pieces)
    whole = LineSplitter(20)
    expected = whole.feed(stream) + whole.finish()
    parts = LineSplitter(20)
    lines: list[str] = []
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        lines += parts.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    lines += parts.finish()
    assert lines == expected


@given(st.lists(st.binary()))
def test_lines_are_bounded_and_printable(pieces: list[bytes]) -> None:
    """
    No control character and no endless line gets through.
    """
    splitter = LineSplitter(16)
    lines = [line for piece in pieces for line in splitter.feed(piece)] + splitter.finish()
    for line in lines:
        assert len(line) <= 16 * 4
        assert not any(ord(character) < 32 and character != "\t" for character in line)


def test_a_long_line_is_cut_once() -> None:
    """
    Its rest is dropped up to its end, and the next line is whole.
    """
    splitter = LineSplitter(4)
    assert splitter.feed(b"abcdefgh") == ["abcd"]
    assert splitter.feed(b"ijklmnop") == []
    assert splitter.feed(b"qr\nst\r\n\x1b[1m") == ["st"]
    assert splitter.finish() == ["\\x1b[1m"]
    assert splitter.finish() == []


def test_the_tail_forgets_the_oldest() -> None:
    """
    And everything when a new process begins.
    """
    tail = OutputTail(2)
    for line in ("a", "b", "c"):
        tail.add(line)
    assert tail.lines() == ["b", "c"]
    tail.clear()
    assert tail.lines() == []
