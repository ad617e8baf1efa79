"""
The target of a request, judged once.

Guard, routing and engine must never read a path in different ways.  So a path
is brought to its one plain spelling here, everything that follows (whether a
key is needed, what serves it, what the engine is asked for) uses those very
bytes, and a path that has more than one reading is refused.
"""

from __future__ import annotations

import re

from twisted_llama.errors import MalformedRequest

_SEGMENT = rb"(?:[A-Za-z0-9_~!$&'()*+,=:@-]|\.(?!\.?(?:/|$)))+"
_PLAIN = re.compile(rb"(?:/" + _SEGMENT + rb")+/?|/")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
#: Characters that mean one thing escaped and another unescaped, or that some
#: servers decode twice, cut a path at, or take for a slash.
_AMBIGUOUS = frozenset(b'/\\%;?#"<>|^`{}') | frozenset(range(0x20)) | {0x7F}


def judge_target(target: bytes) -> tuple[bytes, bytes]:
    """
    Bring the target of a request to its plain form.

    @param target: in origin form, as in the request line.

    @return: the path, and the query with its question mark (or nothing).  Both
        together are what to send on.

    @raise MalformedRequest: if the path is ambiguous: empty or dot segments,
        backslashes, semicolons, control characters, escapes that are broken or
        hide one of C{/ \\ % ; ? #}.
    """
    path, mark, query = target.partition(b"?")
    if not _PLAIN.fullmatch(path):
        path = _unescape(path)
    if b"#" in query:
        raise MalformedRequest("The request target has a fragment.")
    return path, mark + query


def _unescape(path: bytes) -> bytes:
    """
    Decode the escapes that need not be there and check all others.
    """

    def plain(match: re.Match[bytes]) -> bytes:
        code = int(match[1], 16)
        if code in _UNRESERVED:
            return bytes((code,))
        if code in _AMBIGUOUS:
            raise MalformedRequest("The path is ambiguous: it hides a special character.")
        return b"%%%02X" % code

    if path.count(b"%") != len(_ESCAPE.findall(path)):
        raise MalformedRequest("The path is ambiguous: it has a broken escape.")
    decoded = _ESCAPE.sub(plain, path)
    if not _PLAIN.fullmatch(_ESCAPE.sub(b"x", decoded)):
        raise MalformedRequest(
            "The path is ambiguous: it has an empty or dot segment, or a special character."
        )
    return decoded
