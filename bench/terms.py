"""
What is agreed between clients and a gateway for one run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from product import Product, make_secret

#: How long the mock engine's answers are, at most.
TOKENS = 120


@dataclass(frozen=True)
class Terms:
    """
    What is agreed for one run.

    @ivar keys: secrets that always hold.
    @ivar limited: secrets of which each allows C{limit} requests a minute.
    @ivar faults: whether the engine may fail meanwhile.
    @ivar most_body_bytes: the gateway's limit.
    @ivar long_path: a path with long answers; C{long_body} asks for one.
    """

    keys: tuple[str, ...]
    limited: tuple[str, ...] = ()
    limit: int = 0
    faults: bool = False
    most_body_bytes: int = 10485760
    long_path: str = "/tokenize"
    long_body: bytes = b""
    most_tokens: int = 400


def large_question(mock: bool) -> tuple[str, bytes]:
    """
    A path and a body that make an answer of some megabytes.
    """
    if mock:
        return "/v1/embeddings", json.dumps({"input": ["a"] * 16000}).encode()
    content = "la " * 60000
    return "/tokenize", json.dumps({"content": content, "with_pieces": True}).encode()


def mock_product(directory: Path, more: Mapping[str, object] | None = None) -> Product:
    """
    A gateway with the mock engine, eight slots, 2 ms a token.
    """
    settings = {
        "ENGINE": "mock",
        "EXTRA_ARGS": f"-np 8 --delay-ms 2 --tokens {TOKENS}",
        "REQUEST_TIMEOUT": 2,
        "QUEUE_TIMEOUT": 20,
        "CLIENT_WRITE_TIMEOUT": 3,
        "MAX_RESTARTS": 20,
        **(more or {}),
    }
    return Product(directory, settings, {f"user-{at}": make_secret() for at in range(3)})
