"""
Tests of escaping and of masking secrets.
"""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.telemetry.clean_text import controls_escaped, percent_escaped, redacted

KEY = "sk-" + "aB3_-" * 8 + "xyz"


@given(st.binary())
def test_percent_escaped_is_one_harmless_word(raw: bytes) -> None:
    """Whatever a client sends becomes printable ASCII without separators or quotes."""
    assert re.fullmatch(r"[!-~]+", percent_escaped(raw))
    assert not set(percent_escaped(raw)) & set('|"\\')


def test_percent_escaped_shows_the_bytes() -> None:
    """Ordinary paths stay, others are legible."""
    assert percent_escaped(b"/v1/models/a-b.gguf") == "/v1/models/a-b.gguf"
    assert percent_escaped(b"/a b|c\r\n\x1b\xe2\x80\xa8") == "/a%20b%7Cc%0D%0A%1B%E2%80%A8"
    assert percent_escaped(b"") == "-"


@given(st.text())
def test_controls_escaped_leaves_no_control_character(text: str) -> None:
    """No control, separator or surrogate is left, and there is one line."""
    shown = controls_escaped(text)
    assert len(f"{shown}.".splitlines()) == 1
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"}
    shown.encode("utf-8")


def test_controls_escaped_shows_what_they_were() -> None:
    """Escapes are those that programmers know."""
    assert controls_escaped("a\nb\x1b[2J\x9b\u2028é") == "a\\nb\\x1b[2J\\x9b\\u2028é"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"key {KEY} is bad", KEY),
        ("Authorization: Bearer abcdefghijkl.mnop", "abcdefghijkl"),
        ("{'authorization': b'bearer  0123456789abcdef'}", "0123456789abcdef"),
        ("X-Api-Key: 0123456789abcdef", "0123456789abcdef"),
        ("(b'x-api-key', b'0123456789abcdef')", "0123456789abcdef"),
        ("{'X-Api-Key': ['0123456789abcdef']}", "0123456789abcdef"),
        ("redis://user:hunter2@host:6379/0", "hunter2"),
        ("rediss://:hun/ter2@host", "ter2"),
        ("cannot reach http://me:hunter2@host/", "hunter2"),
    ],
)
def test_secrets_are_masked(text: str, secret: str) -> None:
    """Whatever looks like a secret is gone, and one sees that it is."""
    assert secret not in redacted(text)
    assert "***" in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "a task-list and sk-short",
        "the bearer of news",
        "http://host:80/path?x=a@b.c is fine: yes@no",
        "redis://host:6379/0",
        "mail me@example.org",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """Nothing is masked that is no secret."""
    assert redacted(text) == text
