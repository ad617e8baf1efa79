"""
What an answer says of itself, however it was cut.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.splits import split
from twisted_llama.http.sse import TAIL_BYTES, UsageTap, _count

STREAM_END = (
    b'data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"model":"m.gguf",'
    b'"timings":{"cache_n":3,"prompt_n":9,"predicted_n":7,"predicted_ms":250.5}}\n\n'
    b"data: [DONE]\n\n"
)


def fed(pieces: list[bytes]) -> UsageTap:
    tap = UsageTap()
    for piece in pieces:
        tap.feed(piece)
    return tap


@given(st.data(), st.integers(0, 40))
def test_the_end_of_a_stream_in_any_split(data: st.DataObject, before: int) -> None:
    stream = b'data: {"delta":{"content":"x"}}\n\n' * before + STREAM_END
    tap = fed(data.draw(split(stream)))
    assert tap.read() == (12, 7, 0.2505)
    assert tap.read_model() == "m.gguf"
    assert tap.ends_event()


@given(st.data())
def test_usage_wins_over_timings(data: st.DataObject) -> None:
    body = json.dumps(
        {
            "choices": [],
            "model": "a",
            "usage": {"completion_tokens": 5, "prompt_tokens": 6, "total_tokens": 11},
            "timings": {"predicted_n": 1, "prompt_n": 2, "predicted_ms": 1000},
        }
    ).encode()
    tap = fed(data.draw(split(body)))
    assert tap.read() == (6, 5, 1.0)
    assert tap.read_model() == "a"


@given(st.data())
def test_usage_in_an_event_after_the_timings(data: st.DataObject) -> None:
    """
    As llama-server answers who asks for C{include_usage}.
    """
    usage = (
        b'data: {"choices":[],"model":"m.gguf","usage":{"completion_tokens":7,"prompt_tokens":12,'
        b'"total_tokens":19,"prompt_tokens_details":{"cached_tokens":3}}}\n\n'
    )
    stream = STREAM_END.replace(b"data: [DONE]", usage + b"data: [DONE]")
    assert fed(data.draw(split(stream))).read() == (12, 7, 0.2505)


@given(
    st.binary(max_size=30),
    st.lists(
        st.sampled_from(
            [
                *(b'"usage":', b'"completion_tokens":', b'"prompt_tokens":', b'"total_tokens":'),
                *(b"{", b"}", b",", b" ", b"-", b"12", b"3.5", b"1234567890123456"),
            ]
        ),
        max_size=12,
    ),
)
def test_the_usual_spelling_is_read_like_any_other(before: bytes, parts: list[bytes]) -> None:
    tail = before + b"".join(parts)
    prompt_tokens, generated_tokens, _ = fed([tail]).read()
    at = tail.rfind(b'"usage":')
    expected = (
        _count(tail, b'"prompt_tokens":', at) if at >= 0 else None,
        _count(tail, b'"completion_tokens":', at) if at >= 0 else None,
    )
    assert (prompt_tokens, generated_tokens) == expected


@given(st.text())
def test_what_the_model_wrote_is_not_counted(text: str) -> None:
    fake = text + '{"usage":{"completion_tokens":99,"prompt_tokens":98},"model":"fake"}'
    body = json.dumps({"content": fake, "usage": {"completion_tokens": 1, "prompt_tokens": 2}})
    tap = fed([body.encode()])
    assert tap.read() == (2, 1, None)
    assert tap.read_model() is None


@given(st.lists(st.binary(max_size=3000), max_size=20))
def test_it_never_fails_and_holds_little(pieces: list[bytes]) -> None:
    tap = fed(pieces)
    tap.read()
    tap.read_model()
    assert len(tap._even) + len(tap._odd) <= 2 * TAIL_BYTES


@given(st.data())
def test_the_model_is_found_without_counts(data: st.DataObject) -> None:
    stream = b'data: {"model":"m.gguf","choices":[{"delta":{"content":"x"}}]}\n\n' * 3
    stream += b"data: [DONE]\n\n"
    tap = fed(data.draw(split(stream)))
    assert tap.read() == (None, None, None)
    assert tap.read_model() == "m.gguf"


@pytest.mark.parametrize(
    ("member", "model"),
    [
        (b'"m.gguf"', "m.gguf"),
        (b' "\xc3\xa4 \\"\\u00e4\\""', 'ä "ä"'),
        (b'"\xff"', None),
        (b'"\\x"', None),
        (b'""', None),
        (b'"' + b"x" * 201 + b'"', None),
        (b'"m', None),
        (b"7", None),
    ],
)
def test_names_of_models(member: bytes, model: str | None) -> None:
    """
    As JSON writes them; what is none is left out.
    """
    assert fed([b'{"model":' + member + b"}"]).read_model() == model


@pytest.mark.parametrize(
    ("end", "whole"),
    [
        (b"", True),
        (b"data: x\n\n", True),
        (b"data: x\r\n\r\n", True),
        (b"data: x\r\r", True),
        (b"data: x\n", False),
        (b"data: x", False),
    ],
)
def test_whether_the_last_event_is_whole(end: bytes, whole: bool) -> None:
    assert fed([bytes((c,)) for c in end]).ends_event() is whole
