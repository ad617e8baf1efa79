"""
What text must go through before it reaches a log: nothing a client sent may
end a line, move a terminal's cursor, pose as another field, or be a secret.

Pure: text in, text out.
"""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"

_SAFE_BYTES: Final = bytes(byte for byte in range(0x21, 0x7F) if byte not in b'|"\\')
_UNSAFE_BYTES: Final = re.compile(rb'[^!-~]|[|"\\]')
_CONTROL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_KEY: Final = re.compile(r"sk-[A-Za-z0-9_-]{20,}")
_BEARER: Final = re.compile(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=-]{8,}")
_API_KEY_HEADER: Final = re.compile(
    r"""(?i)(x-api-key\b["']?\s*[:=,]\s*\[?(?:b(?=["']))?["']?)[^\s"',\]]+"""
)
_REDIS_PASSWORD: Final = re.compile(r"(?i)(rediss?://)[^\s\"'<>]*@")
_URL_PASSWORD: Final = re.compile(r"(://[^/\s:@\"']*:)[^/\s@\"']+@")


def percent_escaped(raw: bytes) -> str:
    """
    Show bytes of a client as one word: printable ASCII, and the rest (with
    spaces, C{|}, C{"} and backslashes) as C{%XX}, so that it can stand in a line
    of fields and between the quotes of JSON as it is.

    @return: the word, C{"-"} if there were no bytes.
    """
    # The first, for bytes letters and digits of ASCII only, is enough for request ids; the
    # second, which leaves nothing where all are safe, costs a third of a search.
    if raw.replace(b"-", b"0").isalnum() or not raw.translate(None, _SAFE_BYTES):
        return raw.decode("ascii") or "-"
    return _UNSAFE_BYTES.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")


def controls_escaped(text: str) -> str:
    """
    Show every control character, line separator and bidirectional override as
    an escape sequence; other text stays as it is.
    """
    if text.isprintable() and text.isascii():
        return text
    escaped = _CONTROL.sub(_escape_control, text)
    # What UTF-8 cannot hold must not fail later, in the writer.
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")


def _escape_control(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def redacted(text: str) -> str:
    """
    Mask whatever looks like a secret: our keys, C{Bearer} tokens, values of
    C{X-Api-Key}, and passwords in URLs.
    """
    if "sk-" in text:
        text = _KEY.sub("sk-" + MASK, text)
    lowered = text.lower()
    if "bearer" in lowered:
        text = _BEARER.sub(r"\1 " + MASK, text)
    if "x-api-key" in lowered:
        text = _API_KEY_HEADER.sub(r"\1" + MASK, text)
    if "://" in text and "@" in text:
        text = _REDIS_PASSWORD.sub(r"\1" + MASK + "@", text)
        text = _URL_PASSWORD.sub(r"\1" + MASK + "@", text)
    return text
