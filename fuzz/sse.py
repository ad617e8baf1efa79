"""
What an answer says of itself: any bytes, in any pieces.

Promises: nothing is raised; pieces make no difference, as long as no event is
forgotten; what is remembered is bounded; and the figures are numbers, the model
a name of some length.
"""

from __future__ import annotations

from fuzz.script import read_script
from twisted_llama.http.sse import TAIL_BYTES, Usage, UsageTap

PIECES = [
    b"data: ",
    b"\n\n",
    b"data: [DONE]\n\n",
    b'{"usage":{',
    b'"usage"',
    b'"timings"',
    b'"prompt_tokens":12',
    b'"completion_tokens": 34',
    b'"prompt_n":5',
    b'"cache_n":6',
    b'"predicted_n":7',
    b'"predicted_ms":89.5',
    b'"model":"a-model.gguf"',
    b'"model":"\xc3\xa4 \\u00e4 \\ud800 \\x\xff"',
    b'\\"model\\":\\"not this\\"',
    b'"model": ',
    b'"prompt_tokens":',
    b"999999999999999",
    b"9999999999999999",
    b'"',
    b"\\",
    b"}",
    b",",
    b"\r\n\r\n",
    b"x" * 64,
    b"y" * TAIL_BYTES,
    b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
]
EVENTS = ["cut"]


def check(octets: bytes) -> None:
    """
    See the module.
    """
    pieces = [step for step in read_script(octets, PIECES, EVENTS) if isinstance(step, bytes)]
    whole = b"".join(pieces)
    usage, ended = tapped([whole] if whole else [])
    others = [tapped(pieces)]
    if len(whole) < 300:
        others.append(tapped([whole[at : at + 1] for at in range(len(whole))]))
    for other in others:
        assert other[1] == ended, f"{pieces!r}: {other}, not {usage, ended}"
        # Two events are remembered, so none is forgotten before the third.
        assert other[0] == usage or whole.count(b"\n\n") > 1, f"{pieces!r}: {other}, not {usage}"
    *tokens, seconds = usage[0]
    for number in tokens:
        assert number is None or (type(number) is int and 0 <= number < 10**16), usage
    assert seconds is None or 0 <= seconds < 10**13, usage
    model = usage[1]
    assert model is None or (type(model) is str and 0 < len(model) <= 200), usage
    assert not ended or not whole or whole.endswith((b"\n\n", b"\r\r", b"\r\n\r\n")), whole[-8:]


def tapped(pieces: list[bytes]) -> tuple[tuple[Usage, str | None], bool]:
    """
    Pass pieces through a tap.

    @return: what it has read, the figures and the model, and whether the last event
        is whole.
    """
    tap = UsageTap()
    for piece in pieces:
        tap.feed(piece)
        held = len(tap._even) + len(tap._odd)
        assert held <= 2 * TAIL_BYTES, f"{held} bytes are held"
    return (tap.read(), tap.read_model()), tap.ends_event()
