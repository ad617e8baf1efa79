"""
The fixed list of endpoint labels.

Clients choose paths, and a metric's labels must not be theirs to choose: every
path is given one of the labels listed here.
"""

from __future__ import annotations

from typing import Final

_PUBLIC: Final = ("/health", "/metrics", "/ping", "/ready")
_OWN: Final = ("/reload",)
_OPENAI: Final = (
    "/v1/audio/transcriptions",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/v1/rerank",
    "/v1/reranking",
    "/v1/responses",
)
_NATIVE: Final = (
    "/apply-template",
    "/chat/completions",
    "/completion",
    "/completions",
    "/detokenize",
    "/embedding",
    "/embeddings",
    "/infill",
    "/models",
    "/props",
    "/rerank",
    "/reranking",
    "/responses",
    "/tokenize",
)

ONE_MODEL: Final = "/v1/models/*"
OTHER_V1: Final = "/v1/*"
OTHER: Final = "other"

ENDPOINTS: Final[tuple[str, ...]] = (
    *_PUBLIC,
    *_OWN,
    *_OPENAI,
    *_NATIVE,
    ONE_MODEL,
    OTHER_V1,
    OTHER,
)
"""
Every label there is.
"""

_LABELS: Final[dict[bytes, str]] = {
    label.encode("ascii"): label for label in (*_PUBLIC, *_OWN, *_OPENAI, *_NATIVE)
}


def endpoint_label(path: bytes) -> str:
    """
    Choose the label of a path.

    @param path: the path as judged, without its query.
    @return: one of L{ENDPOINTS}.
    """
    label = _LABELS.get(path)
    if label is not None:
        return label
    if path.startswith(b"/v1/"):
        if path.startswith(b"/v1/models/"):
            return ONE_MODEL
        return OTHER_V1
    return OTHER
