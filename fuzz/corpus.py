"""
The inputs that are kept: a few for everything that the targets do, and those
written by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from fuzz.seeds import seeds

HERE = Path(__file__).resolve().parent
TARGETS = ("channel", "relay", "keyfile", "settings", "sse", "head")


def corpus_of(target: str) -> Path:
    """
    The directory of a target's inputs.
    """
    return HERE / "corpus" / target


def inputs(target: str) -> dict[str, bytes]:
    """
    All inputs of a target by their names, always in the same order.
    """
    kept = {file.name: file.read_bytes() for file in sorted(corpus_of(target).iterdir())}
    by_hand = {f"seed {number}": octets for number, octets in enumerate(seeds(target))}
    return kept | by_hand


def check_of(target: str) -> Callable[[bytes], None]:
    """
    The promises of a target.
    """
    check: Callable[[bytes], None] = import_module(f"fuzz.{target}").check
    return check
