"""
Which path leads where; the one place where paths are named.
"""

from __future__ import annotations

from enum import Enum, auto

#: Paths that need no key.  They match as a whole, the query apart.
PUBLIC = frozenset({b"/ping", b"/health", b"/ready", b"/metrics"})
RELOAD = b"/reload"

#: llama-server's own paths for inference that are passed on.
_NATIVE = frozenset(
    {
        b"/apply-template",
        b"/chat/completions",
        b"/completion",
        b"/completions",
        b"/detokenize",
        b"/embedding",
        b"/embeddings",
        b"/infill",
        b"/rerank",
        b"/reranking",
        b"/responses",
        b"/tokenize",
    }
)
#: Passed on to be read, never to be changed.
_NATIVE_READ_ONLY = frozenset({b"/models", b"/props"})
_READS = frozenset({b"GET", b"HEAD"})


class Destination(Enum):
    """
    What serves a protected path.
    """

    ENGINE = auto()
    RELOAD = auto()
    NOTHING = auto()


def destination(method: bytes, path: bytes, extra_prefixes: tuple[bytes, ...]) -> Destination:
    """
    Find what serves a protected path.

    @param path: the plain path, as L{judge_target
        <twisted_llama.http.target.judge_target>} returns it.
    @param extra_prefixes: more that is passed on (C{PROXY_EXTRA_PATHS}).
    """
    if path.startswith(b"/v1/") or path in _NATIVE:
        return Destination.ENGINE
    if path in _NATIVE_READ_ONLY and method in _READS:
        return Destination.ENGINE
    if path == RELOAD:
        return Destination.RELOAD
    for prefix in extra_prefixes:
        if path == prefix or path.startswith(prefix if prefix.endswith(b"/") else prefix + b"/"):
            return Destination.ENGINE
    return Destination.NOTHING
