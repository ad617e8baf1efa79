"""
The inputs that are kept: a few for everything that the targets do.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGETS = ("channel", "relay", "keyfile", "settings", "sse", "head")


def corpus_of(target: str) -> Path:
    """
    The directory of a target's inputs.
    """
    return HERE / "corpus" / target


def inputs(target: str) -> list[Path]:
    """
    The kept inputs of a target, always in the same order.
    """
    return sorted(file for file in corpus_of(target).iterdir() if not file.name.startswith("."))


def check_of(target: str) -> Callable[[bytes], None]:
    """
    The promises of a target.
    """
    check: Callable[[bytes], None] = import_module(f"fuzz.{target}").check
    return check
