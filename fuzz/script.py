"""
Fuzzed bytes as a little program: what one end of a connection sends, and what
happens meanwhile.

A byte below 0x80 stands for itself, so that an input is nearly the bytes on the
wire and a dictionary of HTTP's words is of use.  The others, which HTTP hardly
needs, stand for whole pieces and for events: a mutation of one byte then puts in
a header line, cuts a read in two or lets time pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: The most that one program may send.
MAX_SENT_BYTES = 340_000

#: How often pieces may be repeated in all; whole requests are among them.
MAX_REPEATS = 16

CUT = 0


def read_script(
    program: bytes, pieces: Sequence[bytes], events: Sequence[str]
) -> list[bytes | str]:
    """
    Read a program.

    @param pieces: up to 64; bytes from 0x80 on stand for them.
    @param events: up to 32; bytes from 0xC0 on stand for them.  The first one,
        a cut, appears in the result only as the border of two byte strings.

    @return: what is sent in one go, as bytes, and events, as their names.
    """
    steps: list[bytes | str] = []
    under_way = bytearray()
    last = b"x"
    left = MAX_SENT_BYTES
    repeats = MAX_REPEATS
    position = 0
    while position < len(program):
        code = program[position]
        position += 1
        if code < 0x80:
            last = bytes((code,))
        elif code < 0xC0:
            last = pieces[(code - 0x80) % len(pieces)]
        elif code < 0xE0:
            if under_way:
                steps.append(bytes(under_way))
                under_way.clear()
            event = (code - 0xC0) % len(events)
            if event != CUT:
                steps.append(events[event])
            continue
        elif code < 0xF0:
            # What came last, many times: for limits, which are far away.
            times = min(1 << (code - 0xE0), left // len(last))
            if len(last) > 1:
                times = min(times, repeats)
                repeats -= times
            under_way += last * times
            left -= len(last) * times
            continue
        else:
            last = program[position : position + 1] or b"\xff"
            position += 1
        if len(last) <= left:
            under_way += last
            left -= len(last)
    if under_way:
        steps.append(bytes(under_way))
    return steps


def write_script(
    steps: Iterable[bytes | str | int], pieces: Sequence[bytes], events: Sequence[str]
) -> bytes:
    """
    Write a program: the other way round.

    @param steps: what is sent; events; and numbers C{n}: the last byte or piece 2**n times more.
    """
    longest_first = sorted((piece for piece in pieces if len(piece) > 3), key=len, reverse=True)
    program = bytearray()
    for step in steps:
        if isinstance(step, str):
            program.append(0xC0 + events.index(step))
        elif isinstance(step, int):
            program.append(0xE0 + step)
        else:
            at = 0
            while at < len(step):
                piece = next((each for each in longest_first if step.startswith(each, at)), None)
                if piece is not None:
                    program.append(0x80 + pieces.index(piece))
                    at += len(piece)
                else:
                    program += step[at : at + 1] if step[at] < 0x80 else b"\xff" + step[at : at + 1]
                    at += 1
    return bytes(program)
